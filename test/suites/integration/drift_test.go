package integration

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

func TestDriftIsRepairedWithinASecond(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.Namespace("a")
	w.Create("kept")
	w.Holds("a", "kept")
	w.Lists("a", "default", "tcr.ipskept")
	secrets, accounts := w.Client.CoreV1().Secrets("a"), w.Client.CoreV1().ServiceAccounts("a")
	restored := func(what string) {
		t.Helper()
		w.Within(time.Second, what, func() error {
			if _, err := w.Current("a", "kept"); err != nil {
				return err
			}
			if have := w.Entries("a", "default"); !slices.Contains(have, "tcr.ipskept") {
				return fmt.Errorf("the account lists %q", have)
			}
			return nil
		})
	}

	t.Run("a deleted secret", func(t *testing.T) {
		require.NoError(t, secrets.Delete(w.Ctx, "tcr.ipskept", metav1.DeleteOptions{}))
		restored("a deleted secret is restored")
	})
	for what, patch := range map[string]string{
		"an edited credential": `{"data":{".dockerconfigjson":"e30="}}`,
		"a removed label":      `{"metadata":{"labels":null}}`,
		"a removed owner":      `{"metadata":{"ownerReferences":null}}`,
	} {
		t.Run(what, func(t *testing.T) {
			_, err := secrets.Patch(w.Ctx, "tcr.ipskept", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
			require.NoError(t, err)
			restored(what + " is restored")
		})
	}
	t.Run("a removed entry", func(t *testing.T) {
		_, err := accounts.Patch(w.Ctx, "default", types.MergePatchType, []byte(`{"imagePullSecrets":null}`), metav1.PatchOptions{})
		require.NoError(t, err)
		restored("a removed entry is restored")
	})
	t.Run("a removed entry while the webhook is not called", func(t *testing.T) {
		w.Kubectl("delete", "mutatingwebhookconfigurations", "--all")
		_, err := accounts.Patch(w.Ctx, "default", types.MergePatchType, []byte(`{"imagePullSecrets":null}`), metav1.PatchOptions{})
		require.NoError(t, err)
		restored("a removed entry is restored")
	})
	t.Run("a secret that was replaced by one of another type is left alone and reported, until it goes", func(t *testing.T) {
		require.NoError(t, secrets.Delete(w.Ctx, "tcr.ipskept", metav1.DeleteOptions{}))
		w.Eventually("ours was replaced by theirs", func() error {
			_, err := secrets.Create(w.Ctx, foreignSecret("tcr.ipskept"), metav1.CreateOptions{})
			if apierrors.IsAlreadyExists(err) {
				_ = secrets.Delete(w.Ctx, "tcr.ipskept", metav1.DeleteOptions{})
			}
			return err
		})
		w.reportsForeign("kept", "a/tcr.ipskept")
		require.NoError(t, secrets.Delete(w.Ctx, "tcr.ipskept", metav1.DeleteOptions{}))
		w.Holds("a", "kept")
		w.Status("kept", func(status v1.ImagePullSecretStatus) error {
			if len(status.Failures) > 0 {
				return fmt.Errorf("it still reports %v", status.Failures)
			}
			return nil
		})
	})
}

func foreignSecret(name string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Type: corev1.SecretTypeOpaque,
		StringData: map[string]string{"mine": "kept"}}
}

func (w *world) reportsForeign(name, object string) {
	w.T.Helper()
	w.Status(name, func(status v1.ImagePullSecretStatus) error {
		for _, failure := range status.Failures {
			if failure.NamespacedName == object && failure.Reason == "ForeignSecret" {
				return nil
			}
		}
		return fmt.Errorf("it reports %v", status.Failures)
	})
}

func TestForeignSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.Namespace("opaque")
	w.Namespace("docker")
	_, err := w.Client.CoreV1().Secrets("opaque").Create(w.Ctx, foreignSecret("tcr.ipsours"), metav1.CreateOptions{})
	require.NoError(t, err)
	theirs, err := w.Client.CoreV1().Secrets("docker").Create(w.Ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "tcr.ipsours", Labels: map[string]string{"made-by": "someone"}},
		Type:       corev1.SecretTypeDockerConfigJson, StringData: map[string]string{corev1.DockerConfigJsonKey: `{"auths":{}}`},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	w.Create("ours")

	t.Run("one of the right type is adopted", func(t *testing.T) {
		adopted := w.Holds("docker", "ours")
		assert.Equal(t, theirs.UID, adopted.UID)
		assert.Equal(t, "someone", adopted.Labels["made-by"])
	})
	t.Run("one of another type is left alone and reported", func(t *testing.T) {
		w.reportsForeign("ours", "opaque/tcr.ipsours")
		secret, err := w.Client.CoreV1().Secrets("opaque").Get(w.Ctx, "tcr.ipsours", metav1.GetOptions{})
		require.NoError(t, err)
		assert.Equal(t, "kept", string(secret.Data["mine"]))
		assert.Empty(t, secret.Labels)
		w.Status("ours", func(status v1.ImagePullSecretStatus) error {
			return counts(7, 6, status.SAsSuccess, status.SAsSuccess)(status)
		})
	})
	t.Run("neither the one nor an entry for it goes with the object", func(t *testing.T) {
		require.NoError(t, w.IPS.Delete(w.Ctx, "ours", metav1.DeleteOptions{}))
		w.Lacks("docker", "ours")
		w.Lists("docker", "default")
		secret, err := w.Client.CoreV1().Secrets("opaque").Get(w.Ctx, "tcr.ipsours", metav1.GetOptions{})
		require.NoError(t, err)
		assert.Equal(t, "kept", string(secret.Data["mine"]))
		assert.Equal(t, []string{"tcr.ipsours"}, w.Entries("opaque", "default"))
	})
}

// TestOtherWriters lets others add and remove entries of their own on accounts to which ours are attached and detached
// meanwhile.
func TestOtherWritersLoseNothing(t *testing.T) {
	t.Parallel()
	const accounts, rounds = 10, 15
	w := newWorld(t)
	w.run()
	w.Namespace("busy")
	for i := range accounts {
		w.account("busy", fmt.Sprintf("sa-%d", i), "first", "second")
	}
	var writers sync.WaitGroup
	errs := make(chan error, accounts)
	for i := range accounts {
		writers.Go(func() { errs <- w.editEntries("busy", fmt.Sprintf("sa-%d", i), rounds) })
	}
	for round := range 6 {
		switch round % 3 {
		case 0:
			w.Create("mine", suite.InNamespaces("busy"))
		case 1:
			w.edit("mine", suite.InNamespaces("elsewhere"))
		case 2:
			require.NoError(t, w.IPS.Delete(w.Ctx, "mine", metav1.DeleteOptions{}))
		}
		time.Sleep(150 * time.Millisecond)
	}
	w.Create("mine", suite.InNamespaces("busy"))
	writers.Wait()
	for range accounts {
		require.NoError(t, <-errs)
	}
	for i := range accounts {
		name := fmt.Sprintf("sa-%d", i)
		w.Eventually("the account lists everybody's entries once, theirs in order", func() error {
			have := w.Entries("busy", name)
			at := slices.Index(have, "tcr.ipsmine")
			if at < 0 {
				return fmt.Errorf("ours is missing in %q", have)
			}
			if theirs := slices.Delete(slices.Clone(have), at, at+1); !slices.Equal(theirs,
				[]string{"first", "second", fmt.Sprintf("round-%d", rounds-1)}) {
				return fmt.Errorf("it lists %q", have)
			}
			return nil
		})
	}
}

// editEntries does what another controller would: each round it replaces its own last entry by a new one with a read and a
// guarded write, and checks that what it wrote before was not lost.
func (w *world) editEntries(namespace, name string, rounds int) error {
	client := w.Client.CoreV1().ServiceAccounts(namespace)
	for round := 0; round < rounds; {
		account, err := client.Get(w.Ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		have := suite.Entries(account)
		if len(have) < 2 || have[0] != "first" || have[1] != "second" {
			return fmt.Errorf("%s lists %q: an entry of someone else's was moved or lost", name, have)
		}
		mine := fmt.Sprintf("round-%d", round-1)
		if round > 0 && !slices.Contains(have, mine) {
			return fmt.Errorf("%s lists %q: %s was lost", name, have, mine)
		}
		account.ImagePullSecrets = slices.DeleteFunc(account.ImagePullSecrets,
			func(entry corev1.LocalObjectReference) bool { return entry.Name == mine })
		account.ImagePullSecrets = append(account.ImagePullSecrets, corev1.LocalObjectReference{Name: fmt.Sprintf("round-%d", round)})
		switch _, err = client.Update(w.Ctx, account, metav1.UpdateOptions{}); {
		case apierrors.IsConflict(err):
		case err != nil:
			return err
		default:
			round++
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}
