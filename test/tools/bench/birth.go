package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
)

// birthRate is how many namespaces are created a second.
const birthRate = 20

// lastNews is how long after the last change events may still tell of it: they are held back to stand for many writes.
const lastNews = 35 * time.Second

// What others and a plain implementation of the same design reach on a machine of two cores, in milliseconds.
const (
	birthGoalP50 = 4
	birthGoalP99 = 8
)

// birth measures what a namespace is like when it is first seen, and counts what it costs: once with a loop that does
// nothing but answer each new namespace with a POST, and once with the manager.
func birth(ctx context.Context, r *report, binary string, n int, idle time.Duration) (err error) {
	w, err := newWorld(ctx, binary)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Stop()) }()
	r.Kubernetes = w.Version()

	bare, err := w.bareBirths(ctx, n)
	if err != nil {
		return err
	}
	if err := w.create(ctx); err != nil {
		return err
	}
	m, err := w.start(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(m.Ready(ctx), w.complete(ctx, 1)); err != nil {
		return err
	}
	time.Sleep(3 * time.Second) // the last write of the status

	began := time.Now()
	born, err := w.births(ctx, "born", n, pullsecret.SecretName("bench"))
	if err != nil {
		return err
	}
	if err := w.complete(ctx, n); err != nil {
		return err
	}
	calls, err := w.requests(began)
	if err != nil {
		return err
	}
	born.figures(r, "birth", n)
	r.add("birth", "p50 over a bare answer's", n, ratio, born.secret(50)/bare.secret(50))
	r.add("birth", "p50 of a bare answer", n, milliseconds, bare.secret(50))
	r.add("birth", "p99 of a bare answer", n, milliseconds, bare.secret(99))
	r.add("birth", "accounts seen without the entry", n, count, float64(born.without)).atMost(0)
	r.add("calls", "per new namespace", n, count, float64(len(slices.DeleteFunc(slices.Clone(calls), upkeep)))/float64(n)).atMost(1)

	time.Sleep(lastNews)
	began = time.Now()
	time.Sleep(idle)
	if calls, err = w.requests(began); err != nil {
		return err
	}
	leases := slices.DeleteFunc(slices.Clone(calls), func(request cluster.Request) bool { return request.Resource != "leases" })
	r.add("calls", "while idle, but for the Lease", n, count, float64(len(calls)-len(leases))).atMost(0)
	r.add("calls", "for the Lease", n, perMinute, float64(len(leases))/idle.Minutes())
	return w.stop(ctx, m)
}

// upkeep reports whether a call is made at a steady pace, however much there is to do: the Lease, the status, which is
// written once a second at most, and events, each of which stands for many writes.
func upkeep(request cluster.Request) bool {
	return request.Resource == "leases" || request.Subresource == "status" || request.Resource == "events"
}

// births is what was seen of namespaces that were created.
type births struct {
	secrets, accounts []float64 // milliseconds from the answer to the creation until each was seen, sorted
	without           int       // ServiceAccounts that were ever seen without the entry
	// floor is the same of the ConfigMap that the control plane itself puts into each namespace. What slows down API server and
	// watches alike slows it down too.
	floor []float64
}

func (b births) secret(percent int) float64 { return percentile(b.secrets, percent) }

func (b births) secretOverFloor() float64 { return b.secret(50) / percentile(b.floor, 50) }

func (b births) accountOverFloor() float64 {
	return percentile(b.accounts, 50) / percentile(b.floor, 50)
}

func (b births) figures(r *report, benchmark string, n int) {
	r.add(benchmark, "p50 until the Secret is seen", n, milliseconds, b.secret(50)).atMost(birthGoalP50)
	r.add(benchmark, "p99 until the Secret is seen", n, milliseconds, b.secret(99)).atMost(birthGoalP99)
	r.add(benchmark, "p50 until the account is seen", n, milliseconds, percentile(b.accounts, 50))
	r.add(benchmark, "p99 until the account is seen", n, milliseconds, percentile(b.accounts, 99))
}

// percentile of sorted values.
func percentile(sorted []float64, percent int) float64 {
	return sorted[min(len(sorted)*percent/100, len(sorted)-1)]
}

// births creates n namespaces and watches for a Secret, its entry in their default ServiceAccounts, and the floor.
func (w *world) births(ctx context.Context, prefix string, n int, secret string) (births, error) {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	accounts, err := w.client.CoreV1().ServiceAccounts("").Watch(watching, metav1.ListOptions{FieldSelector: "metadata.name=default"})
	if err != nil {
		return births{}, err
	}
	secrets, err := w.client.CoreV1().Secrets("").Watch(watching, metav1.ListOptions{FieldSelector: "metadata.name=" + secret})
	if err != nil {
		return births{}, err
	}
	authorities, err := w.client.CoreV1().ConfigMaps("").Watch(watching, metav1.ListOptions{FieldSelector: "metadata.name=kube-root-ca.crt"})
	if err != nil {
		return births{}, err
	}
	var mu sync.Mutex
	issued, seen, trusted := map[string]time.Time{}, map[string]time.Time{}, map[string]time.Time{}
	without := map[string]bool{}
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer cancel()
	watchers.Go(func() {
		for event := range accounts.ResultChan() {
			if account, isAccount := event.Object.(*corev1.ServiceAccount); isAccount && strings.HasPrefix(account.Namespace, prefix+"-") {
				mu.Lock()
				if !slices.Contains(account.ImagePullSecrets, corev1.LocalObjectReference{Name: secret}) {
					without[account.Namespace] = true
				}
				if seen[account.Namespace].IsZero() {
					seen[account.Namespace] = time.Now()
				}
				mu.Unlock()
			}
		}
	})
	added := func(events watch.Interface, at map[string]time.Time) {
		for event := range events.ResultChan() {
			if object, isObject := event.Object.(metav1.Object); isObject && event.Type == watch.Added {
				mu.Lock()
				at[object.GetNamespace()] = time.Now()
				mu.Unlock()
			}
		}
	}
	watchers.Go(func() { added(secrets, issued) })
	watchers.Go(func() { added(authorities, trusted) })

	born := map[string]time.Time{}
	tick := time.NewTicker(time.Second / birthRate)
	defer tick.Stop()
	for _, name := range numbered(prefix, 0, n) {
		<-tick.C
		object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := w.client.CoreV1().Namespaces().Create(ctx, object, metav1.CreateOptions{}); err != nil {
			return births{}, err
		}
		born[name] = time.Now()
	}
	err = eventually(ctx, func() error {
		mu.Lock()
		defer mu.Unlock()
		for name := range born {
			if issued[name].IsZero() || seen[name].IsZero() || trusted[name].IsZero() {
				return fmt.Errorf("namespace %s was not seen with its secret, account and configmap", name)
			}
		}
		return nil
	})
	if err != nil {
		return births{}, err
	}
	mu.Lock()
	defer mu.Unlock()
	result := births{without: len(without)}
	for name, at := range born {
		result.secrets = append(result.secrets, issued[name].Sub(at).Seconds()*1000)
		result.accounts = append(result.accounts, seen[name].Sub(at).Seconds()*1000)
		result.floor = append(result.floor, trusted[name].Sub(at).Seconds()*1000)
	}
	slices.Sort(result.floor)
	slices.Sort(result.secrets)
	slices.Sort(result.accounts)
	return result, nil
}

// bareBirths is births where all there is is a watch of namespaces and a POST of a ready-made Secret for each.
func (w *world) bareBirths(ctx context.Context, n int) (births, error) {
	const name = "floor-birth"
	body, err := protobuf(w.floorSecret(name, 0))
	if err != nil {
		return births{}, err
	}
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	namespaces, err := w.client.CoreV1().Namespaces().Watch(watching, metav1.ListOptions{})
	if err != nil {
		return births{}, err
	}
	var mu sync.Mutex
	var errs []error
	var posting sync.WaitGroup
	posting.Go(func() {
		for event := range namespaces.ResultChan() {
			namespace, isNamespace := event.Object.(*corev1.Namespace)
			if !isNamespace || event.Type != watch.Added || !strings.HasPrefix(namespace.Name, "bare-") {
				continue
			}
			posting.Go(func() {
				if err := w.barePost(ctx, namespace.Name, body); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			})
		}
	})
	result, err := w.births(ctx, "bare", n, name)
	cancel()
	posting.Wait()
	return result, errors.Join(append(errs, err)...)
}
