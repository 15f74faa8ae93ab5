package uninstall

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/clientset"
)

func TestPatch(t *testing.T) {
	for _, test := range []struct {
		name     string
		list     []string
		unwanted []string
		want     string
	}{
		{"an account without entries needs no patch", nil, []string{"tcr.ipsa"}, ""},
		{"foreign entries need no patch", []string{"theirs", "tcr.ipsforeign"}, []string{"tcr.ipsa"}, ""},
		{"the last goes first, so that each index means what it meant", []string{"tcr.ipsa", "theirs", "tcr.ipsb"},
			[]string{"tcr.ipsa", "tcr.ipsb"},
			`[{"op":"replace","path":"/metadata/resourceVersion","value":"7"},{"op":"remove","path":"/imagePullSecrets/2"},{"op":"remove","path":"/imagePullSecrets/0"}]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "a", ResourceVersion: "7"}}
			for _, name := range test.list {
				account.ImagePullSecrets = append(account.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
			}
			body, err := patch(account, func(name string) bool { return slices.Contains(test.unwanted, name) })
			require.NoError(t, err)
			assert.Equal(t, test.want, string(body))
		})
	}
}

// maxOperations is how many operations of a JSON patch an API server takes.
const maxOperations = 10_000

// world is an API server in memory. It speaks no network, so that its time can be that of a test.
type world struct {
	mu       sync.Mutex
	asked    map[string]int // "VERB path"
	objects  []v1.ImagePullSecret
	secrets  map[string]*corev1.Secret // by namespace/name; nil is one that may not be read
	accounts []corev1.ServiceAccount
	refused  bool // whether accounts may not be listed
	hiccups  int  // how many deletions are answered 500 first
	proxy    bool // whether something between answers for Secrets that there is no such page
	grants   *grants
}

// grants are those of a role that lists Secrets, each for a while.
type grants struct {
	mu     sync.Mutex
	until  map[string]time.Time
	unsure map[string]int // how often a name is refused although it is listed
}

func (g *grants) Borrow(_ context.Context, names ...string) error {
	time.Sleep(50 * time.Millisecond)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, name := range names {
		g.until[name] = time.Now().Add(10 * time.Second)
	}
	return nil
}

// refuses reports whether a Secret may not be read now. To ask takes a moment.
func (g *grants) refuses(name string) bool {
	if g == nil {
		return false
	}
	time.Sleep(10 * time.Millisecond)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unsure[name]--
	return g.unsure[name] >= 0 || time.Now().After(g.until[name])
}

func (w *world) RoundTrip(request *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked[request.Method+" "+request.URL.Path]++
	object := w.answer(request)
	answer := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Request: request}
	if status, ok := object.(metav1.Status); ok {
		status.TypeMeta, status.Status = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, metav1.StatusFailure
		answer.StatusCode, object = int(status.Code), status
	}
	body, err := json.Marshal(object)
	if w.proxy && strings.Contains(request.URL.Path, "/secrets/") {
		answer.StatusCode, body = http.StatusNotFound, []byte("no such page")
		answer.Header.Set("Content-Type", "text/plain")
	}
	answer.Body = io.NopCloser(bytes.NewReader(body))
	return answer, err
}

func (w *world) answer(request *http.Request) any {
	path := strings.Split(request.URL.Path, "/")
	forbidden := metav1.Status{Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: "it is forbidden"}
	switch {
	case path[1] == "apis" && path[4] == "derivedattachments":
		return v1.DerivedAttachmentsList{TypeMeta: metav1.TypeMeta{APIVersion: v1.GroupVersion.String(), Kind: "DerivedAttachmentsList"}}
	case request.Method == http.MethodDelete && w.hiccups > 0:
		w.hiccups--
		return metav1.Status{Code: http.StatusInternalServerError, Reason: metav1.StatusReasonInternalError, Message: "etcd has no leader"}
	case path[1] == "apis" && request.Method == http.MethodDelete:
		w.objects = slices.DeleteFunc(w.objects, func(o v1.ImagePullSecret) bool { return o.Name == path[5] && len(o.Finalizers) == 0 })
		for i := range w.objects {
			w.objects[i].DeletionTimestamp = &metav1.Time{Time: time.Unix(1_800_000_000, 0)}
		}
		return metav1.Status{Code: http.StatusOK}
	case path[1] == "apis":
		return v1.ImagePullSecretList{TypeMeta: metav1.TypeMeta{APIVersion: v1.GroupVersion.String(), Kind: "ImagePullSecretList"},
			Items: w.objects}
	case len(path) == 4 && w.refused:
		return forbidden
	case len(path) == 4:
		return corev1.ServiceAccountList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccountList"}, Items: w.accounts}
	case path[5] == "secrets":
		secret, found := w.secrets[path[4]+"/"+path[6]]
		switch {
		case w.grants.refuses(path[6]):
			return forbidden
		case !found:
			return metav1.Status{Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound}
		case secret == nil:
			return forbidden
		}
		secret.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}
		return secret
	}
	var patch []jsonpatch.Operation
	if err := json.NewDecoder(request.Body).Decode(&patch); err != nil {
		return metav1.Status{Code: http.StatusBadRequest, Message: err.Error()}
	}
	if len(patch) > maxOperations {
		return metav1.Status{Code: http.StatusRequestEntityTooLarge, Reason: metav1.StatusReasonRequestEntityTooLarge,
			Message: "too many operations"}
	}
	i := slices.IndexFunc(w.accounts, func(a corev1.ServiceAccount) bool { return a.Name == path[6] })
	w.accounts[i].ImagePullSecrets = slices.Clone(w.accounts[i].ImagePullSecrets)
	for _, operation := range patch {
		if operation.Operation == "remove" {
			at, _ := strconv.Atoi(operation.Path[strings.LastIndexByte(operation.Path, '/')+1:])
			w.accounts[i].ImagePullSecrets = slices.Delete(w.accounts[i].ImagePullSecrets, at, at+1)
		}
	}
	account := w.accounts[i]
	account.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}
	return account
}

func (w *world) run(ctx context.Context, t *testing.T) (log string, err error) {
	t.Helper()
	w.asked = map[string]int{}
	config, client := &rest.Config{Host: "http://api.example.com", QPS: -1}, &http.Client{Transport: w}
	clients, err := clientset.New(config, client)
	require.NoError(t, err)
	objects, err := typed.NewClient(config, client)
	require.NoError(t, err)
	attachments, err := typed.NewDerivedAttachments(config, client)
	require.NoError(t, err)
	var said bytes.Buffer
	remover := Remover{Log: slog.New(slog.NewTextHandler(&said, nil)), Clients: clients, ImagePullSecrets: objects, Attachments: attachments}
	if w.grants != nil {
		remover.Grants = w.grants
	}
	err = remover.Run(ctx)
	return said.String(), err
}

func object(name string, finalizers ...string) v1.ImagePullSecret {
	return v1.ImagePullSecret{ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: finalizers}}
}

func lists(name string, entries ...string) corev1.ServiceAccount {
	account := corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name, ResourceVersion: "7"}}
	for _, entry := range entries {
		account.ImagePullSecrets = append(account.ImagePullSecrets, corev1.LocalObjectReference{Name: entry})
	}
	return account
}

func TestEntriesGoByTheRuleOfARunningManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{v1.ManagedByLabel: v1.ManagedByValue}}}
		left := ours.DeepCopy() // of an ImagePullSecret that was deleted before, by its owner
		left.OwnerReferences = []metav1.OwnerReference{{APIVersion: v1.GroupVersion.String(), Kind: v1.Kind.Kind, Name: "left"}}
		w := &world{
			objects: []v1.ImagePullSecret{object("issued"), object("gone"), object("theirs"), object("hidden")},
			secrets: map[string]*corev1.Secret{"team/tcr.ipsissued": ours, "team/tcr.ipstheirs": {}, "team/tcr.ipshidden": nil,
				"team/tcr.ipsstray": nil, "team/tcr.ipscopied": ours, "team/tcr.ipsleft": left},
			accounts: []corev1.ServiceAccount{lists("default", "x", "tcr.ipsissued", "tcr.ipstheirs", "tcr.ipsgone", "tcr.ipshidden", "tcr.ipsstray",
				"tcr.ipscopied", "tcr.ipsleft"), lists("builder", "tcr.ipsissued")},
		}
		_, err := w.run(t.Context(), t)
		require.NoError(t, err)
		assert.Equal(t, lists("", "x", "tcr.ipstheirs", "tcr.ipsstray", "tcr.ipscopied").ImagePullSecrets, w.accounts[0].ImagePullSecrets)
		assert.Empty(t, w.accounts[1].ImagePullSecrets)
		assert.Empty(t, w.objects)
	})
}

func TestWhatAFinalizerHoldsIsDeletedOnceAndToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{objects: []v1.ImagePullSecret{object("kept", "example.com/hold")},
			accounts: []corev1.ServiceAccount{lists("default", "tcr.ipskept")}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		log, err := w.run(ctx, t)
		require.NoError(t, err, "nothing is left to do")
		assert.Equal(t, 1, w.asked["DELETE /apis/tcr.tencentcloudcr.com/v1/imagepullsecrets/kept"])
		assert.Equal(t, 1, strings.Count(log, "example.com/hold"))
		assert.Empty(t, w.accounts[0].ImagePullSecrets)
	})
}

func TestAnyNumberOfEntriesGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		entries := append([]string{"x"}, slices.Repeat([]string{"tcr.ipsa"}, maxOperations+1)...)
		w := &world{objects: []v1.ImagePullSecret{object("a")}, accounts: []corev1.ServiceAccount{lists("default", entries...)}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := w.run(ctx, t)
		require.NoError(t, err)
		assert.Equal(t, lists("", "x").ImagePullSecrets, w.accounts[0].ImagePullSecrets)
	})
}

func TestAnEntryThatCanBeNoSecretsNameGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{objects: []v1.ImagePullSecret{object("a")}, accounts: []corev1.ServiceAccount{lists("default", "tcr.ipsa/b", "tcr.ipsA",
			"x/y")}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := w.run(ctx, t)
		require.NoError(t, err)
		assert.Equal(t, lists("", "x/y").ImagePullSecrets, w.accounts[0].ImagePullSecrets)
	})
}

func TestAProxyThatKnowsOfNoSecretsTakesNoEntryAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{proxy: true, accounts: []corev1.ServiceAccount{lists("default", "tcr.ipsa")}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := w.run(ctx, t)
		require.Error(t, err)
		assert.Len(t, w.accounts[0].ImagePullSecrets, 1)
	})
}

func TestARefusalIsNotAskedForTwiceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{refused: true, objects: []v1.ImagePullSecret{object("a")}}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		_, err := w.run(ctx, t)
		require.ErrorContains(t, err, "it is forbidden")
		asked := w.asked["GET /api/v1/serviceaccounts"]
		assert.Less(t, asked, 30)
		assert.Greater(t, asked, 10, "it is asked for again")
	})
}

func TestAHiccupEndsNoUninstall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{hiccups: 3, objects: []v1.ImagePullSecret{object("a")}, accounts: []corev1.ServiceAccount{lists("default", "tcr.ipsa")}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err := w.run(ctx, t)
		require.NoError(t, err)
		assert.Empty(t, w.objects)
		assert.Empty(t, w.accounts[0].ImagePullSecrets)
	})
}

func TestNoSecretIsGuessedAtThatMayBeRead(t *testing.T) {
	for name, unsure := range map[string]int{"of very many": 0, "where the API server hears of the role later": 2} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				entries := make([]string, 1500)
				for i := range entries {
					entries[i] = fmt.Sprint("tcr.ips", i)
				}
				w := &world{
					objects: []v1.ImagePullSecret{object("theirs")}, secrets: map[string]*corev1.Secret{"team/tcr.ipstheirs": {}},
					accounts: []corev1.ServiceAccount{lists("default", append(entries, "tcr.ipstheirs")...)},
					grants:   &grants{until: map[string]time.Time{}, unsure: map[string]int{"tcr.ipstheirs": unsure}},
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				_, err := w.run(ctx, t)
				require.NoError(t, err)
				assert.Equal(t, lists("", "tcr.ipstheirs").ImagePullSecrets, w.accounts[0].ImagePullSecrets, "somebody else's stays, and nothing else")
			})
		})
	}
}
