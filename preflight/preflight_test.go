package preflight

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"

	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/credential/records"
)

// server is an API server with one namespace. It allows what allows says, and fails the requests for which fail says so.
type server struct {
	t       *testing.T
	clients *clientset.Clientset
	allows  func(authorizationv1.ResourceAttributes) bool
	fail    func(w http.ResponseWriter, number int) bool

	mu     sync.Mutex
	number int
}

func newServer(t *testing.T) *server {
	s := &server{t: t, allows: func(authorizationv1.ResourceAttributes) bool { return true },
		fail: func(http.ResponseWriter, int) bool { return false }}
	listener := httptest.NewServer(s)
	t.Cleanup(listener.Close)
	var err error
	s.clients, err = clientset.New(&rest.Config{Host: listener.URL, QPS: -1}, listener.Client())
	require.NoError(t, err)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.number++
	if s.fail(w, s.number) {
		return
	}
	var answer any
	switch {
	case strings.HasSuffix(r.URL.Path, "/namespaces"):
		list := &corev1.NamespaceList{TypeMeta: metav1.TypeMeta{Kind: "NamespaceList", APIVersion: "v1"}}
		if r.URL.Query().Get("fieldSelector") == "metadata.name=home" {
			list.Items = []corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "home"}}}
		}
		answer = list
	default:
		body, err := io.ReadAll(r.Body)
		assert.NoError(s.t, err)
		review := &authorizationv1.SelfSubjectAccessReview{}
		_, _, err = serializer.NewCodecFactory(s.clients.Scheme()).UniversalDeserializer().Decode(body, nil, review)
		assert.NoError(s.t, err)
		asked := *review.Spec.ResourceAttributes
		review.TypeMeta = metav1.TypeMeta{Kind: "SelfSubjectAccessReview", APIVersion: "authorization.k8s.io/v1"}
		review.Status.Allowed = s.allows(asked)
		answer = review
	}
	w.Header().Set("Content-Type", "application/json")
	assert.NoError(s.t, json.NewEncoder(w).Encode(answer))
}

func (s *server) config(log io.Writer) Config {
	return Config{
		Log: slog.New(slog.NewTextHandler(log, nil)), Clients: s.clients, Namespace: "home", Signer: "example.com/signer", Lease: "lease",
		Role: "role", WebhookRole: "webhook-role", MutatingWebhookRole: "mutating-webhook-role",
		Owner: func(context.Context) (*metav1.OwnerReference, error) { return nil, nil },
	}
}

func status(w http.ResponseWriter, code int, reason metav1.StatusReason) bool {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure",
		Code: int32(code), Reason: reason, Message: string(reason)})
	return true
}

func TestRun(t *testing.T) {
	t.Run("all is there", func(t *testing.T) {
		var log bytes.Buffer
		require.NoError(t, Run(t.Context(), newServer(t).config(&log)))
		assert.Empty(t, log.String())
	})
	t.Run("an API server that fails has not answered", func(t *testing.T) {
		var log bytes.Buffer
		s := newServer(t)
		s.fail = func(w http.ResponseWriter, number int) bool {
			switch number {
			case 1:
				return status(w, http.StatusInternalServerError, metav1.StatusReasonInternalError)
			case 2:
				return status(w, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable)
			case 3, 8:
				panic(http.ErrAbortHandler) // the connection breaks
			case 6:
				return status(w, http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests)
			default:
				return false
			}
		}
		require.NoError(t, Run(t.Context(), s.config(&log)))
		assert.Contains(t, log.String(), "cluster was not checked")
	})
	t.Run("neither has one that cannot say who owns us", func(t *testing.T) {
		cfg, asked := newServer(t).config(io.Discard), 0
		cfg.Owner = func(context.Context) (*metav1.OwnerReference, error) {
			if asked++; asked < 3 {
				return nil, errors.New("connection refused")
			}
			return nil, nil
		}
		require.NoError(t, Run(t.Context(), cfg))
		assert.Equal(t, 3, asked)
	})
	t.Run("an API server that has just started refuses for a moment", func(t *testing.T) {
		s := newServer(t)
		s.fail = func(w http.ResponseWriter, number int) bool {
			return number < 3 && status(w, http.StatusForbidden, metav1.StatusReasonForbidden)
		}
		began := time.Now()
		s.allows = func(authorizationv1.ResourceAttributes) bool { return time.Since(began) > time.Second }
		require.NoError(t, Run(t.Context(), s.config(io.Discard)))
	})
	t.Run("what stays refused is the end", func(t *testing.T) {
		s := newServer(t)
		s.fail = func(w http.ResponseWriter, _ int) bool {
			return status(w, http.StatusForbidden, metav1.StatusReasonForbidden)
		}
		require.ErrorContains(t, Run(t.Context(), s.config(io.Discard)), "looking for namespace home (--namespace)")
	})
	t.Run("all that is missing is told at once", func(t *testing.T) {
		var log bytes.Buffer
		s := newServer(t)
		s.allows = func(asked authorizationv1.ResourceAttributes) bool {
			return asked.Verb != "create" && asked.Verb != "delete" && asked.Resource != "signers"
		}
		err := Run(t.Context(), s.config(&log))
		require.ErrorContains(t, err,
			"permission is missing: create mutatingwebhookconfigurations.admissionregistration.k8s.io "+
				"tcr-assistant-mutating-webhook-configuration (see ClusterRole mutating-webhook-role)")
		require.ErrorContains(t, err,
			"permission is missing: create secrets tcr-assistant-webhook-server-cert (see Role tcr-assistant-webhook-server-cert-role)")
		assert.NotContains(t, err.Error(), "certificatesigningrequests", "that can be done without")
		for _, part := range []string{"verb=create resource=certificatesigningrequests", "verb=approve resource=\"signers",
			"verb=delete resource=\"validatingwebhookconfigurations"} {
			assert.Equal(t, 1, strings.Count(log.String(), part), part)
		}
	})
	t.Run("nothing of the webhook is missing where there is none", func(t *testing.T) {
		ours := func(asked authorizationv1.ResourceAttributes) bool {
			return asked.Group != "admissionregistration.k8s.io" && asked.Group != "certificates.k8s.io" &&
				(asked.Resource != "secrets" || asked.Name == "") && asked.Group != "rbac.authorization.k8s.io"
		}
		var log bytes.Buffer
		s := newServer(t)
		s.allows = ours
		cfg := s.config(&log)
		cfg.WebhookRole, cfg.MutatingWebhookRole = "", ""
		require.NoError(t, Run(t.Context(), cfg))
		assert.Empty(t, log.String())
	})
	t.Run("nor of the mutating configuration where there is none", func(t *testing.T) {
		s := newServer(t)
		s.allows = func(asked authorizationv1.ResourceAttributes) bool {
			return asked.Resource != "mutatingwebhookconfigurations" && asked.Name != "mutating-webhook-role"
		}
		cfg := s.config(io.Discard)
		cfg.MutatingWebhookRole = ""
		require.NoError(t, Run(t.Context(), cfg))
	})
	t.Run("a namespace that is not there is the end", func(t *testing.T) {
		cfg := newServer(t).config(io.Discard)
		cfg.Namespace = "nowhere"
		require.ErrorContains(t, Run(t.Context(), cfg), "looking for namespace nowhere (--namespace): it does not exist")
	})
}

// grant is a verb on a resource that a role of the manifests gives.
type grant struct{ role, verb, resource, name string }

// installed returns what the roles of the all-in-one manifests grant. Those of other installations are some of them.
func installed(t *testing.T) (grants []grant) {
	t.Helper()
	manifest, err := os.ReadFile("../deploy/allinone/tcr-assistant.yaml")
	require.NoError(t, err)
	for decoder := yaml.NewYAMLToJSONDecoder(bytes.NewReader(manifest)); ; {
		var role rbacv1.ClusterRole // a Role has the same shape
		if err := decoder.Decode(&role); errors.Is(err, io.EOF) {
			return grants
		} else {
			require.NoError(t, err)
		}
		if role.Kind != "ClusterRole" && role.Kind != "Role" {
			continue
		}
		for _, rule := range role.Rules {
			for _, verb := range rule.Verbs {
				for _, resource := range rule.Resources {
					grants = append(grants, grant{role.Kind + " " + role.Name, verb,
						schema.GroupResource{Group: rule.APIGroups[0], Resource: resource}.String(), strings.Join(rule.ResourceNames, ",")})
				}
			}
		}
	}
}

// TestPermissions holds what is asked for, and the role that is named where it is missing, against what the roles grant: all of it but
// the role itself, which Owner reads.
func TestPermissions(t *testing.T) {
	granted := slices.DeleteFunc(installed(t), func(g grant) bool {
		return g.verb == "get" && g.name == "tcr-assistant-manager-role"
	})
	for name, test := range map[string]struct {
		secrets, webhook, mutating, lease string
		lacks                             []string // the roles that such an installation does not have, or has nothing of that sort in
	}{
		"with all there is": {"tcr-assistant-secrets-role", "tcr-assistant-webhook-role", "tcr-assistant-mutating-webhook-role",
			"tcr-assistant-leader-election", nil},
		"a webhook that validates": {"tcr-assistant-secrets-role", "tcr-assistant-webhook-role", "", "tcr-assistant-leader-election",
			[]string{"tcr-assistant-mutating-webhook-role"}},
		"without a webhook": {"tcr-assistant-secrets-role", "", "", "tcr-assistant-leader-election", []string{"webhook"}},
		"without a role for Secrets": {"", "tcr-assistant-webhook-role", "tcr-assistant-mutating-webhook-role", "tcr-assistant-leader-election",
			[]string{"tcr-assistant-secrets-role", "tcr-assistant-manager-role create secrets"}},
		"neither": {"", "", "", "tcr-assistant-leader-election",
			[]string{"webhook", "tcr-assistant-secrets-role", "tcr-assistant-manager-role create secrets"}},
		"one replica": {"tcr-assistant-secrets-role", "tcr-assistant-webhook-role", "tcr-assistant-mutating-webhook-role", "",
			[]string{"tcr-assistant-leader-election-role"}},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []grant
			config := Config{Signer: "kubernetes.io/kubelet-serving", Lease: test.lease, SecretsRole: test.secrets,
				Role: "tcr-assistant-manager-role", WebhookRole: test.webhook, MutatingWebhookRole: test.mutating, Tokens: records.Names(),
				HostsUpdater: "home"}
			for _, needed := range config.permissions() {
				resource := needed.resource
				if needed.subresource != "" {
					resource += "/" + needed.subresource
				}
				for verb := range strings.SplitSeq(needed.verbs, ",") {
					asked = append(asked, grant{needed.role, verb, schema.GroupResource{Group: needed.group, Resource: resource}.String(),
						needed.name + needed.others})
				}
			}
			want := slices.DeleteFunc(slices.Clone(granted), func(g grant) bool {
				return slices.ContainsFunc(test.lacks, func(lack string) bool {
					return strings.Contains(fmt.Sprintln(g.role, g.verb, g.resource, g.name), lack)
				})
			})
			assert.ElementsMatch(t, want, asked)
		})
	}
}
