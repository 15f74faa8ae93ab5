package reconcile

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// byName has the Secrets of r watched by their name, without anybody who tells.
func (r *rig) byName() *namedWatch {
	watch := &namedWatch{time.Now(), func() {}}
	r.secrets.named["r"] = watch
	return watch
}

func TestALateRelistOfARetiredWatchSaysNothing(t *testing.T) {
	r := newRig(t, nil)
	r.state.ReplaceIssued(nil, latest.Relist{Version: 1})
	late := r.secrets.storeOf("r", r.byName())
	r.secrets.retire("r")
	require.NoError(t, late.Replace([]any{&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "tcr.ipsr", ResourceVersion: "8"}}}, "9"))
	require.NoError(t, late.Update(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "b", Name: "tcr.ipsr", ResourceVersion: "10"}}))
	assert.False(t, r.state.Watched("tcr.ipsr"))
	assert.Empty(t, r.state.Foreign())
	assert.Equal(t, plan.Whole(), r.state.PutIssued("a", plan.Secret{Name: "tcr.ipsr", Version: 20, Managed: true}), "the watch of all is heard")
}

func TestANameIsWatchedByItselfOnlyWhileOthersHaveASecretOfIt(t *testing.T) {
	r := newRig(t, nil)
	r.state.ReplaceIssued(nil, latest.Relist{Version: 1})
	told, now := r.secrets.storeOf("r", r.byName()), time.Now()
	r.state.ForgetSecrets("tcr.ipsr")
	assert.Empty(t, r.secrets.unneeded(now.Add(minNamedWatch)), "it has not told what there is yet")
	require.NoError(t, told.Replace([]any{&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "tcr.ipsr", ResourceVersion: "8"}}}, "9"))
	assert.Empty(t, r.secrets.unneeded(now.Add(minNamedWatch)), "somebody else has one")
	require.NoError(t, told.Update(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Namespace: "a", Name: "tcr.ipsr", ResourceVersion: "10", Labels: map[string]string{v1.ManagedByLabel: v1.ManagedByValue},
	}}))
	assert.Empty(t, r.secrets.unneeded(now.Add(minNamedWatch/2)))
	assert.Equal(t, []string{"r"}, r.secrets.unneeded(now.Add(minNamedWatch+time.Second)))
}

func TestOneNegativeAnswerAtTheStartIsNotForTheWholeTerm(t *testing.T) {
	var mu sync.Mutex
	reviews, byLabel := 0, false
	r := newRig(t, nil)
	r.answers(func(request *http.Request) any {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case strings.HasSuffix(request.URL.Path, "/selfsubjectaccessreviews"):
			reviews++
			return &authorizationv1.SelfSubjectAccessReview{
				TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SelfSubjectAccessReview"},
				Status:   authorizationv1.SubjectAccessReviewStatus{Allowed: reviews > 1},
			}
		case request.URL.Query().Get("labelSelector") != "":
			byLabel = true
		}
		return metav1.Status{Code: http.StatusInternalServerError}
	})
	ctx, cancel := context.WithCancel(t.Context())
	r.watchers.Go(func() { r.secrets.run(ctx, func() {}) })
	assert.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return byLabel }, time.Minute, 10*time.Millisecond)
	cancel()
	r.watchers.Wait()
}

func TestAMissingPermissionToWatchThousandsOfNamesIsOneLine(t *testing.T) {
	r := newRig(t, nil)
	for i := range 100 {
		r.answered("secrets", fmt.Sprint("tcr.ips", i))("list", apierrors.NewForbidden(corev1.Resource("secrets"), "", nil))
		r.answered("secrets", "tcr.ipsgood")("list", nil)
	}
	assert.Equal(t, 1, strings.Count(r.log.String(), "permission is missing"))
}

func TestThoseThatEndAreKnownWithoutALook(t *testing.T) {
	r := newWatchedRig(t, nil)
	r.byName()
	assert.Empty(t, r.secrets.retiring())
	r.Index.Remove("r")
	assert.Equal(t, []string{"r"}, r.secrets.retiring())
	r.Index.Put(readable("x", 2))
	assert.Empty(t, r.secrets.retiring(), "it is there again")
}

func TestOneThatIsThereAgainKeepsItsWatchHoweverClose(t *testing.T) {
	r := newWatchedRig(t, nil)
	r.watching(0)
	t.Cleanup(r.watchers.Wait)
	for i := range 5000 {
		r.state.PutNamespace(plan.NamespaceMeta{Name: fmt.Sprint("n", i), UID: "uid", Live: true}) // to look for what is left of it takes a while
	}
	r.secrets.byName = true
	for range 50 {
		r.Index.Put(readable("x", 2))
		r.Index.Remove("r")
		begun, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			close(begun)
			r.retire("r")
		}()
		<-begun
		r.Index.Put(readable("x", 3))
		<-done
		require.True(t, r.secrets.watches("r"), "nobody would tell of its Secrets any more")
	}
}

func TestOneThatGoesBeforeItsWatchBeginsEndsItToo(t *testing.T) {
	r := newWatchedRig(t, nil)
	r.watching(0)
	t.Cleanup(r.watchers.Wait)
	r.Index.Remove("r")
	r.secrets.watch(t.Context(), "r") // whoever asks saw it a moment ago
	assert.Equal(t, []string{"r"}, r.secrets.retiring())
	r.Index.Put(readable("x", 2))
	assert.Empty(t, r.secrets.retiring())
}

func TestSecretsOfANameComeInPagesWhereThereMayBeMany(t *testing.T) {
	for name, tc := range map[string]struct {
		spec  v1.ImagePullSecretSpec
		pages bool
	}{
		"every namespace":          {v1.ImagePullSecretSpec{Namespaces: "*"}, true},
		"all but one":              {v1.ImagePullSecretSpec{ExcludedNamespaces: []v1.NamespaceName{"a"}}, true},
		"a label":                  {v1.ImagePullSecretSpec{NamespaceSelector: &v1.LabelSelector{MatchLabels: map[string]v1.LabelValue{"a": "b"}}}, true},
		"a label, or one by name":  {v1.ImagePullSecretSpec{Namespaces: "a", NamespaceSelector: &v1.LabelSelector{MatchLabels: map[string]v1.LabelValue{"a": "b"}}}, true},
		"two by name":              {v1.ImagePullSecretSpec{Namespaces: "a,b"}, false},
		"as many as can be held":   {v1.ImagePullSecretSpec{Namespaces: named(fewNamespaces)}, false},
		"more than that":           {v1.ImagePullSecretSpec{Namespaces: named(fewNamespaces + 1)}, true},
		"what nobody can read now": {v1.ImagePullSecretSpec{Namespaces: "team-*"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			tc.spec.Docker = v1.DockerCredential{Username: "u", Password: "p", Server: "r.example.com"}
			r.Index.Put(&v1.ImagePullSecret{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Spec: tc.spec})
			options := metav1.ListOptions{Limit: 500}
			r.secrets.narrow("r")(&options)
			assert.Equal(t, "metadata.name=tcr.ipsr", options.FieldSelector)
			assert.Equal(t, tc.pages, options.Limit == 500)
		})
	}
}

// named returns a list of that many names.
func named(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint("n", i)
	}
	return strings.Join(names, ",")
}
