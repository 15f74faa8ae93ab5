package preview

import (
	"encoding/json"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

func object(name, namespaces, accounts string) *v1.ImagePullSecret {
	return &v1.ImagePullSecret{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1.ImagePullSecretSpec{
			Namespaces: namespaces, ServiceAccounts: accounts,
			Docker: v1.DockerCredential{Username: "robot", Password: "hush", Server: "r.example.com"},
		},
	}
}

func with(object *v1.ImagePullSecret, edit func(*v1.DockerCredential)) *v1.ImagePullSecret {
	edit(&object.Spec.Docker)
	return object
}

// cluster has three namespaces, of which one is being deleted.
func cluster(entries ...string) []Namespace {
	return []Namespace{
		{Name: "a", Accounts: []Account{{Name: "builder", Entries: entries}, {Name: "default", Entries: entries}}},
		{Name: "b", Accounts: []Account{{Name: "default", Entries: entries}}},
		{Name: "gone", Ending: true, Accounts: []Account{{Name: "default"}}},
	}
}

func TestFor(t *testing.T) {
	mine := object("r", "a", "*")
	for _, c := range []struct {
		name     string
		object   *v1.ImagePullSecret
		existing []v1.ImagePullSecret
		cluster  []Namespace
		want     Preview
	}{
		{
			name: "a new object gives what it selects", object: object("r", "*", "default"), cluster: cluster(),
			want: Preview{New: true, Effects: []Effect{{Op: Gain, Namespace: "a", Secret: true, Gain: []string{"default"}},
				{Op: Gain, Namespace: "b", Secret: true, Gain: []string{"default"}}}},
		},
		{
			name: "an entry that is there already is no gain", object: object("r", "a", "*"), cluster: cluster("tcr.ipsr"),
			want: Preview{New: true, Effects: []Effect{{Op: Gain, Namespace: "a", Secret: true}}},
		},
		{name: "the same object changes nothing", object: object("r", "a", "*"), existing: []v1.ImagePullSecret{*mine},
			cluster: cluster("tcr.ipsr")},
		{
			name: "another namespace gains, and the one from before loses", object: object("r", "b", "*"), existing: []v1.ImagePullSecret{*mine},
			cluster: []Namespace{cluster("tcr.ipsr")[0], cluster()[1]},
			want: Preview{Effects: []Effect{{Op: Lose, Namespace: "a", Secret: true, Lose: []string{"builder", "default"}},
				{Op: Gain, Namespace: "b", Secret: true, Gain: []string{"default"}}}},
		},
		{
			name: "an account that is no longer selected loses", object: object("r", "a",
				"builder"), existing: []v1.ImagePullSecret{*mine}, cluster: cluster("tcr.ipsr"),
			want: Preview{Effects: []Effect{{Op: Change, Namespace: "a", Lose: []string{"default"}}}},
		},
		{
			name: "an account that does not list it loses nothing", object: object("r", "a", "builder"), existing: []v1.ImagePullSecret{*mine},
			cluster: []Namespace{{Name: "a", Accounts: []Account{{Name: "builder", Entries: []string{"tcr.ipsr"}}, {Name: "default"}}}},
		},
		{
			name:   "another password writes every Secret anew",
			object: with(object("r", "a", "*"), func(c *v1.DockerCredential) { c.Password = "hush hush" }), existing: []v1.ImagePullSecret{*mine}, cluster: cluster("tcr.ipsr"),
			want: Preview{Credential: true, Effects: []Effect{{Op: Change, Namespace: "a", Secret: true}}},
		},
		{
			name:   "another server is told",
			object: with(object("r", "a", "*"), func(c *v1.DockerCredential) { c.Server = "s.example.com" }), existing: []v1.ImagePullSecret{*mine}, cluster: cluster("tcr.ipsr"),
			want: Preview{Credential: true, Server: []string{"r.example.com", "s.example.com"},
				Effects: []Effect{{Op: Change, Namespace: "a", Secret: true}}},
		},
		{
			name:   "another object with another credential is a conflict, where both are",
			object: object("r", "a", "*"), cluster: cluster("tcr.ipsr"),
			existing: []v1.ImagePullSecret{
				*mine, *with(object("s", "*", "*"), func(c *v1.DockerCredential) { c.Username = "other" }), *object("same", "*", "*"),
				*with(object("apart", "b", "*"), func(c *v1.DockerCredential) { c.Username = "other" }),
			},
			want: Preview{Conflicts: []string{"imagepullsecret s gives r.example.com another credential in a: a kubelet tries both"}},
		},
		{
			name: "a bad object is refused", object: with(object("r", "team-*", "*"),
				func(c *v1.DockerCredential) { c.Username = "robot:hush" }), cluster: cluster(),
			want: Preview{New: true, Refused: []string{
				`spec.namespaces: Invalid value: "team-*": must be an exact namespace name: patterns are not supported; list the names, or write "*" alone for all`,
				`spec.docker.username: Forbidden: must not hold ":", which separates user name and password in HTTP basic authentication`,
			}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			have := For(c.object, c.existing, c.cluster)
			c.want.Name = "r"
			assert.Equal(t, c.want, have)
			printed, err := json.Marshal(have)
			require.NoError(t, err)
			assert.NotContains(t, string(printed), "hush")
			c.want.Name = ""
			assert.Equal(t, reflect.DeepEqual(c.want, Preview{}), have.Empty())
		})
	}
}

func TestWhatStandsInTheWayIsTold(t *testing.T) {
	for _, c := range []struct {
		secret Secret
		says   string
	}{
		{Secret{Type: "Opaque"}, "secret a/tcr.ipsr is of type Opaque: it is left alone"},
		{Secret{Type: "kubernetes.io/dockerconfigjson"}, "it would be taken over"},
		{Secret{Type: "kubernetes.io/dockerconfigjson", Managed: true}, ""},
	} {
		namespaces := cluster()
		namespaces[0].Secret, namespaces[1].Secret = &c.secret, &c.secret
		have := For(object("r", "a", "*"), nil, namespaces).InTheWay
		if c.says == "" {
			assert.Empty(t, have)
			continue
		}
		require.Len(t, have, 1, "the other namespace is not selected")
		assert.Contains(t, have[0], c.says)
	}
}

// TestPure holds the package free of clients: what it compares is looked up by others.
func TestPure(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	require.NoError(t, err)
	for dep := range strings.Lines(string(out)) {
		dep = strings.TrimSpace(dep)
		assert.False(t, strings.HasPrefix(dep, "k8s.io/client-go"), dep)
		if ours, is := strings.CutPrefix(dep, "github.com/tcr-assistant/tcr-assistant/"); is {
			assert.Contains(t, []string{"api/v1", "pullsecret", "preview"}, ours)
		}
	}
}
