package integration

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
	standin "github.com/tcr-assistant/tcr-assistant/test/harness/tencentcloud"
)

// manyNamespaces creates many.
func (w *world) manyNamespaces(total int) {
	w.T.Helper()
	names := make(chan string)
	var creators sync.WaitGroup
	for range 8 {
		creators.Go(func() {
			for name := range names {
				_, err := w.Client.CoreV1().Namespaces().Create(w.Ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}},
					metav1.CreateOptions{})
				assert.NoError(w.T, err)
			}
		})
	}
	for i := range total {
		names <- fmt.Sprintf("many-%04d", i)
	}
	close(names)
	creators.Wait()
}

// served returns how long the API server takes for a small request of somebody else, at its 99th percentile, until ctx ends.
func (w *world) served(ctx context.Context) time.Duration {
	var took []time.Duration
	for ctx.Err() == nil {
		began := time.Now()
		_, err := w.Client.CoreV1().Namespaces().Get(w.Ctx, "default", metav1.GetOptions{})
		assert.NoError(w.T, err)
		took = append(took, time.Since(began))
		time.Sleep(20 * time.Millisecond)
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// TestARenewalIsOneWriteInEachNamespace has a token renewed that stands in many namespaces.
func TestARenewalIsOneWriteInEachNamespace(t *testing.T) {
	t.Parallel()
	const total, lifetime = 300, 60 * time.Second
	w := newWorld(t)
	cloud := w.StartCloud(func(registry *standin.Registry) { registry.Lifetime = lifetime })
	w.manyNamespaces(total)
	w.run(cloud.Args...)
	w.Create("renewed", suite.OfRegistry())
	complete := func(status v1.ImagePullSecretStatus) error {
		if status.SecretsSuccess < total || status.SecretsSuccess < status.SecretsDesired {
			return fmt.Errorf("%d of %d hold it", status.SecretsSuccess, status.SecretsDesired)
		}
		return nil
	}
	first := w.Status("renewed", complete)
	renewed := func() error {
		if created := cloud.Count("CreateInstanceToken"); created < 2 {
			return fmt.Errorf("%d tokens were created", created)
		}
		return nil
	}
	w.Within(lifetime+w.Hang, "it is renewed", renewed)
	created := cloud.Tokens(suite.RegistryID)[1].Created
	ctx, stop := context.WithCancel(w.Ctx)
	others := make(chan time.Duration)
	go func() { others <- w.served(ctx) }()
	w.Status("renewed", func(status v1.ImagePullSecretStatus) error {
		if !status.Credential.ExpiresAt.After(first.Credential.ExpiresAt.Time) {
			return fmt.Errorf("it is the one before")
		}
		return complete(status)
	})
	stop()

	writes, err := w.Requests(func(r cluster.Request) bool {
		return r.User == manager.User && r.Received.After(created) && r.Resource == "secrets" && strings.HasPrefix(r.Name, "tcr.ips") &&
			r.Verb != "watch" && r.Verb != "list"
	})
	require.NoError(t, err)
	each, last := map[string]int{}, created
	for _, write := range writes {
		last = latestOf(last, write.Answered)
		if write.Code == http.StatusGatewayTimeout { // of an API server that gets no answer itself, for half a minute
			continue
		}
		each[write.Namespace]++
		assert.Equal(t, http.StatusOK, write.Code, "%s %s", write.Verb, write.URI)
	}
	assert.GreaterOrEqual(t, len(each), total)
	for namespace, count := range each {
		assert.Equal(t, 1, count, namespace)
	}
	assert.LessOrEqual(t, atOnce(writes), 8, "that is the pace: --concurrency")
	t.Logf("%d Secrets were written within %s of the token's creation, %d at once at most; meanwhile others were served within %s",
		len(writes), last.Sub(created).Round(time.Millisecond), atOnce(writes), (<-others).Round(100*time.Microsecond))
}

func latestOf(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// atOnce returns how many requests the API server had to answer at the same time, at most.
func atOnce(requests []cluster.Request) (most int) {
	for _, one := range requests {
		beside := 0
		for _, other := range requests {
			if !other.Received.After(one.Received) && other.Answered.After(one.Received) {
				beside++
			}
		}
		most = max(most, beside)
	}
	return most
}
