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

// noTokens waits until the registry has no token any more and no record is left.
func (w *world) noTokens(cloud *suite.Cloud) {
	w.T.Helper()
	w.Eventually("its tokens are revoked", func() error {
		if left := len(cloud.Tokens(suite.RegistryID)); left > 0 {
			return fmt.Errorf("the registry has %d tokens", left)
		}
		return nil
	})
	w.noRecords()
}

// noRecords waits until no record is left.
func (w *world) noRecords() {
	w.T.Helper()
	w.Eventually("no record is left", func() error {
		all, err := records.New(w.Client.CoreV1().Secrets(manager.Namespace)).All(w.Ctx)
		if err == nil && len(all) > 0 {
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
