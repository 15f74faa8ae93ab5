package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret/matchtest"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

// labelled selects the namespaces with these labels, and no others.
func labelled(labels map[string]v1.LabelValue) suite.Edit {
	return func(spec *v1.ImagePullSecretSpec) {
		spec.Namespaces, spec.NamespaceSelector = "", &v1.LabelSelector{MatchLabels: labels}
	}
}

// namespaceWith creates a namespace with labels.
func (w *world) namespaceWith(name string, labels map[string]string) {
	w.T.Helper()
	_, err := w.Client.CoreV1().Namespaces().Create(w.Ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}},
		metav1.CreateOptions{})
	require.NoError(w.T, err)
}

// label sets a label of a namespace, or of an account in it, or takes it away where value is blank.
func (w *world) label(namespace, account, key, value string) {
	w.T.Helper()
	written := fmt.Sprintf("%q", value)
	if value == "" {
		written = "null"
	}
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%s}}}`, key, written)
	var err error
	if account == "" {
		_, err = w.Client.CoreV1().Namespaces().Patch(w.Ctx, namespace, types.MergePatchType, patch, metav1.PatchOptions{})
	} else {
		_, err = w.Client.CoreV1().ServiceAccounts(namespace).Patch(w.Ctx, account, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	require.NoError(w.T, err)
}

// bears returns an error unless a namespace holds the Secret of an ImagePullSecret, and an account lists it, or both do not.
func (w *world) bears(namespace, account string, wants bool) error {
	_, err := w.Client.CoreV1().Secrets(namespace).Get(w.Ctx, "tcr.ipsr", metav1.GetOptions{})
	if holds := err == nil; holds != wants {
		return fmt.Errorf("namespace %s holds it: %t (%w)", namespace, holds, err)
	} else if !holds && !apierrors.IsNotFound(err) {
		return err
	}
	return w.lists(namespace, account, wants)
}

// lists returns an error unless an account lists the Secret of ImagePullSecret r, or does not.
func (w *world) lists(namespace, account string, wants bool) error {
	found, err := w.Client.CoreV1().ServiceAccounts(namespace).Get(w.Ctx, account, metav1.GetOptions{})
	if err == nil && slices.Contains(suite.Entries(found), "tcr.ipsr") != wants {
		err = fmt.Errorf("account %s/%s lists %q", namespace, account, suite.Entries(found))
	}
	return err
}

// bornByLabel waits until an account of a namespace with the label is born with the Secret of an ImagePullSecret.
func (w *world) bornByLabel(t *testing.T, name string, labels map[string]string) {
	t.Helper()
	w.namespaceWith("probe", labels)
	w.Eventually("accounts are born with "+name, func() error {
		if have := w.born(t, matchtest.Case{Namespace: "probe", AccountName: "newborn"}); !slices.Contains(have, "tcr.ips"+name) {
			return fmt.Errorf("one is born with %q", have)
		}
		return nil
	})
}

// TestBornWithItByLabel is TestBornWithIt for namespaces that are selected by a label, through each of what attaches.
func TestBornWithItByLabel(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"registry": "team", "kind": "birth"}
	create := func(w *world) {
		w.Create("born", labelled(map[string]v1.LabelValue{"registry": "team"}), func(spec *v1.ImagePullSecretSpec) {
			spec.NamespaceSelector.MatchExpressions = []v1.LabelRequirement{{Key: "kind", Operator: v1.OperatorExists}}
		})
		w.bornByLabel(t, "born", labels)
	}
	t.Run("the webhook of the leader", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.run()
		create(w)
		w.areBornWithIt(t, labels)
	})
	t.Run("the webhook of a replica that does not lead", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		b := newBalancer(t)
		leader := w.replica(b)
		w.behind(b, leader)
		follower := w.replica(b)
		w.behind(b, follower)
		create(w)
		w.areBornWithIt(t, labels)
	})
	for name, webhook := range map[string]bool{"the policy": false, "both": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if !w.AttachesByItself() {
				return
			}
			require.NoError(t, manager.InstallPolicy(w.Ctx, w.Cluster))
			if webhook {
				w.run()
			} else {
				w.RunManager(manager.Options{Binary: binary, Args: []string{"--webhook=false"}})
			}
			create(w)
			w.areBornWithIt(t, labels)
		})
	}
}

// TestLabelsDecide holds that what is changed of labels, of selectors and of what is excluded is in force within a second.
func TestLabelsDecide(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.namespaceWith("red", map[string]string{"color": "red"})
	w.namespaceWith("plain", nil)
	w.Create("r", labelled(map[string]v1.LabelValue{"color": "red"}))
	second := func(what, namespace string, wants bool) {
		t.Helper()
		w.Within(time.Second, what, func() error { return w.bears(namespace, "default", wants) })
	}
	w.Eventually("one that matches gets it", func() error { return w.bears("red", "default", true) })
	require.NoError(t, w.bears("plain", "default", false))

	w.label("plain", "", "color", "red")
	second("one that matches by now gets it", "plain", true)
	w.label("red", "", "color", "blue")
	second("one that no longer matches loses it", "red", false)
	w.Eventually("it is counted so", func() error {
		object, err := w.IPS.Get(w.Ctx, "r", metav1.GetOptions{})
		if err != nil {
			return err
		}
		return counts(1, 1, 1, 1)(object.Status)
	})
	w.edit("r", labelled(map[string]v1.LabelValue{"color": "blue"}))
	second("another selector is in force", "red", true)
	second("and no more than that", "plain", false)
	w.edit("r", func(spec *v1.ImagePullSecretSpec) { spec.Namespaces = "plain" })
	second("one that is named gets it, too", "plain", true)
	w.edit("r", func(spec *v1.ImagePullSecretSpec) { spec.ExcludedNamespaces = []v1.NamespaceName{"plain", "red"} })
	second("one that is excluded loses it, though it is named", "plain", false)
	second("so does one that matches", "red", false)
	w.edit("r", func(spec *v1.ImagePullSecretSpec) {
		spec.Namespaces, spec.NamespaceSelector, spec.ExcludedNamespaces = "*", nil, []v1.NamespaceName{"red"}
	})
	second("everyone but the excluded gets it", "plain", true)
	require.NoError(t, w.bears("red", "default", false))
	w.edit("r", labelled(map[string]v1.LabelValue{"color": "blue"}))
	assert.Regexp(t, `NAMESPACE-SELECTOR[^\n]*\n.*\{"matchLabels":\{"color":"blue"\}\}`, w.Kubectl("get", "ipss", "-o", "wide"))
}

// TestOptingOut holds that whoever owns an object has the last word on it.
func TestOptingOut(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.namespaceWith("born-out", map[string]string{v1.OptOutLabel: "true"})
	w.namespaceWith("in", nil)
	w.Create("r")
	w.Eventually("all others get it", func() error { return w.bears("in", "default", true) })
	second := func(what string, check func() error) {
		t.Helper()
		w.Within(time.Second, what, check)
	}
	require.NoError(t, w.bears("born-out", "default", false))

	w.label("in", "", v1.OptOutLabel, "true")
	second("a namespace that opts out loses entry and Secret", func() error { return w.bears("in", "default", false) })
	w.label("in", "", v1.OptOutLabel, "false")
	second("one that opts in again gets them back", func() error { return w.bears("in", "default", true) })

	w.account("in", "builder")
	w.label("in", "builder", v1.OptOutLabel, "true")
	second("an account that opts out loses the entry", func() error { return w.lists("in", "builder", false) })
	require.NoError(t, w.bears("in", "default", true), "others keep it")
	w.Within(5*time.Second, "it is counted", func() error {
		object, err := w.IPS.Get(w.Ctx, "r", metav1.GetOptions{})
		if err == nil && (object.Status.OptedOut == nil || *object.Status.OptedOut != v1.OptedOut{Namespaces: 1, ServiceAccounts: 1}) {
			err = fmt.Errorf("status.optedOut is %+v", object.Status.OptedOut)
		}
		return err
	})
	assert.Regexp(t, `Opted Out:\s+Namespaces:\s+1\s+Service Accounts:\s+1`, w.Kubectl("describe", "ipss", "r"))
	w.label("in", "builder", v1.OptOutLabel, "")
	second("one that opts in again gets it back", func() error { return w.lists("in", "builder", true) })

	w.label("in", "", v1.OptOutLabel, "yes")
	w.label("in", "builder", v1.OptOutLabel, "True")
	for _, asked := range [][]string{{"events", "--for=namespace/in"}, {"describe", "serviceaccount", "builder", "-n", "in"}} {
		w.Eventually("an odd value is told of", func() error {
			if out := w.Kubectl(asked...); !strings.Contains(out, `write "true" to opt this object out, or "false"`) {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
	}
	require.NoError(t, w.bears("in", "builder", true))
}

// TestWithoutSelectorsNobodyWatchesLabels holds that what is not used costs no request.
func TestWithoutSelectorsNobodyWatchesLabels(t *testing.T) {
	w := newWorld(t)
	w.run()
	watches := func() int {
		made, err := w.Requests(func(r cluster.Request) bool {
			return r.User == manager.User && r.Verb == "watch" && r.Resource == "namespaces"
		})
		require.NoError(t, err)
		return len(made)
	}
	w.Create("plain", func(spec *v1.ImagePullSecretSpec) { spec.ExcludedNamespaces = []v1.NamespaceName{"kube-system"} })
	w.Holds("default", "plain")
	assert.Equal(t, 1, watches(), "which namespaces there are")
	w.Create("by-label", labelled(map[string]v1.LabelValue{"color": "red"}))
	w.Eventually("labels are watched", func() error {
		if watches() < 2 {
			return assert.AnError
		}
		return nil
	})
}

// TestAThousandSelectorsAreWithinThePolicysBudget holds that the policy decides, by itself, however many it has to be asked about: an
// expression that cost too much would attach nothing, and nobody would be told.
func TestAThousandSelectorsAreWithinThePolicysBudget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if !w.AttachesByItself() {
		return
	}
	require.NoError(t, manager.InstallPolicy(w.Ctx, w.Cluster))
	w.namespaceWith("probe", map[string]string{"stage": "production-europe", "team": "a"})
	want := []string{}
	for i := range 1000 {
		w.Create(fmt.Sprintf("s%03d", i), labelled(nil), func(spec *v1.ImagePullSecretSpec) {
			if i%2 == 0 { // filed under one label, the same for all
				spec.NamespaceSelector.MatchLabels = map[string]v1.LabelValue{"stage": "production-europe"}
			}
			expression := v1.LabelRequirement{Key: "team", Operator: v1.OperatorNotIn, Values: []v1.LabelValue{"a", "b"}}
			if i%100 < 2 {
				expression = v1.LabelRequirement{Key: "team", Operator: v1.OperatorExists}
				want = append(want, fmt.Sprintf("tcr.ipss%03d", i))
			}
			spec.NamespaceSelector.MatchExpressions = []v1.LabelRequirement{expression, {Key: "absent", Operator: v1.OperatorDoesNotExist}}
		})
	}
	w.RunManager(manager.Options{Binary: binary, Args: []string{"--webhook=false"}})
	w.Eventually("accounts are born with what matches", func() error {
		have := w.born(t, matchtest.Case{Namespace: "probe", AccountName: "newborn"})
		if slices.Sort(have); !slices.Equal(want, have) {
			return fmt.Errorf("one is born with %q", have)
		}
		return nil
	})
}
