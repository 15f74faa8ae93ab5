package integration

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

// replica starts a manager that API servers call through the balancer.
func (w *world) replica(b *balancer, args ...string) *manager.Manager {
	w.T.Helper()
	return w.StartManager(manager.Options{Binary: binary, WebhookURL: b.url(), Args: append([]string{"--log-level=info"}, args...)})
}

// behind puts managers, and no others, behind the balancer and waits until it sends connections to all of them.
func (w *world) behind(b *balancer, managers ...*manager.Manager) {
	w.T.Helper()
	b.set(managers...)
	w.Eventually("the managers are ready", func() error { return b.sees(managers...) })
}

// TestAdmissionNeverFails creates ServiceAccounts without a pause while replicas are restarted and certificates rotated.
// The webhook's failure policy is Fail, so that nothing it misses can hide.
func TestAdmissionNeverFails(t *testing.T) {
	const accounts, rotations = 5000, 10
	w := newWorld(t)
	b := newBalancer(t)
	args := []string{"--webhook-failure-policy=Fail", "--shutdown-delay=1s"}
	first, second := w.replica(b, args...), w.replica(b, args...)
	w.behind(b, first, second)
	w.Create("steady")
	w.Holds("default", "steady")
	w.derivedHolds("steady") // from which the replica that does not lead hears of it
	for i := range 20 {
		w.Namespace(fmt.Sprintf("load-%02d", i))
	}

	var created, failed, bare atomic.Int64
	done := make(chan struct{})
	var load sync.WaitGroup
	var firstError sync.Once
	for worker := range 4 {
		load.Go(func() {
			for i := worker; ; i += 4 {
				select {
				case <-done:
					if created.Load() >= accounts {
						return
					}
				default:
				}
				account, err := w.Client.CoreV1().ServiceAccounts(fmt.Sprintf("load-%02d", i%20)).Create(w.Ctx,
					&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("account-%06d", i)}}, metav1.CreateOptions{})
				created.Add(1)
				switch {
				case err != nil:
					failed.Add(1)
					firstError.Do(func() { t.Logf("the first creation that failed: %v", err) })
				case !slices.Contains(suite.Entries(account), "tcr.ipssteady"):
					bare.Add(1)
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}

	for i := range rotations {
		before := w.servingCertificate()
		require.NoError(t, w.Client.CoreV1().Secrets(manager.Namespace).Delete(w.Ctx, servingSecret, metav1.DeleteOptions{}))
		w.Eventually("a new certificate was issued", func() error {
			if now := w.servingCertificate(); now == nil || bytes.Equal(now, before) {
				return fmt.Errorf("rotation %d: the secret holds no new one", i)
			}
			return nil
		})
	}
	rotated := created.Load()
	for range 2 {
		for _, old := range []*manager.Manager{first, second} {
			young := w.replica(b, args...)
			w.behind(b, first, second, young)
			require.NoError(t, old.Stop())
			if old == first {
				first = young
			} else {
				second = young
			}
			b.set(first, second)
		}
	}
	close(done)
	load.Wait()
	t.Logf("%d accounts were created, %d of them during %d rotations, the rest while each replica was replaced twice", created.Load(), rotated,
		rotations)
	assert.GreaterOrEqual(t, created.Load(), int64(accounts))
	assert.Zero(t, failed.Load(), "no creation failed")
	assert.Zero(t, bare.Load(), "no account is born without its entry")
}

const servingSecret = "tcr-assistant-webhook-server-cert"

// servingCertificate returns the certificate in the shared Secret; nil where there is none.
func (w *world) servingCertificate() []byte {
	secret, err := w.Client.CoreV1().Secrets(manager.Namespace).Get(w.Ctx, servingSecret, metav1.GetOptions{})
	if err != nil {
		return nil
	}
	return secret.Data["tls.crt"]
}

func TestLeadership(t *testing.T) {
	w := newWorld(t)
	b := newBalancer(t)
	leader := w.replica(b)
	w.behind(b, leader)
	holder := w.leaseHolder()
	follower := w.replica(b)
	w.behind(b, leader, follower)
	w.Create("kept")
	w.Holds("default", "kept")

	t.Run("one writes, all answer", func(t *testing.T) {
		assert.Contains(t, leader.Log(), "leadership was won")
		assert.NotContains(t, follower.Log(), "leadership was won")
		secret, err := w.Client.CoreV1().Secrets(manager.Namespace).Get(w.Ctx, servingSecret, metav1.GetOptions{})
		require.NoError(t, err)
		assert.NotEmpty(t, secret.Data["tls.crt"])
	})
	t.Run("a leader that ends hands over within 2 seconds", func(t *testing.T) {
		asked := time.Now()
		ended := make(chan error, 1)
		go func() { ended <- leader.Stop() }()
		w.Within(2*time.Second, "the follower leads", func() error {
			if now := w.leaseHolder(); now == holder || now == "" {
				return fmt.Errorf("the lease is held by %q", now)
			}
			return nil
		})
		t.Logf("handed over within %s", time.Since(asked).Round(time.Millisecond))
		require.NoError(t, <-ended)
		w.Namespace("after")
		w.Holds("after", "kept")
	})
	t.Run("one that drains is not ready, and goes on answering", func(t *testing.T) {
		slow := w.replica(b, "--shutdown-delay=5s")
		w.behind(b, slow)
		ended := make(chan error, 1)
		go func() { ended <- slow.Stop() }()
		w.Eventually("it is not ready", func() error {
			if _, err := slow.Get(w.Ctx, "/readyz"); err == nil {
				return fmt.Errorf("it says that it is")
			}
			return nil
		})
		assert.Equal(t, "ok\n", must(slow.Get(w.Ctx, "/healthz")))
		require.NoError(t, dialTLS(slow.WebhookAddress), "it still shakes hands")
		require.NoError(t, <-ended)
	})
}

func (w *world) leaseHolder() string {
	lease, err := w.Client.CoordinationV1().Leases(manager.Namespace).Get(w.Ctx, "tcr-assistant-leader-election", metav1.GetOptions{})
	if err != nil || lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// TestBothReplicasDown holds that accounts are created while nobody answers, and that nobody has to wait for that. Where the
// API server serves the policy, it gives them their entries; elsewhere the first replica that is back does.
func TestBothReplicasDown(t *testing.T) {
	const accounts, period = 500, 15 * time.Second
	w := newWorld(t)
	atBirth := []string{}
	if w.AttachesByItself() {
		require.NoError(t, manager.InstallPolicy(w.Ctx, w.Cluster))
		atBirth = []string{"tcr.ipsdown"}
	}
	m := w.run()
	w.Create("down")
	w.Namespace("down")
	w.Holds("down", "down")
	w.Lists("down", "default", "tcr.ipsdown")
	w.derivedHolds("down")
	w.attaches("down")
	require.NoError(t, m.Stop())

	create := func(kind string, i int) (*corev1.ServiceAccount, time.Duration) {
		began := time.Now()
		account, err := w.Client.CoreV1().ServiceAccounts("down").Create(w.Ctx,
			&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%03d", kind, i)}}, metav1.CreateOptions{})
		require.NoError(t, err)
		return account, time.Since(began)
	}
	var refused, without []time.Duration
	tick := time.NewTicker(period / accounts)
	defer tick.Stop()
	for i := range accounts {
		<-tick.C
		account, took := create("refused", i)
		refused = append(refused, took)
		assert.Equal(t, atBirth, suite.Entries(account), "what it is born with")
	}
	w.Kubectl("delete", "mutatingwebhookconfigurations", "--all")
	time.Sleep(time.Second) // the API server has to hear of it
	for i := range 100 {
		_, took := create("without", i)
		without = append(without, took)
	}
	slices.Sort(refused)
	slices.Sort(without)
	ratio := float64(refused[len(refused)/2]) / float64(without[len(without)/2])
	t.Logf("median creation: %s with a webhook that refuses connections, %s without one, ratio %.2f", refused[len(refused)/2],
		without[len(without)/2], ratio)
	// A refusal costs the API server a few milliseconds; a webhook that it waited for would cost its timeout of 3 s.
	assert.Less(t, ratio, 20.0, "no more than the refusal of a connection is waited for")

	w.run()
	for i := range accounts {
		w.Lists("down", fmt.Sprintf("refused-%03d", i), "tcr.ipsdown")
	}
}

// TestLeaderKilledDuringReissue kills the leader without notice while a new password is on its way.
func TestLeaderKilledDuringReissue(t *testing.T) {
	t.Parallel()
	const total, kills = 500, 20
	w := newWorld(t)
	for i := range total {
		_, err := w.Client.CoreV1().Namespaces().Create(w.Ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("many-%03d",
			i)}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	for i := range total {
		w.Eventually("the default service account exists", func() error {
			_, err := w.Client.CoreV1().ServiceAccounts(fmt.Sprintf("many-%03d", i)).Get(w.Ctx, "default", metav1.GetOptions{})
			return err
		})
	}
	for i := range 50 {
		w.account(fmt.Sprintf("many-%03d", i), "builder", "theirs")
	}
	b := newBalancer(t)
	m := w.replica(b)
	w.behind(b, m)
	w.Create("hunted", password("0"))
	for kill := range kills {
		time.Sleep(time.Duration(rand.IntN(800)) * time.Millisecond)
		require.NoError(t, m.Kill())
		// A killed leader's lease runs out after 15 s. The test does not wait for that: it takes the holder's name away.
		w.Kubectl("patch", "lease", "-n", manager.Namespace, "tcr-assistant-leader-election", "--type=merge", "-p",
			`{"spec":{"holderIdentity":""}}`)
		m = w.replica(b)
		w.behind(b, m)
		w.edit("hunted", password(fmt.Sprint(kill+1)))
	}
	w.Eventually("every namespace holds the last password, and every account the entry", func() error {
		status := must(w.IPS.Get(w.Ctx, "hunted", metav1.GetOptions{})).Status
		if !ready(status) || status.SecretsSuccess < total {
			return fmt.Errorf("its counts are %d of %d", status.SecretsSuccess, status.SecretsDesired)
		}
		return nil
	})
	for i := range total {
		_, err := w.Current(fmt.Sprintf("many-%03d", i), "hunted")
		require.NoError(t, err)
	}
	accounts, err := w.Client.CoreV1().ServiceAccounts("").List(w.Ctx, metav1.ListOptions{})
	require.NoError(t, err)
	for _, account := range accounts.Items {
		want := []string{"tcr.ipshunted"}
		if account.Name == "builder" {
			want = []string{"theirs", "tcr.ipshunted"}
		}
		assert.Equal(t, want, suite.Entries(&account), "%s/%s", account.Namespace, account.Name)
	}
}

// TestAPIServerOutage takes the API server away under a running manager: for a moment, and for a minute.
func TestAPIServerOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.run()
	w.Create("enduring")
	for i := range 20 {
		w.Namespace(fmt.Sprintf("team-%02d", i))
	}
	for i := range 20 {
		w.Holds(fmt.Sprintf("team-%02d", i), "enduring")
	}
	w.converged("enduring")
	for _, test := range []struct {
		name   string
		outage time.Duration
	}{{"short", time.Second}, {"long", time.Minute}} {
		name, outage := test.name, test.outage
		t.Run(fmt.Sprintf("after %s it goes on by itself", outage), func(t *testing.T) {
			pid := m.Pid()
			w.refusals = true
			lost := func() int { return strings.Count(m.Log(), "leadership was lost") }
			lostBefore, stopped := lost(), time.Now()
			require.NoError(t, w.StopAPIServer())
			time.Sleep(outage)
			before := len(w.writes())
			require.NoError(t, w.StartAPIServer(w.Ctx))
			away := time.Since(stopped)
			// The old one would look for the API server every half minute by now, and nobody else makes default accounts.
			require.NoError(t, w.RestartControllerManager(w.Ctx))
			w.Namespace(name)
			w.Holds(name, "enduring")
			w.Lists(name, "default", "tcr.ipsenduring")
			w.converged("enduring")
			select {
			case <-m.Done():
				t.Fatal("the manager has ended")
			default:
			}
			assert.Equal(t, pid, m.Pid())
			if away < 5*time.Second || away > 30*time.Second { // in between, the Lease decides: a busy machine starts an API server slowly
				assert.Equal(t, away > 30*time.Second, lost() > lostBefore, "it leads as long as its lease is good, %s without an API server", away)
			}
			writes := map[string]int{}
			for _, write := range w.writes()[before:] {
				writes[write.Verb+" "+write.Resource]++
			}
			t.Logf("writes since: %v", writes)
			assert.Equal(t, 1, writes["create secrets"], "nothing is written anew that stood already")
			assert.Zero(t, writes["patch secrets"])
			assert.LessOrEqual(t, writes["patch serviceaccounts"], 1, "at most the new account, if the webhook missed it")
		})
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// dialTLS shakes hands with a webhook, whoever certified it.
func dialTLS(address string) error {
	connection, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	return connection.Close()
}
