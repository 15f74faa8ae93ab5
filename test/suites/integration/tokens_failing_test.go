package integration

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
	standin "github.com/tcr-assistant/tcr-assistant/test/harness/tencentcloud"
)

// failingRenewal is a way in which a credential is not renewed.
type failingRenewal struct {
	// reason and says are what the condition CredentialIssued tells.
	reason, says string
	// begins has it fail; it may be nil.
	begins func()
	// keys names the Secret of other keys to call with.
	keys string
	// ends has it work again.
	ends func()
}

// object is the name of the ImagePullSecret that it is tried with.
func (f failingRenewal) object() string { return strings.ToLower(f.reason) }

// failing has the cloud fail in a way until it recovers.
func failing(cloud *suite.Cloud, reason, says string, failure standin.Failure) failingRenewal {
	return failingRenewal{
		reason: reason, says: says, begins: func() { cloud.Fail("CreateInstanceToken", 0, failure) }, ends: cloud.Recover,
	}
}

// failingRenewals are those that are documented, and what they say to do.
func (w *world) failingRenewals(cloud *suite.Cloud) []failingRenewal {
	body := "a body of somebody's"
	code := func(reason, says, code string) failingRenewal {
		return failing(cloud, reason, says, standin.Failure{Code: code, Message: body})
	}
	return []failingRenewal{
		{
			reason: "Unauthorized",
			says: "allow the action tcr:CreateInstanceToken on the resource qcs::tcr:ap-guangzhou:uin/100012345678:instance/tcr-demo0001 " +
				"in the caller's CAM policy",
			begins: func() {
				cloud.SetPolicy(cloud.Key.SecretID, standin.Everything,
					standin.Statement{Deny: true, Actions: []string{"tcr:CreateInstanceToken"}, Resources: []string{"*"}})
			},
			ends: func() { cloud.SetPolicy(cloud.Key.SecretID, standin.Everything) },
		},
		code("InstanceNotFound", `region ap-guangzhou has no registry instance "tcr-demo0001"`, "ResourceNotFound.TcrResourceNotFound"),
		code("InstanceNotRunning", "start it", "ResourceInsufficient.ErrorInstanceNotRunning"),
		code("QuotaExceeded", "delete some, or raise the quota", "InternalError.ErrorOverLimit"),
		code("RateLimited", "tried again", "RequestLimitExceeded"),
		code("Unsupported", "correct spec.tcr", "UnsupportedOperation"),
		code("Internal", "error of the API itself", "InternalError.DbError"),
		failing(cloud, "BadAnswer", "not one of the API", standin.Failure{Status: 200, Echo: true}),
		failing(cloud, "NoRoute", "without a whole answer", standin.Failure{Refused: true}),
		{
			reason: "ClockSkew", says: "set this machine's clock: it is ",
			begins: func() { cloud.SetClock(func() time.Time { return time.Now().Add(-time.Hour) }) },
			ends:   func() { cloud.SetClock(time.Now) },
		},
		{reason: "CredentialMissing", says: "write both into that Secret", keys: "nowhere"},
		{reason: "CredentialRejected", says: "the key of the Secret tcr-assistant-system/wrong is wrong, disabled or expired", keys: "wrong"},
		{
			reason: "NotStored", says: "the tokens could not be kept in the manager's namespace",
			begins: func() { w.permitRecords("get") },
			ends:   func() { w.permitRecords("get", "create", "patch", "update", "delete") },
		},
	}
}

// permitRecords replaces what the manager may do with the records of tokens.
func (w *world) permitRecords(verbs ...string) {
	w.T.Helper()
	roles := w.Client.RbacV1().Roles(manager.Namespace)
	role, err := roles.Get(w.Ctx, "tcr-assistant-tokens-role", metav1.GetOptions{})
	require.NoError(w.T, err)
	role.Rules = []rbacv1.PolicyRule{role.Rules[0]}
	role.Rules[0].Verbs = verbs
	_, err = roles.Update(w.Ctx, role, metav1.UpdateOptions{})
	require.NoError(w.T, err)
	// The API server hears of it a moment later.
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: manager.User, ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: manager.Namespace, Verb: "update", Resource: "secrets", Name: "tcr-assistant-tokens-0",
		},
	}}
	w.Eventually("the role counts", func() error {
		answer, err := w.Client.AuthorizationV1().SubjectAccessReviews().Create(w.Ctx, review, metav1.CreateOptions{})
		if err == nil && answer.Status.Allowed != (len(verbs) > 1) {
			err = fmt.Errorf("to update is allowed: %t", answer.Status.Allowed)
		}
		return err
	})
}

// TestAFailingRenewalSaysWhatToDoAndTakesNothingAway has a temporary token replaced by a long-term one, in vain.
func TestAFailingRenewalSaysWhatToDoAndTakesNothingAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.refusals = true
	cloud := w.StartCloud()
	_, err := w.Client.CoreV1().Secrets(manager.Namespace).Create(w.Ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "wrong"}, StringData: map[string]string{"secretId": "AKIDunknown", "secretKey": "key-of-nobody"},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	m := w.run(cloud.Args...)
	secrets := []string{cloud.Key.SecretID, cloud.Key.SecretKey, "key-of-nobody", "Signature=", "a body of somebody's"}
	for _, c := range w.failingRenewals(cloud) {
		t.Run(c.reason, func(t *testing.T) {
			w.T = t
			secrets = append(secrets, w.renewsInVain(cloud, c).Password)
			shown := w.Kubectl("get", "ipss", "--all-namespaces", "-o", "jsonpath={.items[*].status}")
			for _, secret := range secrets {
				assert.NotContains(t, shown, secret)
			}
			w.renewsAgain(cloud, c)
		})
	}
	w.T = t
	recorded := w.Kubectl("get", "events", "-n", "default", "-o", "jsonpath={range .items[*]}{.involvedObject.name} {.type} {.reason} {.message}{\"\\n\"}{end}")
	assert.Contains(t, recorded, "unauthorized Warning CredentialNotIssued Unauthorized: calling tcr:CreateInstanceToken: allow the action tcr:CreateInstanceToken")
	assert.Contains(t, recorded, "unauthorized Normal CredentialIssued the cloud issues the credential again")
	said := m.Log() + w.Kubectl("get", "events", "--all-namespaces", "-o", "json") + must(m.Get(w.Ctx, "/metrics"))
	for _, secret := range secrets {
		assert.NotContains(t, said, secret)
	}
}

// renewsInVain has a temporary token replaced by a long-term one while that fails, and returns the last good one.
func (w *world) renewsInVain(cloud *suite.Cloud, c failingRenewal) suite.Login {
	w.T.Helper()
	name := c.object()
	w.Create(name, suite.InNamespaces("default"), suite.OfRegistry(func(instance *v1.RegistryInstance) {
		instance.TokenType = v1.TokenTypeTemporary
	}))
	w.ready(name, "Complete")
	before := must(w.Login("default", name, vpcDomain))
	if c.begins != nil {
		c.begins()
	}
	w.edit(name, func(spec *v1.ImagePullSecretSpec) {
		spec.TCR.TokenType = v1.TokenTypeLongTerm
		if c.keys != "" {
			spec.TCR.CredentialsSecretRef.Name = c.keys
		}
	})
	assert.Contains(w.T, w.isIssued(name, c.reason).Message, c.says)
	assert.Equal(w.T, metav1.ConditionTrue, w.ready(name, "Complete").Status)
	assert.Equal(w.T, before, must(w.Login("default", name, vpcDomain)), "the last good one stays")
	assert.NoError(w.T, w.letsIn(cloud, "default", name))
	return before
}

// renewsAgain has the same work again, and ends it.
func (w *world) renewsAgain(cloud *suite.Cloud, c failingRenewal) {
	w.T.Helper()
	name := c.object()
	before := must(w.Login("default", name, vpcDomain))
	if c.ends != nil {
		c.ends()
	}
	w.edit(name, func(spec *v1.ImagePullSecretSpec) { spec.TCR.CredentialsSecretRef.Name = "cam" })
	w.Eventually("it is issued anew", func() error {
		now, err := w.Login("default", name, vpcDomain)
		if err == nil && now == before {
			err = errors.New("it is the same")
		}
		return err
	})
	w.isIssued(name, "Issued")
	w.Kubectl("delete", "ipss", name)
	w.noTokens(cloud)
}

// TestWhatIsStoredIsIssuedWhileTheCloudIsAway has another leader come meanwhile, and then a namespace.
func TestWhatIsStoredIsIssuedWhileTheCloudIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cloud := w.StartCloud()
	m := w.run(cloud.Args...)
	w.Create("issued", suite.OfRegistry())
	w.ready("issued", "Complete")
	require.NoError(t, m.Kill())
	cloud.Fail("*", 0, standin.Failure{Refused: true})
	w.Kubectl("patch", "lease", "-n", manager.Namespace, "tcr-assistant-leader-election", "--type=merge",
		"-p", `{"spec":{"holderIdentity":""}}`)
	w.run(cloud.Args...)
	w.Namespace("late")
	w.Eventually("the new namespace holds it", func() error { return w.letsIn(cloud, "late", "issued") })
	w.isIssued("issued", "NoRoute")
	assert.Equal(t, metav1.ConditionTrue, w.ready("issued", "Complete").Status)
	cloud.Recover()
	w.isIssued("issued", "Issued")
	assert.Len(t, cloud.Tokens(suite.RegistryID), 1, "it is the same token")
}
