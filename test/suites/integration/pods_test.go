package integration

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/pullsecret/matchtest"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

// servingPods has an ImagePullSecret serve such pods.
func servingPods(pods string) suite.Edit {
	return func(spec *v1.ImagePullSecretSpec) { spec.Pods = pods }
}

// TestPodsAreGivenTheSame puts the shared cases to a real API server: with the webhook alone, with the admission policy alone, no manager
// running, and with both.
func TestPodsAreGivenTheSame(t *testing.T) {
	t.Parallel()
	if !webhookless {
		t.Run("the webhook, without the policy", func(t *testing.T) {
			w := newWorld(t)
			w.run()
			w.givesPods(t, w.podRules(t))
		})
	}
	w := newWorld(t)
	if !w.AttachesByItself() {
		return
	}
	require.NoError(t, manager.InstallPolicy(w.Ctx, w.Cluster))
	t.Run("the policy, while no manager runs", func(t *testing.T) {
		m := w.run()
		cases := w.podRules(t)
		w.Eventually("the accounts that bar pods are derived", func() error {
			for _, object := range w.derived() {
				if barred := object.Spec.Barred["team"]; slices.Equal(barred, []string{"left-out", "strict"}) {
					return nil
				}
			}
			return fmt.Errorf("they are not")
		})
		w.derivedHolds("sentinel")
		require.NoError(t, m.Stop())
		w.Kubectl("delete", "mutatingwebhookconfigurations,validatingwebhookconfigurations", "--all")
		w.givesPods(t, cases)
	})
	if webhookless {
		return
	}
	t.Run("both", func(t *testing.T) {
		w := newWorld(t)
		require.NoError(t, manager.InstallPolicy(w.Ctx, w.Cluster))
		w.run()
		w.givesPods(t, w.podRules(t))
	})
}

// podRules creates the namespaces, accounts and ImagePullSecrets of all cases.
func (w *world) podRules(t *testing.T) []matchtest.PodCase {
	t.Helper()
	cases, err := matchtest.PodCases("p")
	require.NoError(t, err)
	for _, c := range cases {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.Account.Namespace, Labels: c.Labels}}
		_, err := w.Client.CoreV1().Namespaces().Create(w.Ctx, namespace, metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			require.NoError(t, err)
		}
		_, err = w.Client.CoreV1().ServiceAccounts(c.Account.Namespace).Create(w.Ctx, c.Account.DeepCopy(), metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			require.NoError(t, err)
		}
		for _, rule := range c.Rules {
			_, err := w.IPS.Create(w.Ctx, rule, metav1.CreateOptions{})
			require.NoError(t, err)
		}
	}
	w.Create("sentinel", servingPods(v1.PodsAll)) // the last to be created: once it is known, all are
	return cases
}

// givesPods asks for each case what its pod would list.
func (w *world) givesPods(t *testing.T, cases []matchtest.PodCase) {
	t.Helper()
	w.Eventually("the rules are in force", func() error {
		if have := w.podBorn(t, probe("default", "default")); !slices.Contains(have, "tcr.ipssentinel") {
			return fmt.Errorf("a pod lists %q", have)
		}
		return nil
	})
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			if len(c.Has) == 0 { // the API server gives it what its account lists, and nobody anything else
				account, err := w.Client.CoreV1().ServiceAccounts(c.Account.Namespace).Get(w.Ctx, c.Account.Name, metav1.GetOptions{})
				require.NoError(t, err)
				assert.Equal(t, suite.Entries(account), w.podBorn(t, c.Pod))
				return
			}
			// The rules of other cases serve it too: only the case's own entries count, and those it has.
			have := slices.DeleteFunc(w.podBorn(t, c.Pod), func(entry string) bool {
				return !slices.Contains(c.Has, entry) && !slices.ContainsFunc(c.Rules, func(rule *v1.ImagePullSecret) bool { return pullsecret.SecretName(rule.Name) == entry })
			})
			require.GreaterOrEqual(t, len(have), len(c.Has))
			assert.Equal(t, c.Has, have[:len(c.Has)], "what it has keeps its place")
			slices.Sort(have[len(c.Has):])
			assert.Equal(t, c.Want, have)
		})
	}
}

// podBorn returns what a pod would list if it were created now.
func (w *world) podBorn(t *testing.T, pod *corev1.Pod) (entries []string) {
	t.Helper()
	created, err := w.Client.CoreV1().Pods(pod.Namespace).Create(w.Ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	require.NoError(t, err)
	for _, reference := range created.Spec.ImagePullSecrets {
		entries = append(entries, reference.Name)
	}
	return entries
}

// probe returns a pod that lists "mine", and pulls from nowhere that an ImagePullSecret is for.
func probe(namespace, account string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "probe-"},
		Spec: corev1.PodSpec{
			ServiceAccountName: account, ImagePullSecrets: []corev1.LocalObjectReference{{Name: "mine"}},
			Containers: []corev1.Container{{Name: "c", Image: "elsewhere.example.com/app"}},
		},
	}
}

// podIsGiven returns an error unless a pod that lists "mine" would list these behind it.
func (w *world) podIsGiven(namespace, account string, want ...string) error {
	if have := w.podBorn(w.T, probe(namespace, account)); !slices.Equal(have, append([]string{"mine"}, want...)) {
		return fmt.Errorf("it lists %q", have)
	}
	return nil
}

// TestPodsFollowTheirAccounts holds that pods are served again, or not any more, as their account opts out or enforces, and that nothing
// of that is forgotten or written anew when another manager takes over.
func TestPodsFollowTheirAccounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if webhookless || w.AttachesByItself() {
		require.NoError(t, manager.InstallPolicy(w.Ctx, w.Cluster))
	}
	m := w.run()
	w.Namespace("team")
	w.account("team", "app", "mine")
	w.Create("all", servingPods(v1.PodsAll))
	served := func() error { return w.podIsGiven("team", "app", "tcr.ipsall") }
	left := func() error { return w.podIsGiven("team", "app") }
	w.Eventually("the pod is served", served)

	for _, step := range []struct {
		what, patch string
		then        func() error
	}{
		{"opting out", `{"metadata":{"labels":{"tcr.tencentcloudcr.com/opt-out":"true"}}}`, left},
		{"opting in", `{"metadata":{"labels":{"tcr.tencentcloudcr.com/opt-out":"false"}}}`, served},
		{"enforcing", `{"metadata":{"annotations":{"kubernetes.io/enforce-mountable-secrets":"true"}}}`, left},
		{"enforcing no more", `{"metadata":{"annotations":{"kubernetes.io/enforce-mountable-secrets":null}}}`, served},
		{"opting out again", `{"metadata":{"labels":{"tcr.tencentcloudcr.com/opt-out":"true"}}}`, left},
	} {
		_, err := w.Client.CoreV1().ServiceAccounts("team").Patch(w.Ctx, "app", types.MergePatchType, []byte(step.patch), metav1.PatchOptions{})
		require.NoError(t, err)
		w.Eventually("pods follow "+step.what, step.then)
	}
	w.account("team", "other")
	w.Eventually("who bars is derived", func() error { // the webhook has known it earlier
		if barred := w.derived()[0].Spec.Barred["team"]; !slices.Equal(barred, []string{"app"}) {
			return fmt.Errorf("%q bar", barred)
		}
		return nil
	})
	before := w.derived()
	require.NoError(t, m.Stop())
	w.run()
	w.edit("all", func(spec *v1.ImagePullSecretSpec) { spec.Docker.Server = "another.example.com" })
	w.Eventually("the next manager derives", func() error {
		if now := w.derived(); now[0].Spec.Rules["all"].Server != "another.example.com" {
			return fmt.Errorf("the server is %q", now[0].Spec.Rules["all"].Server)
		}
		return nil
	})
	after := w.derived()
	assert.Equal(t, before[0].Generation+1, after[0].Generation, "one change, one write: nothing was taken out while it was not known who is barred")
	assert.Equal(t, before[0].Spec.Barred, after[0].Spec.Barred)
	require.NoError(t, left())
	require.NoError(t, w.podIsGiven("team", "other", "tcr.ipsall"))

	require.NoError(t, w.Client.CoreV1().ServiceAccounts("team").Delete(w.Ctx, "app", metav1.DeleteOptions{}))
	w.account("team", "app", "mine")
	w.Eventually("an account that was made anew bars nobody", served)
	w.edit("all", servingPods(v1.PodsNever))
	w.Eventually("nobody is served", left)
	w.Eventually("who bars is not listed any more", func() error {
		if now := w.derived(); len(now[0].Spec.Barred) > 0 || now[0].Spec.Rules["all"].Pods != "" {
			return fmt.Errorf("%v", now[0].Spec)
		}
		return nil
	})
}

// TestTheWebhookForPodsIsThereWhileItIsAskedFor holds that it is registered only while an object asks for it, and is asked only about pods
// that list pull secrets of their own.
func TestTheWebhookForPodsIsThereWhileItIsAskedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.run()
	registered := func(want bool) func() error {
		return func() error {
			configuration, err := w.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(w.Ctx, "tcr-assistant-mutating-webhook-configuration", metav1.GetOptions{})
			if err != nil {
				return err
			}
			is := slices.ContainsFunc(configuration.Webhooks, func(webhook admissionregistrationv1.MutatingWebhook) bool {
				return webhook.Name == "pods.tcr.tencentcloudcr.com"
			})
			if is != want {
				return fmt.Errorf("that it is registered is %t", is)
			}
			return nil
		}
	}
	require.NoError(t, registered(false)())
	w.Create("all", servingPods(v1.PodsAll))
	w.Eventually("the webhook is registered", registered(true))
	w.Eventually("it is asked", func() error { return w.podIsGiven("default", "default", "tcr.ipsall") })

	asked := requestsOf(t, m, "pods")
	plain := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: "plain-"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "all.example.com/app"}}},
	}
	w.Lists("default", "default", "tcr.ipsall")
	for range 5 {
		assert.Equal(t, []string{"tcr.ipsall"}, w.podBorn(t, plain))
	}
	w.Kubectl("label", "ns", "default", "tcr.tencentcloudcr.com/opt-out=true")
	for range 5 {
		_ = w.podBorn(t, plain)
	}
	require.NoError(t, w.podIsGiven("default", "default"))
	assert.Equal(t, asked, requestsOf(t, m, "pods"), "a pod that lists nothing, or is opted out, is not asked about")
	w.Kubectl("label", "ns", "default", "tcr.tencentcloudcr.com/opt-out-")

	t.Run("a pod is created as ever while nobody answers", func(t *testing.T) {
		require.NoError(t, m.Stop())
		require.NoError(t, w.podIsGiven("default", "default"))
		m = w.run()
		w.Eventually("it is asked again", func() error { return w.podIsGiven("default", "default", "tcr.ipsall") })
	})
	w.edit("all", servingPods(v1.PodsNever))
	w.Eventually("the webhook is not registered any more", registered(false))
	require.NoError(t, w.podIsGiven("default", "default"))
}

var requestsTotal = regexp.MustCompile(`(?m)^tcr_assistant_admission_requests_total\{outcome="[a-z]+",webhook="([a-z]+)"\} ([0-9]+)$`)

// requestsOf returns how many admission requests a manager has answered for a webhook.
func requestsOf(t *testing.T, m *manager.Manager, webhook string) (total int) {
	t.Helper()
	response, err := http.Get("http://" + m.MetricsAddress + "/metrics")
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.True(t, strings.Contains(string(text), "tcr_assistant_admission_requests_total"))
	for _, match := range requestsTotal.FindAllStringSubmatch(string(text), -1) {
		if match[1] == webhook {
			count, err := strconv.Atoi(match[2])
			require.NoError(t, err)
			total += count
		}
	}
	return total
}
