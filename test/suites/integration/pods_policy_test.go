package integration

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// TestThePolicyForPodsBearsWhatIsLarge puts parameters to the admission policy as the manager derives them from a great deal.
func TestThePolicyForPodsBearsWhatIsLarge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if !w.AttachesByItself() {
		return
	}
	require.NoError(t, manager.InstallPolicy(w.Ctx, w.Cluster))
	all := func(name string) v1.DerivedRule {
		return v1.DerivedRule{Secret: pullsecret.SecretName(name), Server: name + ".example.com", Pods: v1.PodsAll}
	}
	t.Run("in several parts, each adds what is its own, and nothing twice", func(t *testing.T) {
		for i, name := range []string{"a", "b"} { // "both" is being divided anew
			w.deriving(t, i, v1.DerivedAttachmentsSpec{
				Rules: map[string]v1.DerivedRule{name: all(name), "both": all("both")}, Everywhere: []string{name, "both"}, Parts: 2,
			})
		}
		sorted := func() (have []string) { return slices.Sorted(slices.Values(w.podBorn(t, probe("default", "default")))) }
		w.Eventually("the policy has taken them up", func() error {
			if have := sorted(); !slices.Equal(have, []string{"mine", "tcr.ipsa", "tcr.ipsb", "tcr.ipsboth"}) {
				return fmt.Errorf("a pod lists %q", have)
			}
			return nil
		})
		assert.Equal(t, "mine", w.podBorn(t, probe("default", "default"))[0])
	})
	w.Kubectl("delete", "derivedattachments", "--all")
	t.Run("a thousand rules with all servers that they may have, and a pod with many containers", func(t *testing.T) {
		spec := v1.DerivedAttachmentsSpec{Rules: map[string]v1.DerivedRule{}, Barred: map[string][]string{}}
		for i := range 1000 {
			key := fmt.Sprintf("rule-%04d", i)
			rule := v1.DerivedRule{Secret: pullsecret.SecretName(key), Server: key + ".example.com", Pods: v1.PodsMatchingImages}
			for j := range pullsecret.MaxAdditionalServers {
				rule.AdditionalServers = append(rule.AdditionalServers, fmt.Sprintf("%d.%04d.example.com", j, i))
			}
			spec.Rules[key], spec.Everywhere = rule, append(spec.Everywhere, key)
			spec.Barred["default"] = append(spec.Barred["default"], fmt.Sprintf("barred-%04d", i))
		}
		w.deriving(t, 0, spec)
		pod := probe("default", "default")
		for i := range 100 {
			image := fmt.Sprintf("host%d.example.com/app:%d", i%10, i)
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: fmt.Sprint("c", i), Image: image})
		}
		pod.Spec.Containers[50].Image = "3.0999.example.com/app"
		w.Eventually("the pod is given what one of its images is from", func() error {
			if have := w.podBorn(t, pod); !slices.Equal(have, []string{"mine", "tcr.ipsrule-0999"}) {
				return fmt.Errorf("it lists %q", have)
			}
			return nil
		})
	})
}

// TestThePolicyForPodsLooksAtNoneThatNobodyServes holds that it costs pods next to nothing until an ImagePullSecret asks for them, and once
// none does any more: not even its condition is evaluated.
func TestThePolicyForPodsLooksAtNoneThatNobodyServes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if !w.AttachesByItself() {
		return
	}
	require.NoError(t, manager.InstallPolicy(w.Ctx, w.Cluster))
	w.run()
	w.Create("all")
	w.Lists("default", "default", "tcr.ipsall")
	plain := probe("default", "default")
	plain.Spec.ImagePullSecrets = nil
	looks := func(want bool) func() error {
		return func() error {
			before := w.podsPassedOver(t)
			assert.Equal(t, []string{"tcr.ipsall"}, w.podBorn(t, plain))
			if passedOver := w.podsPassedOver(t) - before; passedOver > 0 != want {
				return fmt.Errorf("it has looked %d times at a pod", passedOver)
			}
			return nil
		}
	}
	for _, step := range []struct {
		pods  string
		looks bool
	}{{v1.PodsAll, true}, {v1.PodsNever, false}, {v1.PodsMatchingImages, true}} {
		w.edit("all", servingPods(step.pods))
		w.Eventually(fmt.Sprintf("with %s it looks at pods: %t", step.pods, step.looks), looks(step.looks))
	}
}

var passedOverTotal = regexp.MustCompile(
	`(?m)^apiserver_admission_match_condition_evaluation_seconds_count\{[^}]*name="tcr-assistant-attach-image-pull-secrets-to-pods"[^}]*\} ([0-9]+)$`)

// podsPassedOver returns how often the API server has found that the condition of the policy for pods does not hold. How often it holds is
// not counted.
func (w *world) podsPassedOver(t *testing.T) int {
	t.Helper()
	text, err := w.Client.CoreV1().RESTClient().Get().AbsPath("/metrics").SetHeader("Accept", "text/plain").Do(w.Ctx).Raw()
	require.NoError(t, err)
	match := passedOverTotal.FindSubmatch(text)
	if match == nil {
		return 0
	}
	total, err := strconv.Atoi(string(match[1]))
	require.NoError(t, err)
	return total
}

// deriving creates one part of what is derived, as a manager would.
func (w *world) deriving(t *testing.T, part int, spec v1.DerivedAttachmentsSpec) {
	t.Helper()
	object := &v1.DerivedAttachments{
		TypeMeta: metav1.TypeMeta{APIVersion: v1.GroupVersion.String(), Kind: "DerivedAttachments"},
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprint("written-by-tcr-assistant-", part), Labels: map[string]string{v1.ServesPodsLabel: v1.ServesPodsValue},
		},
		Spec: spec,
	}
	encoded, err := json.Marshal(object)
	require.NoError(t, err)
	said, err := w.Pipe(string(encoded), "create", "-f", "-") // what is applied would not fit into the annotation that it leaves
	require.NoError(t, err, said)
}
