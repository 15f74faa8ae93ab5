package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// TestSecretsThatOthersKeep writes a Secret the way each of these does it: in the place of the one before, with what they put into it
// besides, or deleted and made anew.
func TestSecretsThatOthersKeep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	owner := w.Apply(`{apiVersion: v1, kind: ConfigMap, metadata: {name: owner, namespace: tcr-assistant-system}}`, "-o",
		"jsonpath={.metadata.uid}")
	owned := fmt.Sprintf(`[{apiVersion: v1, kind: ConfigMap, name: owner, uid: %s, controller: true, blockOwnerDeletion: true}]`, owner)
	config := func(password string) string {
		return fmt.Sprintf(`{"auths":{"https://kept.example.com":{"username":"robot","password":%q}}}`, password)
	}
	kept := map[string]func(password string) (manifest string){
		// External Secrets, by creationPolicy Owner and a template.
		"external": func(password string) string {
			return fmt.Sprintf(`{apiVersion: v1, kind: Secret, type: kubernetes.io/dockerconfigjson,
				metadata: {name: external, namespace: tcr-assistant-system, ownerReferences: %s,
				labels: {reconcile.external-secrets.io/managed: "true"}, annotations: {reconcile.external-secrets.io/data-hash: %q}},
				immutable: false, stringData: {.dockerconfigjson: %q}}`, owned, password, config(password))
		},
		// Sealed Secrets, with a template of type basic-auth.
		"sealed": func(password string) string {
			return fmt.Sprintf(`{apiVersion: v1, kind: Secret, type: kubernetes.io/basic-auth,
				metadata: {name: sealed, namespace: tcr-assistant-system, ownerReferences: %s},
				stringData: {username: robot, password: %q}}`, owned, password)
		},
		// Vault Secrets Operator, which adds all that it has read.
		"vault": func(password string) string {
			return fmt.Sprintf(`{apiVersion: v1, kind: Secret, type: kubernetes.io/basic-auth,
				metadata: {name: vault, namespace: tcr-assistant-system, labels: {app.kubernetes.io/managed-by: hashicorp-vso}},
				stringData: {username: robot, password: %q, _raw: "{}"}}`, password)
		},
	}
	for name, manifest := range kept {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.T = t
			w.Apply(manifest("hidden-1"), "--server-side")
			object := w.Create(name, from(name), func(spec *v1.ImagePullSecretSpec) { spec.Docker.Server = "kept.example.com" })
			w.Eventually("it is issued", w.issued(object, "hidden-1", "default"))
			before := w.secretOf("default", object)

			out, err := w.Pipe("---\n"+manifest("hidden-2"), "replace", "-f", "-")
			require.NoError(t, err, out)
			w.Within(5*time.Second, "it is issued", w.issued(object, "hidden-2", "default"))
			w.Apply(manifest("hidden-3"), "--server-side", "--force-conflicts", "--field-manager=kustomize-controller")
			w.Eventually("it is issued", w.issued(object, "hidden-3", "default"))
			w.Kubectl("delete", "secret", name, "-n", manager.Namespace)
			w.ready(name, "CredentialUnread")
			require.NoError(t, w.issued(object, "hidden-3", "default")(), "it stays issued")
			out, err = w.Pipe("---\n"+manifest("hidden-4"), "create", "-f", "-")
			require.NoError(t, err, out)
			w.Eventually("it is issued", w.issued(object, "hidden-4", "default"))
			out, err = w.Pipe("---\n"+manifest("hidden-5"), "replace", "--force", "-f", "-") // deleted and made anew at once
			require.NoError(t, err, out)
			w.Eventually("it is issued", w.issued(object, "hidden-5", "default"))
			w.ready(name, "Complete")
			assert.Equal(t, before.UID, w.secretOf("default", object).UID, "pods never missed it")
		})
	}
}

// TestAccountsThatOthersReplace puts a ServiceAccount as it stands elsewhere, whole, as those do that carry objects into clusters.
func TestAccountsThatOthersReplace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.Namespace("team")
	w.Create("central")
	w.Holds("team", "central")
	w.attaches("central")
	for name, entries := range map[string]string{"without-entries": "", "with-entries": ", imagePullSecrets: [{name: theirs}]"} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.T = t
			want := []string{"tcr.ipscentral"}
			if entries != "" {
				want = append([]string{"theirs"}, want...)
			}
			manifest := fmt.Sprintf("{apiVersion: v1, kind: ServiceAccount, metadata: {name: %s, namespace: team}%s}", name, entries)
			out, err := w.Pipe("---\n"+manifest, "create", "-f", "-")
			require.NoError(t, err, out)
			began := time.Now()
			for range 3 {
				out, err = w.Pipe("---\n"+manifest, "replace", "-f", "-")
				require.NoError(t, err, out)
				assert.Equal(t, want, w.Entries("team", name))
			}
			writes, err := w.Requests(func(r cluster.Request) bool {
				return r.User == manager.User && r.Namespace == "team" && r.Resource == "serviceaccounts" && r.Verb == "patch" &&
					r.Received.After(began)
			})
			require.NoError(t, err)
			assert.Empty(t, writes, "the manager has nothing to repair")
		})
	}
}
