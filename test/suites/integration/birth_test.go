package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

func TestBornWithIt(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.Create("born")
	w.Holds("default", "born")
	w.attaches("born")
	p99 := w.areBornWithIt(t, nil)
	assert.LessOrEqual(t, p99, 100*time.Millisecond, "each secret is there within 100 ms at the 99th percentile")
}

// areBornWithIt creates 300 namespaces with labels at 30 a second and watches, as a kubelet's pod would meet them, what each of their
// service accounts and Secrets is when it is first seen.
func (w *world) areBornWithIt(t *testing.T, labels map[string]string) (p99 time.Duration) {
	t.Helper()
	const total, every = 300, time.Second / 30
	ctx, cancel := context.WithCancel(w.Ctx)
	defer cancel()
	accounts, err := w.Client.CoreV1().ServiceAccounts("").Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=default"})
	require.NoError(t, err)
	secrets, err := w.Client.CoreV1().Secrets("").Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=tcr.ipsborn"})
	require.NoError(t, err)

	var mu sync.Mutex
	born := map[string]time.Time{}   // namespace: when its creation was answered
	issued := map[string]time.Time{} // namespace: when its Secret was first seen
	without := []string{}            // namespaces whose account was ever seen without the entry
	seen := map[string]bool{}        // namespaces whose account was seen
	var watchers sync.WaitGroup
	watchers.Go(func() {
		for event := range accounts.ResultChan() {
			account, isAccount := event.Object.(*corev1.ServiceAccount)
			if !isAccount || event.Type == watch.Deleted || !strings.HasPrefix(account.Namespace, "born-") {
				continue
			}
			mu.Lock()
			seen[account.Namespace] = true
			if !slices.Contains(suite.Entries(account), "tcr.ipsborn") {
				without = append(without, account.Namespace)
			}
			mu.Unlock()
		}
	})
	watchers.Go(func() {
		for event := range secrets.ResultChan() {
			if secret, isSecret := event.Object.(*corev1.Secret); isSecret && event.Type == watch.Added {
				mu.Lock()
				if _, again := issued[secret.Namespace]; !again {
					issued[secret.Namespace] = time.Now()
				}
				mu.Unlock()
			}
		}
	})

	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := range total {
		<-tick.C
		name := fmt.Sprintf("born-%03d", i)
		_, err := w.Client.CoreV1().Namespaces().Create(w.Ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}},
			metav1.CreateOptions{})
		require.NoError(t, err)
		mu.Lock()
		born[name] = time.Now()
		mu.Unlock()
	}
	w.Eventually("every account and secret was seen", func() error {
		mu.Lock()
		defer mu.Unlock()
		for name := range born {
			if _, has := issued[name]; !has || !seen[name] {
				return fmt.Errorf("%s: account seen %t, secret seen %t", name, seen[name], has)
			}
		}
		return nil
	})
	cancel()
	watchers.Wait()

	var delays []time.Duration
	for name, at := range born {
		delays = append(delays, issued[name].Sub(at))
	}
	slices.Sort(delays)
	median := delays[len(delays)/2]
	p99 = delays[len(delays)*99/100]
	t.Logf("secret after namespace: p50 %s, p99 %s, worst %s", median, p99, delays[len(delays)-1])
	assert.Empty(t, without, "not one default service account is ever seen without the entry")
	return p99
}
