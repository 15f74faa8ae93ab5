package integration

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential/records"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
	standin "github.com/tcr-assistant/tcr-assistant/test/harness/tencentcloud"
)

// vpcDomain is the domain of a cloud's registry in private networks.
const vpcDomain = "demo-vpc.tencentcloudcr.com"

// letsIn returns an error unless the registry takes what the Secret in a namespace holds for its domain in private networks.
func (w *world) letsIn(cloud *suite.Cloud, namespace, imagePullSecret string) error {
	login, err := w.Login(namespace, imagePullSecret, vpcDomain)
	if err == nil && !cloud.Check(login.Username, login.Password) {
		err = errors.New("the registry refuses what the Secret holds")
	}
	return err
}

// isIssued waits until the condition CredentialIssued of an ImagePullSecret has a reason, and returns it.
func (w *world) isIssued(name, reason string) metav1.Condition {
	w.T.Helper()
	var issued metav1.Condition
	w.Status(name, func(status v1.ImagePullSecretStatus) error {
		if found := meta.FindStatusCondition(status.Conditions, v1.ConditionCredentialIssued); found != nil {
			issued = *found
		}
		if issued.Reason != reason {
			return fmt.Errorf("it is %s: %s", issued.Reason, issued.Message)
		}
		return nil
	})
	return issued
}

// noTokens waits until the registry has no long-term token any more and no record is left.
func (w *world) noTokens(cloud *suite.Cloud) {
	w.T.Helper()
	w.Eventually("its tokens are revoked", func() error {
		for _, token := range cloud.Tokens(suite.RegistryID) {
			if token.ID != "" {
				return fmt.Errorf("the registry has %q, enabled: %t", token.Description, token.Enabled)
			}
		}
		return nil
	})
	w.noRecords()
}

// noRecords waits until no record is left.
func (w *world) noRecords() {
	w.T.Helper()
	w.recordsAre(0)
}

// recordsAre waits until there are so many records.
func (w *world) recordsAre(want int) {
	w.T.Helper()
	w.Eventually(fmt.Sprintf("there are %d records", want), func() error {
		all, err := records.New(w.Client.CoreV1().Secrets(manager.Namespace)).All(w.Ctx)
		if err == nil && len(all) != want {
			err = fmt.Errorf("there are %d", len(all))
		}
		return err
	})
}

// TestTheCloudIssuesTheCredential has an API that takes 300 ms for each call, which do not count.
func TestTheCloudIssuesTheCredential(t *testing.T) {
	const late = 300 * time.Millisecond
	w := newWorld(t)
	cloud := w.StartCloud()
	cloud.Fail("*", 0, standin.Failure{Late: late})
	w.run(cloud.Args...)
	w.Namespace("team")
	began := time.Now()
	w.Create("issued", suite.OfRegistry())
	w.ready("issued", "Complete")
	took := time.Since(began)
	answering := time.Duration(len(cloud.Calls())) * late
	t.Logf("it was Ready after %s, of which the API took %s", took.Round(time.Millisecond), answering)
	assert.Less(t, took-answering, 2*time.Second)
	require.NoError(t, w.letsIn(cloud, "team", "issued"))
	w.isIssued("issued", "Issued")
	status := must(w.IPS.Get(w.Ctx, "issued", metav1.GetOptions{})).Status
	assert.Equal(t, "TCR/"+suite.RegistryID, status.Credential.Source)
	assert.True(t, status.Credential.ExpiresAt.After(time.Now()))

	w.Kubectl("delete", "ipss", "issued")
	w.noTokens(cloud)
}

// TestTokensGoWithTheirObject deletes objects while a manager runs, while none does, and with the wish to keep the tokens.
func TestTokensGoWithTheirObject(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cloud := w.StartCloud()
	m := w.run(cloud.Args...)
	kept := w.Create("kept", suite.InNamespaces("default"), suite.OfRegistry(func(instance *v1.RegistryInstance) {
		instance.OnDelete = v1.OnDeleteKeep
	}))
	away := w.Create("away", suite.InNamespaces("default"), suite.OfRegistry())
	replaced := w.Create("replaced", suite.InNamespaces("default"), suite.OfRegistry())
	logins := map[string]suite.Login{}
	for _, object := range []*v1.ImagePullSecret{kept, away, replaced} {
		w.ready(object.Name, "Complete")
		logins[object.Name] = must(w.Login("default", object.Name, vpcDomain))
		assert.Equal(t, 1, cloud.Live(object), object.Name)
	}
	letsIn := func(object *v1.ImagePullSecret) bool {
		return cloud.Check(logins[object.Name].Username, logins[object.Name].Password)
	}

	w.edit("replaced", func(spec *v1.ImagePullSecretSpec) {
		spec.TCR, spec.Docker = nil, v1.DockerCredential{Username: "robot", Password: "password-of-replaced", Server: "r.example.com"}
	})
	w.Holds("default", "replaced")
	w.Eventually("what is not used any more is revoked", func() error {
		if letsIn(replaced) || len(cloud.TokensOf(replaced)) > 0 {
			return errors.New("there is a token")
		}
		return nil
	})
	w.recordsAre(2) // else the next leader has one of a token that is too young to be taken for gone

	require.NoError(t, m.Stop())
	w.Kubectl("delete", "ipss", "kept", "away")
	require.True(t, letsIn(away), "nobody was there to revoke it")
	w.run(cloud.Args...)
	w.noRecords()
	assert.False(t, letsIn(away))
	assert.Empty(t, cloud.TokensOf(away))
	assert.True(t, letsIn(kept))
	assert.Equal(t, 1, cloud.Live(kept))
}

// TestAnUninstallRevokesTokens cleans up while no manager runs: once while the cloud is there, and once while it is away, which leaves
// the records to the next installation.
func TestAnUninstallRevokesTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cloud := w.StartCloud()
	cleanUp := func() (log string) {
		cleanup := w.StartManager(manager.Options{
			Binary: binary, Kubeconfig: w.Kubeconfig(), Args: append([]string{"--cleanup"}, cloud.Args...),
		})
		select {
		case <-cleanup.Done():
		case <-time.After(2 * w.Hang):
			t.Fatal("it does not end")
		}
		require.NoError(t, cleanup.Stop(), "an uninstall goes on")
		return cleanup.Log()
	}
	issue := func() (end func() error) {
		m := w.run(cloud.Args...)
		w.Create("issued", suite.InNamespaces("default"), suite.OfRegistry())
		w.ready("issued", "Complete")
		require.Len(t, cloud.Tokens(suite.RegistryID), 1)
		return m.Stop
	}

	require.NoError(t, issue()())
	assert.NotContains(t, cleanUp(), "tokens were not revoked")
	assert.Empty(t, cloud.Tokens(suite.RegistryID))
	w.noRecords()

	require.NoError(t, issue()())
	cloud.Fail("*", 0, standin.Failure{Refused: true})
	assert.Contains(t, cleanUp(), "tokens were not revoked: disable and delete those of this cluster in the registry's console")
	require.Len(t, cloud.Tokens(suite.RegistryID), 1)
	cloud.Recover()
	w.run(cloud.Args...)
	w.noTokens(cloud)
}

// TestTheNodesRoleCalls has an object that names no keys.
func TestTheNodesRoleCalls(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cloud := w.StartCloud()
	cloud.BindNodeRole("worker", standin.Everything)
	w.run(cloud.Args...)
	w.Create("issued", suite.InNamespaces("default"), suite.OfRegistry(func(instance *v1.RegistryInstance) {
		instance.CredentialsSecretRef = nil
	}))
	w.ready("issued", "Complete")
	require.NoError(t, w.letsIn(cloud, "default", "issued"))
	for _, call := range cloud.Calls() {
		assert.NotEqual(t, cloud.Key.SecretID, call.Caller)
	}
}
