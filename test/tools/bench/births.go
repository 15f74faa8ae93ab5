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
)

// births is what was seen of namespaces that were created.
type births struct {
	secrets, accounts []float64 // milliseconds from the answer to the creation until each was seen, sorted
	without           int       // ServiceAccounts that were ever seen without the entry
	// floor is the same of the ConfigMap that the control plane itself puts into each namespace. What slows down API server and
	// watches alike slows it down too.
	floor []float64
	apart float64 // milliseconds from one creation to the next
}

func (b births) secret(percent int) float64 { return percentile(b.secrets, percent) }

func (b births) secretOverFloor() float64 { return b.secret(50) / percentile(b.floor, 50) }

func (b births) accountOverFloor() float64 {
	return percentile(b.accounts, 50) / percentile(b.floor, 50)
}

// figures adds what was seen, over the same of a bare loop in the same run.
func (b births) figures(r *report, p birthProgram, bare, held births) {
	add := func(figure string, unit unit, value float64) *figure {
		return r.add(p.name, figure, p.births, unit, value)
	}
	add("p50 over a bare answer's", ratio, b.secret(50)/bare.secret(50)).atMost(birthGoalP50)
	add("p99 over a bare answer's", ratio, b.secret(99)/bare.secret(99)).atMost(birthGoalP99)
	add("p50 over a bare answer's that the policies hold, too", ratio, b.secret(50)/held.secret(50))
	add("p99 over a bare answer's that the policies hold, too", ratio, b.secret(99)/held.secret(99))
	add("p50 until the Secret is seen", milliseconds, b.secret(50))
	add("p99 until the Secret is seen", milliseconds, b.secret(99))
	add("p50 until the account is seen", milliseconds, percentile(b.accounts, 50))
	add("p99 until the account is seen", milliseconds, percentile(b.accounts, 99))
	add("p50 of a bare answer", milliseconds, bare.secret(50))
	add("p99 of a bare answer", milliseconds, bare.secret(99))
	add("time between births", milliseconds, b.apart)
	add("time between births of the bare loop", milliseconds, bare.apart)
	add("accounts seen without the entry", count, float64(b.without)).atMost(0)
}

// and returns what was seen of either.
func (b births) and(other births) births {
	sorted := func(a, b []float64) []float64 { return slices.Sorted(slices.Values(slices.Concat(a, b))) }
	return births{
		secrets: sorted(b.secrets, other.secrets), accounts: sorted(b.accounts, other.accounts), floor: sorted(b.floor, other.floor),
		apart: (b.apart + other.apart) / 2, without: b.without + other.without,
	}
}

// percentile of sorted values.
func percentile(sorted []float64, percent int) float64 {
	return sorted[min(len(sorted)*percent/100, len(sorted)-1)]
}

// sightings is when watches have shown what belongs into new namespaces, by their names.
type sightings struct {
	prefix string // of the namespaces' names
	secret string // the Secret's name

	mu                    sync.Mutex
	issued, seen, trusted map[string]time.Time
	without               map[string]bool
}

// watch notes what is seen until ctx ends. The answer waits for the end of that.
func (s *sightings) watch(ctx context.Context, w *world) (wait func(), err error) {
	named := func(name string) metav1.ListOptions {
		return metav1.ListOptions{FieldSelector: "metadata.name=" + name}
	}
	accounts, err := w.client.CoreV1().ServiceAccounts("").Watch(ctx, named("default"))
	if err != nil {
		return nil, err
	}
	secrets, err := w.client.CoreV1().Secrets("").Watch(ctx, named(s.secret))
	if err != nil {
		return nil, err
	}
	authorities, err := w.client.CoreV1().ConfigMaps("").Watch(ctx, named("kube-root-ca.crt"))
	if err != nil {
		return nil, err
	}
	var watchers sync.WaitGroup
	watchers.Go(func() {
		for event := range accounts.ResultChan() {
			s.account(event)
		}
	})
	added := func(events watch.Interface, at map[string]time.Time) {
		for event := range events.ResultChan() {
			if object, isObject := event.Object.(metav1.Object); isObject && event.Type == watch.Added {
				s.mu.Lock()
				at[object.GetNamespace()] = time.Now()
				s.mu.Unlock()
			}
		}
	}
	watchers.Go(func() { added(secrets, s.issued) })
	watchers.Go(func() { added(authorities, s.trusted) })
	return watchers.Wait, nil
}

func (s *sightings) account(event watch.Event) {
	account, isAccount := event.Object.(*corev1.ServiceAccount)
	if !isAccount || !strings.HasPrefix(account.Namespace, s.prefix+"-") {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(account.ImagePullSecrets, corev1.LocalObjectReference{Name: s.secret}) {
		s.without[account.Namespace] = true
	}
	if s.seen[account.Namespace].IsZero() {
		s.seen[account.Namespace] = time.Now()
	}
}

// all returns an error unless all that belongs into these namespaces was seen.
func (s *sightings) all(born map[string]time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range born {
		if s.issued[name].IsZero() || s.seen[name].IsZero() || s.trusted[name].IsZero() {
			return fmt.Errorf("namespace %s was not seen with its secret, account and configmap", name)
		}
	}
	return nil
}

// births creates n namespaces, so many a second, and watches for a Secret, its entry in their default ServiceAccounts, and the floor.
func (w *world) births(ctx context.Context, prefix string, n, rate int, secret string) (births, error) {
	watching, cancel := context.WithCancel(ctx)
	s := &sightings{prefix: prefix, secret: secret, without: map[string]bool{},
		issued: map[string]time.Time{}, seen: map[string]time.Time{}, trusted: map[string]time.Time{}}
	wait, err := s.watch(watching, w)
	if err != nil {
		cancel()
		return births{}, err
	}
	defer wait()
	defer cancel()
	began := time.Now()
	born, err := w.bear(ctx, numbered(prefix, 0, n), rate)
	if err != nil {
		return births{}, err
	}
	apart := time.Since(began).Seconds() * 1000 / float64(n)
	if err := eventually(ctx, func() error { return s.all(born) }); err != nil {
		return births{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	result := births{without: len(s.without), apart: apart}
	for name, at := range born {
		result.secrets = append(result.secrets, s.issued[name].Sub(at).Seconds()*1000)
		result.accounts = append(result.accounts, s.seen[name].Sub(at).Seconds()*1000)
		result.floor = append(result.floor, s.trusted[name].Sub(at).Seconds()*1000)
	}
	slices.Sort(result.floor)
	slices.Sort(result.secrets)
	slices.Sort(result.accounts)
	return result, nil
}

// bear creates namespaces at that many a second, or as many as the control plane takes from so many workers, and returns when each was
// answered.
func (w *world) bear(ctx context.Context, names []string, rate int) (map[string]time.Time, error) {
	var mu sync.Mutex
	born := map[string]time.Time{}
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	err := in(names, func(name string) error {
		<-tick.C
		object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := w.client.CoreV1().Namespaces().Create(ctx, object, metav1.CreateOptions{}); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		born[name] = time.Now()
		return nil
	})
	return born, err
}

// bareBirths is births where all there is is a watch of namespaces and a POST of a ready-made Secret for each.
func (w *world) bareBirths(ctx context.Context, prefix string, n, rate int) (births, error) {
	name := w.prefix + "floor-birth"
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
			if !isNamespace || event.Type != watch.Added || !strings.HasPrefix(namespace.Name, prefix+"-") {
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
	result, err := w.births(ctx, prefix, n, rate, name)
	cancel()
	posting.Wait()
	return result, errors.Join(append(errs, err)...)
}
