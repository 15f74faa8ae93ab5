package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// accountRate is how many ServiceAccounts are created a second, whether those before are answered or not.
const accountRate = 10

// attachPolicy is the name of the policy by which the API server attaches Secrets itself, and of its binding.
const attachPolicy = "tcr-assistant-attach-image-pull-secrets"

// creations is what was seen of ServiceAccounts that were created.
type creations struct {
	took               []float64 // milliseconds, sorted
	without            int       // born without an entry that they should have
	evaluations, calls float64   // of the policy and of the webhook, for each
	processor          float64   // milliseconds of all processes, for each
}

func (c creations) p50() float64 { return percentile(c.took, 50) }

// creations creates ServiceAccounts while so many objects exist, one after the other in all namespaces.
func (w *objectsWorld) creations(ctx context.Context, objects int) (creations, error) {
	w.probes++
	entries := map[string]int{}
	for i := 1; i < objects; i++ {
		for _, name := range w.own(i) {
			entries[name]++
		}
	}
	evaluations, calls, err := w.reviews(ctx)
	if err != nil {
		return creations{}, err
	}
	var mu sync.Mutex
	var seen creations
	var errs []error
	create := func(i int) {
		namespace := w.names[(w.probes+3*i)%len(w.names)]
		began := time.Now()
		account, err := w.client.CoreV1().ServiceAccounts(namespace).Create(ctx,
			&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("probe-%d-%d", w.probes, i)}}, metav1.CreateOptions{})
		took := time.Since(began).Seconds() * 1000
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			errs = append(errs, err)
			return
		}
		seen.took = append(seen.took, took)
		if objects > 0 && attached(account) < entries[namespace]+1 {
			seen.without++
		}
	}
	spent, err := costOf(func() error {
		var running sync.WaitGroup
		tick := time.NewTicker(time.Second / accountRate)
		defer tick.Stop()
		for i := range w.program.accounts {
			<-tick.C
			running.Go(func() { create(i) })
		}
		running.Wait()
		return nil
	})
	if err != nil {
		return creations{}, err
	}
	slices.Sort(seen.took)
	evaluated, called, err := w.reviews(ctx)
	each := float64(w.program.accounts)
	seen.processor = spent.processor.Seconds() * 1000 / each
	seen.evaluations, seen.calls = (evaluated-evaluations)/each, (called-calls)/each
	return seen, errors.Join(append(errs, err)...)
}

// attached returns how many entries of ours a ServiceAccount has.
func attached(account *corev1.ServiceAccount) int {
	total := 0
	for _, entry := range account.ImagePullSecrets {
		if strings.HasPrefix(entry.Name, pullsecret.SecretPrefix) {
			total++
		}
	}
	return total
}

// reviews returns how often the policy was evaluated and the webhook was called for a ServiceAccount.
func (w *objectsWorld) reviews(ctx context.Context) (evaluations, calls float64, err error) {
	return w.reviewed(ctx, attachPolicy, w.manager, "mutating")
}

// reviewed returns how often a policy was evaluated and a webhook of a manager, where there is one, was called.
func (w *world) reviewed(ctx context.Context, policy string, m *manager.Manager, webhook string) (evaluations, calls float64, err error) {
	text, err := w.client.CoreV1().RESTClient().Get().AbsPath("/metrics").SetHeader("Accept", "text/plain").Do(ctx).Raw()
	if err != nil {
		return 0, 0, fmt.Errorf("reading the API server's metrics: %w", err)
	}
	if evaluations, err = sum(text, "apiserver_mutating_admission_policy_check_total", "policy", policy); err != nil || m == nil {
		return evaluations, 0, err
	}
	own, err := m.Get(ctx, "/metrics")
	if err != nil {
		return 0, 0, fmt.Errorf("reading the manager's metrics: %w", err)
	}
	calls, err = sum([]byte(own), "tcr_assistant_admission_requests_total", "webhook", webhook)
	return evaluations, calls, err
}

// sum adds up a counter's series with that label; 0 where there is none.
func sum(text []byte, counter, label, value string) (total float64, err error) {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return 0, err
	}
	for _, metric := range families[counter].GetMetric() {
		if slices.ContainsFunc(metric.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == label && l.GetValue() == value }) {
			total += metric.GetCounter().GetValue()
		}
	}
	return total, nil
}

// sight is what those who create ServiceAccounts and namespaces see of it.
type sight struct {
	both creations
	born births
}

// look creates ServiceAccounts and namespaces while so many objects exist, with policy and webhook.
func (w *objectsWorld) look(ctx context.Context, objects int) (s sight, err error) {
	if s.both, err = w.creations(ctx, objects); err != nil {
		return s, err
	}
	s.born, err = w.births(ctx, fmt.Sprintf("born-%d", objects), w.program.births, quietRate, pullsecret.SecretName(objectName(0)))
	return s, err
}

// figures reports what was seen.
func (w *objectsWorld) figures(objects int, s sight, bare creations) {
	w.account(objects, "account", s.both, bare)
	w.report.add("objects", "account: p50 of a bare one", objects, milliseconds, bare.p50())
	w.report.add("objects", "new namespace: p50 until the Secret is seen", objects, milliseconds, s.born.secret(50))
	w.report.add("objects", "new namespace: p50 until the account is seen", objects, milliseconds, percentile(s.born.accounts, 50))
	w.report.add("objects", "new namespace: p50 until the floor is seen", objects, milliseconds, percentile(s.born.floor, 50))
	w.report.add("objects", "new namespace: accounts seen without the entry", objects, count, float64(s.born.without)).atMost(0)
}

func (w *objectsWorld) account(objects int, name string, seen, bare creations) {
	w.report.add("objects", name+": p50", objects, milliseconds, seen.p50())
	w.report.add("objects", name+": p50 over bare", objects, ratio, seen.p50()/bare.p50())
	w.report.add("objects", name+": processor time over bare", objects, ratio, seen.processor/bare.processor)
	w.report.add("objects", name+": born without an entry", objects, count, float64(seen.without)).atMost(0)
	w.report.add("objects", name+": evaluations of the policy for each", objects, count, seen.evaluations).atMost(1)
	w.report.add("objects", name+": calls of the webhook for each", objects, count, seen.calls).atMost(1)
}

// apart creates ServiceAccounts with the webhook alone, and then with the policy alone, every manager down. Nothing else is to
// follow.
func (w *objectsWorld) apart(ctx context.Context, bare creations) error {
	registration := w.client.AdmissionregistrationV1()
	if err := registration.MutatingAdmissionPolicyBindings().Delete(ctx, attachPolicy, metav1.DeleteOptions{}); err != nil {
		return err
	}
	if err := w.settles(ctx, func(c creations) bool { return c.evaluations == 0 }); err != nil {
		return err
	}
	webhook, err := w.creations(ctx, w.n)
	if err != nil {
		return err
	}
	w.account(w.n, "account by the webhook alone", webhook, bare)
	if err := errors.Join(w.stop(ctx, w.manager), manager.InstallPolicy(ctx, w.Cluster)); err != nil {
		return err
	}
	w.manager = nil
	if err := w.settles(ctx, func(c creations) bool { return c.evaluations > 0 }); err != nil {
		return err
	}
	policy, err := w.creations(ctx, w.n)
	if err != nil {
		return err
	}
	w.account(w.n, "account by the policy alone", policy, bare)
	return nil
}

// begin starts a manager with permission for named Secrets alone, or for all.
func (w *objectsWorld) begin(ctx context.Context, narrowed bool) (*manager.Manager, error) {
	w.narrowed = narrowed
	roles := w.client.RbacV1().ClusterRoles()
	role, err := roles.Get(ctx, "tcr-assistant-manager-role", metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	for i, rule := range role.Rules {
		if slices.Contains(rule.Resources, "secrets") {
			role.Rules[i].Verbs = []string{"create"}
			if !narrowed {
				role.Rules[i].Verbs = allSecretVerbs
			}
		}
	}
	if _, err := roles.Update(ctx, role, metav1.UpdateOptions{}); err != nil {
		return nil, err
	}
	if err := w.mayListSecrets(ctx, !narrowed); err != nil {
		return nil, err
	}
	return manager.Start(ctx, w.Cluster, manager.Options{Binary: w.binary, AllSecrets: !narrowed, Args: []string{"--log-level=info"}})
}

func (w *objectsWorld) memoryGoals() map[int]float64 {
	if w.narrowed {
		return narrowedMemoryGoals
	}
	return objectsMemoryGoals
}

// restart ends the manager and measures how long the next one, with such a permission, takes until it knows everything, and its
// memory then.
func (w *objectsWorld) restart(ctx context.Context, narrowed bool, suffix string, memoryGoals map[int]float64) error {
	if err := w.manager.Stop(); err != nil {
		return err
	}
	began := time.Now()
	var err error
	if w.manager, err = w.begin(ctx, narrowed); err != nil {
		return err
	}
	known := []string{"watches were synced"}
	if narrowed {
		known = append(known, "secrets of every name were listed")
	}
	for _, text := range known {
		if err := w.manager.Says(ctx, text); err != nil {
			return err
		}
	}
	if err := w.manager.Ready(ctx); err != nil {
		return err
	}
	figure := w.report.add("objects"+suffix, "a process' start until it knows everything", w.n, seconds, time.Since(began).Seconds())
	if goal, set := objectsStartGoals[w.n]; set {
		figure.atMost(goal)
	}
	time.Sleep(w.program.idle)
	rest, most, err := resident(w.manager.Pid())
	if err != nil {
		return err
	}
	atRest := w.report.add("objects"+suffix, "memory at rest after a restart", w.n, mebibytes, rest)
	atMost := w.report.add("objects"+suffix, "memory at most while starting", w.n, mebibytes, most)
	if goal, set := memoryGoals[w.n]; set {
		atRest.atMost(goal)
		atMost.atMost(goal * mostOverRestGoal)
	}
	return w.stands(ctx, w.n)
}

// mayListSecrets waits until the API server lets the manager list all Secrets, or does not.
func (w *objectsWorld) mayListSecrets(ctx context.Context, want bool) error {
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: manager.User, Groups: []string{"system:serviceaccounts", "system:authenticated"},
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "list", Resource: "secrets"},
	}}
	return every(ctx, 50*time.Millisecond, func() error {
		answer, err := w.client.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		if err == nil && answer.Status.Allowed != want {
			err = errors.New("the role has not taken effect")
		}
		return err
	})
}

// settles waits until the API server has taken up what was changed of its admission.
func (w *objectsWorld) settles(ctx context.Context, done func(creations) bool) error {
	return every(ctx, 100*time.Millisecond, func() error {
		before, _, err := w.reviews(ctx)
		if err != nil {
			return err
		}
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "settles"}}
		_, err = w.client.CoreV1().ServiceAccounts(w.names[0]).Create(ctx, account, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		after, _, err := w.reviews(ctx)
		if err == nil && !done(creations{evaluations: after - before}) {
			err = errors.New("the API server has not taken it up")
		}
		return err
	})
}
