package integration

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

// from has the credential stand in a Secret of the manager's namespace.
func from(secret string, additionalServers ...string) suite.Edit {
	return func(spec *v1.ImagePullSecretSpec) {
		spec.Docker.Username, spec.Docker.Password = "", ""
		spec.Docker.SecretRef, spec.Docker.AdditionalServers = &v1.SecretReference{Name: secret}, additionalServers
	}
}

// basicAuth is a Secret of a user "robot".
func basicAuth(name, password string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: manager.Namespace},
		Type:       corev1.SecretTypeBasicAuth,
		StringData: map[string]string{"username": "robot", "password": password},
	}
}

// put writes a Secret, in the place of the one that there may be.
func (w *world) put(secret *corev1.Secret) {
	w.T.Helper()
	secrets := w.Client.CoreV1().Secrets(secret.Namespace)
	_, err := secrets.Update(w.Ctx, secret, metav1.UpdateOptions{})
	if err != nil {
		_ = secrets.Delete(w.Ctx, secret.Name, metav1.DeleteOptions{})
		_, err = secrets.Create(w.Ctx, secret, metav1.CreateOptions{})
	}
	require.NoError(w.T, err)
}

// issued returns an error unless namespaces hold the Secret of an ImagePullSecret with that password of the user "robot".
func (w *world) issued(object *v1.ImagePullSecret, password string, namespaces ...string) func() error {
	docker := object.Spec.Docker
	docker.Username, docker.Password = "robot", password
	want := pullsecret.Render(docker)
	return func() error {
		for _, namespace := range namespaces {
			secret, err := w.Client.CoreV1().Secrets(namespace).Get(w.Ctx, pullsecret.SecretName(object.Name), metav1.GetOptions{})
			if err != nil {
				return err
			}
			if !bytes.Equal(secret.Data[corev1.DockerConfigJsonKey], want) {
				return fmt.Errorf("namespace %s holds another credential", namespace)
			}
		}
		return nil
	}
}

// ready waits until the condition Ready has that reason, and returns it.
func (w *world) ready(name, reason string) metav1.Condition {
	w.T.Helper()
	var ready metav1.Condition
	w.Status(name, func(status v1.ImagePullSecretStatus) error {
		if found := meta.FindStatusCondition(status.Conditions, v1.ConditionReady); found != nil {
			ready = *found
		}
		if ready.Reason != reason {
			return fmt.Errorf("it is %s: %s", ready.Reason, ready.Message)
		}
		return nil
	})
	return ready
}

func TestACredentialStandsInASecret(t *testing.T) {
	w := newWorld(t)
	w.run()
	teams := []string{"team-0", "team-1", "team-2", "team-3", "team-4"}
	for _, name := range teams {
		w.Namespace(name)
	}
	w.put(basicAuth("ref", "hidden-1"))
	object := w.Create("referring", from("ref", "referring-vpc.example.com"))
	w.Eventually("it is issued", w.issued(object, "hidden-1", teams...))
	w.ready("referring", "Complete")

	t.Run("the status says where it stands", func(t *testing.T) {
		status := w.Status("referring", func(v1.ImagePullSecretStatus) error { return nil })
		require.NotNil(t, status.Credential)
		assert.Equal(t, "Secret/ref", status.Credential.Source)
		assert.WithinDuration(t, time.Now(), status.Credential.IssuedAt.Time, time.Minute)
	})
	t.Run("a change is issued everywhere within a second, in place", func(t *testing.T) {
		before, err := w.Client.CoreV1().Secrets("team-0").Get(w.Ctx, "tcr.ipsreferring", metav1.GetOptions{})
		require.NoError(t, err)
		w.put(basicAuth("ref", "hidden-2"))
		w.Within(time.Second, "it is issued", w.issued(object, "hidden-2", teams...))
		after, err := w.Client.CoreV1().Secrets("team-0").Get(w.Ctx, "tcr.ipsreferring", metav1.GetOptions{})
		require.NoError(t, err)
		assert.Equal(t, before.UID, after.UID)
	})
	t.Run("two that refer to one Secret get what each is for", func(t *testing.T) {
		another := w.Create("another", from("ref"), suite.InNamespaces("team-0"))
		w.Eventually("it is issued", w.issued(another, "hidden-2", "team-0"))
		w.Kubectl("delete", "ipss", "another")
		w.Lacks("team-0", "another")
	})
	t.Run("the webhook's certificate is none", func(t *testing.T) {
		w.Create("mistaken", from("tcr-assistant-webhook-server-cert"), suite.InNamespaces("team-0"))
		assert.Contains(t, w.ready("mistaken", "CredentialUnread").Message, "is of a type that holds no credential")
		w.Kubectl("delete", "ipss", "mistaken")
	})
	t.Run("another selection goes on with it", func(t *testing.T) {
		w.Namespace("late")
		w.Eventually("it is issued", w.issued(object, "hidden-2", "late"))
		w.Lists("late", "default", "tcr.ipsreferring")
	})
	t.Run("another reference takes its credential, and an inline one its own", func(t *testing.T) {
		w.put(basicAuth("ref-b", "hidden-3"))
		w.edit("referring", from("ref-b", "referring-vpc.example.com"))
		w.Eventually("it is issued", w.issued(object, "hidden-3", teams...))
		w.edit("referring", func(spec *v1.ImagePullSecretSpec) {
			spec.Docker.SecretRef, spec.Docker.Username, spec.Docker.Password = nil, "robot", "hidden-4"
		})
		w.Eventually("it is issued", w.issued(object, "hidden-4", teams...))
		status := w.Status("referring", func(status v1.ImagePullSecretStatus) error {
			if status.Credential.Source != "Inline" {
				return errors.New(status.Credential.Source)
			}
			return nil
		})
		assert.Nil(t, meta.FindStatusCondition(status.Conditions, "CredentialIssued"))
		w.edit("referring", from("ref", "referring-vpc.example.com"))
		w.Eventually("it is issued", w.issued(object, "hidden-2", teams...))
	})
}

// TestTheObjectShowsNoPassword applies one as users do, and looks for what stands in its Secret.
func TestTheObjectShowsNoPassword(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.run()
	w.put(basicAuth("ref", "hidden-password"))
	object := suite.Sample("applied", from("ref"))
	object.APIVersion, object.Kind = "tcr.tencentcloudcr.com/v1", "ImagePullSecret"
	text, err := yaml.Marshal(object)
	require.NoError(t, err)
	w.Apply(string(text))
	w.Eventually("it is issued", w.issued(object, "hidden-password", "default"))
	w.ready("applied", "Complete")
	w.put(basicAuth("ref", "hidden:password\n")) // what is told of a bad one is told without it, too
	w.ready("applied", "CredentialUnread")
	encoded := base64.StdEncoding.EncodeToString([]byte("hidden"))[:7]
	for what, text := range map[string]string{
		"kubectl get -o yaml": w.Kubectl("get", "ipss", "applied", "-o", "yaml", "--show-managed-fields"),
		"kubectl describe":    w.Kubectl("describe", "ipss", "applied"),
		"the events":          w.Kubectl("get", "events", "-A", "-o", "yaml"),
		"what is derived":     w.Kubectl("get", "derivedattachments", "-o", "yaml"),
		"the log":             m.Log(),
	} {
		assert.NotContains(t, text, "hidden", what)
		assert.NotContains(t, text, encoded, what)
	}
}

func TestACredentialThatCannotBeRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.Namespace("team")
	w.put(basicAuth("ref", "hidden"))
	object := w.Create("referring", from("ref"))
	w.Eventually("it is issued", w.issued(object, "hidden", "team"))
	dockerConfig := func(config string) *corev1.Secret {
		secret := basicAuth("ref", "")
		secret.Type, secret.StringData = corev1.SecretTypeDockerConfigJson, map[string]string{corev1.DockerConfigJsonKey: config}
		return secret
	}
	opaque := basicAuth("ref", "hidden")
	opaque.Type = corev1.SecretTypeOpaque
	blank := basicAuth("ref", "hidden")
	blank.StringData = map[string]string{"password": "hidden"}
	for i, broken := range []struct {
		what   string
		secret *corev1.Secret
		says   string
	}{
		{"missing", nil, "secret tcr-assistant-system/ref does not exist"},
		{"of another type", opaque, "is of type Opaque"},
		{"without the server", dockerConfig(`{"auths":{"elsewhere.example.com":{"username":"robot","password":"hidden"}}}`),
			"holds no entry for referring.example.com"},
		{"garbage", dockerConfig(`{"auths":{"referring.example.com":{"auth":"aGlkZGVu"}}}`), "that is no user name and password"},
		{"an identity token", dockerConfig(`{"auths":{"referring.example.com":{"identitytoken":"hidden"}}}`),
			"holds an identity or registry token"},
		{"without a user name", blank, "user name must not be blank"},
	} {
		t.Run(broken.what, func(t *testing.T) {
			w.T = t
			before := w.secretOf("team", object)
			if broken.secret == nil {
				w.Kubectl("delete", "secret", "ref", "-n", manager.Namespace)
			} else {
				w.put(broken.secret)
			}
			condition := w.ready("referring", "CredentialUnread")
			assert.Contains(t, condition.Message, broken.says)
			assert.Contains(t, condition.Message, "what was issued before is left as it is")
			assert.Equal(t, before.ResourceVersion, w.secretOf("team", object).ResourceVersion)
			born := fmt.Sprintf("born-%d", i)
			w.Namespace(born)
			w.Lists(born, "default", "tcr.ipsreferring")
			w.Status("referring", func(status v1.ImagePullSecretStatus) error {
				if status.SecretsDesired-status.SecretsSuccess != 1 {
					return fmt.Errorf("%d of %d", status.SecretsSuccess, status.SecretsDesired)
				}
				return nil
			})
			w.Lacks(born, "referring")
			w.Status("referring", func(status v1.ImagePullSecretStatus) error {
				if len(status.Failures) != 1 {
					return fmt.Errorf("something else was tried: %v", status.Failures)
				}
				return nil
			})

			password := fmt.Sprintf("hidden-%d", i)
			w.put(basicAuth("ref", password))
			w.Eventually("it goes on", w.issued(object, password, "team", born))
			assert.Equal(t, before.UID, w.secretOf("team", object).UID, "it never went")
			w.ready("referring", "Complete")
		})
	}
	w.T = t
	t.Run("what is not selected any more goes nevertheless", func(t *testing.T) {
		w.T = t
		w.Kubectl("delete", "secret", "ref", "-n", manager.Namespace)
		w.ready("referring", "CredentialUnread")
		w.edit("referring", suite.InNamespaces("born-0"))
		w.Lacks("team", "referring")
		w.Lists("team", "default")
		w.Lists("born-0", "default", "tcr.ipsreferring")
	})
}

// secretOf returns the Secret of an ImagePullSecret in a namespace.
func (w *world) secretOf(namespace string, object *v1.ImagePullSecret) *corev1.Secret {
	w.T.Helper()
	secret, err := w.Client.CoreV1().Secrets(namespace).Get(w.Ctx, pullsecret.SecretName(object.Name), metav1.GetOptions{})
	require.NoError(w.T, err)
	return secret
}

// TestAReferenceThatBreaksWhileNobodyLeads starts a manager that has never seen the credential that is issued.
func TestAReferenceThatBreaksWhileNobodyLeads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.run()
	w.Namespace("team")
	w.put(basicAuth("ref", "hidden"))
	object := w.Create("referring", from("ref"))
	w.Eventually("it is issued", w.issued(object, "hidden", "team"))
	w.ready("referring", "Complete")
	before := w.secretOf("team", object)
	require.NoError(t, m.Stop())
	w.Kubectl("delete", "secret", "ref", "-n", manager.Namespace)
	w.run()
	w.ready("referring", "CredentialUnread")
	w.Namespace("late")
	w.Lists("late", "default", "tcr.ipsreferring")
	w.Lists("team", "default", "tcr.ipsreferring")
	assert.Equal(t, before.ResourceVersion, w.secretOf("team", object).ResourceVersion)
	w.Lacks("late", "referring")
	w.put(basicAuth("ref", "hidden-again"))
	w.Eventually("it goes on", w.issued(object, "hidden-again", "team", "late"))
	w.ready("referring", "Complete")
}

func TestReferencesWithoutPermission(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.refusals = true
	w.permit("secrets", "get", "create", "patch", "delete") // those of the whole cluster may not be listed
	role := w.Kubectl("get", "rolebinding", "tcr-assistant-credentials-rolebinding", "-n", manager.Namespace, "-o", "yaml")
	w.Kubectl("delete", "rolebinding", "tcr-assistant-credentials-rolebinding", "-n", manager.Namespace)
	m := w.run()
	w.put(basicAuth("ref", "hidden"))
	object := w.Create("referring", from("ref"))
	condition := w.ready("referring", "CredentialUnread")
	assert.Contains(t, condition.Message, "grant it the verbs list and watch on them there, by the Role tcr-assistant-credentials-role")
	assert.Contains(t, m.Log(), "get no credential")
	w.Create("inline")
	w.Holds("default", "inline")
	w.Apply(role)
	w.Eventually("it goes on", w.issued(object, "hidden", "default"))
}

// TestManyReferencesCostOneWatch counts what many ImagePullSecrets ask for that refer to as many Secrets.
func TestManyReferencesCostOneWatch(t *testing.T) {
	t.Parallel()
	const many = 200
	w := newWorld(t)
	w.run()
	w.Namespace("team")
	watches := func() (all, named int) {
		requests, err := w.Requests(func(r cluster.Request) bool {
			return r.User == manager.User && r.Resource == "secrets" && strings.Contains(r.URI, "/namespaces/"+manager.Namespace+"/") &&
				strings.Contains(r.URI, "type")
		})
		require.NoError(t, err)
		for _, request := range requests {
			if strings.Contains(request.URI, "metadata.name") {
				named++
			} else if request.Verb == "watch" {
				all++
			}
		}
		return all, named
	}
	before := w.openWatches()
	all, named := watches()
	assert.Zero(t, all+named, "nothing is asked for while nobody refers to a Secret")
	var objects []*v1.ImagePullSecret
	for i := range many {
		name := fmt.Sprintf("ref-%04d", i)
		w.put(basicAuth(name, "hidden-"+name))
		objects = append(objects, w.Create(name, from(name), suite.InNamespaces("team")))
	}
	for _, object := range objects {
		w.Eventually("it is issued", w.issued(object, "hidden-"+object.Name, "team"))
	}
	all, named = watches()
	assert.LessOrEqual(t, all, 2, "the first may end once it has told what there is")
	assert.LessOrEqual(t, named, many, "each is looked up once at most")
	assert.Equal(t, before+1, w.openWatches(), "it is still open")
	t.Logf("%d ImagePullSecrets: %d watches, %d lists by name", many, all, named)
	w.put(basicAuth(objects[7].Name, "hidden-again"))
	w.Within(time.Second, "it is issued", w.issued(objects[7], "hidden-again", "team"))
	t.Run("none is left once nobody refers to one", func(t *testing.T) {
		w.Kubectl("delete", "ipss", "--all", "--wait=false")
		w.Eventually("it is closed", func() error {
			if open := w.openWatches(); open != before {
				return fmt.Errorf("%d are open, and %d were", open, before)
			}
			return nil
		})
	})
}

// openWatches counts the watches of the Secrets of one namespace that are open.
func (w *world) openWatches() (open int) {
	w.T.Helper()
	for line := range strings.Lines(w.Kubectl("get", "--raw", "/metrics")) {
		if strings.HasPrefix(line, "apiserver_longrunning_requests{") && strings.Contains(line, `resource="secrets",scope="namespace"`) {
			_, err := fmt.Sscan(line[strings.LastIndex(line, " ")+1:], &open)
			require.NoError(w.T, err, line)
		}
	}
	return open
}
