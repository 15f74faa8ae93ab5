package preview

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
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

// seen are Secrets of the manager's namespace: one that holds what an object of these tests does, and one that is gone.
var seen = credential.Seen{Namespace: "system", Secrets: map[string]*corev1.Secret{
	"same":  {Type: corev1.SecretTypeBasicAuth, Data: map[string][]byte{"username": []byte("robot"), "password": []byte("hush")}},
	"other": {Type: corev1.SecretTypeBasicAuth, Data: map[string][]byte{"username": []byte("robot"), "password": []byte("hush hush")}},
	"gone":  nil,
}}

func refersTo(secret string, object *v1.ImagePullSecret) *v1.ImagePullSecret {
	return with(object, func(c *v1.DockerCredential) {
		c.Username, c.Password, c.SecretRef = "", "", &v1.SecretReference{Name: secret}
	})
}

func also(object *v1.ImagePullSecret, servers ...string) *v1.ImagePullSecret {
	return with(object, func(c *v1.DockerCredential) { c.AdditionalServers = servers })
}

func selecting(object *v1.ImagePullSecret, labels map[string]v1.LabelValue, excluded ...v1.NamespaceName) *v1.ImagePullSecret {
	object.Spec.NamespaceSelector, object.Spec.ExcludedNamespaces = &v1.LabelSelector{MatchLabels: labels}, excluded
	return object
}

// teams are namespaces by their labels, one of which has opted out, as has an account of another.
func teams() []Namespace {
	of := func(team string) pullsecret.Labels { return pullsecret.PackLabels(map[string]string{"team": team}) }
	accounts := []Account{{Name: "builder", OptedOut: true}, {Name: "default"}}
	return []Namespace{
		{Name: "a1", Labels: of("a"), Accounts: accounts}, {Name: "a2", Labels: of("a"), OptedOut: true, Accounts: accounts},
		{Name: "b", Labels: of("b"), Accounts: accounts[1:]}, {Name: "none", Labels: pullsecret.Unlabelled, Accounts: accounts[1:]},
	}
}

// cluster has three namespaces, of which one is being deleted.
func cluster(entries ...string) []Namespace {
	return []Namespace{
		{Name: "a", Accounts: []Account{{Name: "builder", Entries: entries}, {Name: "default", Entries: entries}}},
		{Name: "b", Accounts: []Account{{Name: "default", Entries: entries}}},
		{Name: "gone", Ending: true, Accounts: []Account{{Name: "default"}}},
	}
}

var mine = object("r", "a", "*")

// cases are what there is and what would be, and what becomes of it.
var cases = []struct {
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
		want: Preview{Credential: true, GainServers: []string{"s.example.com"}, LoseServers: []string{"r.example.com"},
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
	{
		name: "labels select, and owners have the last word", cluster: teams(),
		object: selecting(object("r", "", "*"), map[string]v1.LabelValue{"team": "a"}),
		want: Preview{New: true, Effects: []Effect{{Op: Gain, Namespace: "a1", Secret: true, Gain: []string{"default"}}},
			OptedOut: []string{"serviceaccount a1/builder", "namespace a2"}},
	},
	{
		name: "another selector takes from some and gives to others, and names what is named besides", cluster: teams(),
		object:   selecting(object("r", "none", "*"), map[string]v1.LabelValue{"team": "b"}),
		existing: []v1.ImagePullSecret{*selecting(object("r", "", "*"), map[string]v1.LabelValue{"team": "a"})},
		want: Preview{Effects: []Effect{{Op: Lose, Namespace: "a1", Secret: true},
			{Op: Gain, Namespace: "b", Secret: true, Gain: []string{"default"}}, {Op: Gain, Namespace: "none", Secret: true, Gain: []string{"default"}}}},
	},
	{
		name: "what is excluded loses", cluster: []Namespace{cluster("tcr.ipsr")[0], cluster("tcr.ipsr")[1]},
		object:   selecting(object("r", "", "*"), nil, "b"),
		existing: []v1.ImagePullSecret{*object("r", "*", "*")},
		want:     Preview{Effects: []Effect{{Op: Lose, Namespace: "b", Secret: true, Lose: []string{"default"}}}},
	},
	{
		name: "what has opted out before is not told of again", cluster: teams(),
		object: object("r", "*", "*"), existing: []v1.ImagePullSecret{*selecting(object("r", "", "*"), map[string]v1.LabelValue{"team": "a"})},
		want: Preview{Effects: []Effect{{Op: Change, Namespace: "a1", Gain: []string{"default"}},
			{Op: Gain, Namespace: "b", Secret: true, Gain: []string{"default"}}, {Op: Gain, Namespace: "none", Secret: true, Gain: []string{"default"}}}},
	},
	{
		name: "another host is written into every Secret", object: also(object("r", "a", "*"), "vpc.example.com"),
		existing: []v1.ImagePullSecret{*mine}, cluster: cluster("tcr.ipsr"),
		want: Preview{Credential: true, GainServers: []string{"vpc.example.com"}, Effects: []Effect{{Op: Change, Namespace: "a", Secret: true}}},
	},
	{name: "the same credential, from a Secret, changes nothing", object: refersTo("same", object("r", "a", "*")),
		existing: []v1.ImagePullSecret{*mine}, cluster: cluster("tcr.ipsr")},
	{
		name: "another credential, from a Secret, writes every Secret anew", object: refersTo("other", object("r", "a", "*")),
		existing: []v1.ImagePullSecret{*mine}, cluster: cluster("tcr.ipsr"),
		want: Preview{Credential: true, Effects: []Effect{{Op: Change, Namespace: "a", Secret: true}}},
	},
	{
		name: "a credential that nobody may see is taken for another one", object: refersTo("hidden", object("r", "a", "*")),
		existing: []v1.ImagePullSecret{*mine}, cluster: cluster("tcr.ipsr"),
		want: Preview{Credential: true, Effects: []Effect{{Op: Change, Namespace: "a", Secret: true}}},
	},
	{name: "and the same reference for the same one", object: refersTo("hidden", object("r", "a", "*")),
		existing: []v1.ImagePullSecret{*refersTo("hidden", object("r", "a", "*"))}, cluster: cluster("tcr.ipsr")},
	{
		name: "while a credential cannot be read, Secrets stay, and accounts get their entry", object: refersTo("gone", object("r", "*", "*")),
		existing: []v1.ImagePullSecret{*mine}, cluster: []Namespace{cluster("tcr.ipsr")[0], cluster()[1]},
		want: Preview{Unread: "secret system/gone does not exist, or is of a type that holds no credential: create it, of type kubernetes.io/basic-auth, with username and password, or of type kubernetes.io/dockerconfigjson, with an entry for r.example.com",
			Effects: []Effect{{Op: Gain, Namespace: "b", Gain: []string{"default"}}}},
	},
	{
		name: "of several hosts those are in conflict that have different credentials", cluster: cluster("tcr.ipsr"),
		object: also(object("r", "a", "*"), "vpc.example.com"), existing: []v1.ImagePullSecret{
			*also(object("r", "a", "*"), "vpc.example.com"), *also(object("same", "*", "*"), "apart.example.com", "vpc.example.com"),
			*with(also(object("s", "*", "*"), "VPC.example.com"), func(c *v1.DockerCredential) { c.Server, c.Password = "s.example.com", "other" }),
			*refersTo("hidden", object("t", "*", "*")),
		},
		want: Preview{Conflicts: []string{"imagepullsecret s gives vpc.example.com another credential in a: a kubelet tries both",
			"imagepullsecret t gives r.example.com a credential, too, in a: a kubelet tries both if they differ, which could not be checked"}},
	},
	{
		name: "who has opted out is in no conflict", cluster: teams(), object: selecting(object("r", "", "default"), map[string]v1.LabelValue{"team": "a"}),
		existing: []v1.ImagePullSecret{*with(object("s", "a2", "*"), func(c *v1.DockerCredential) { c.Password = "other" })},
		want: Preview{New: true, OptedOut: []string{"namespace a2"},
			Effects: []Effect{{Op: Gain, Namespace: "a1", Secret: true, Gain: []string{"default"}}}},
	},
}

func TestFor(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			have := For(c.object, c.existing, seen, c.cluster)
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
		have := For(object("r", "a", "*"), nil, seen, namespaces).InTheWay
		if c.says == "" {
			assert.Empty(t, have)
			continue
		}
		require.Len(t, have, 1, "the other namespace is not selected")
		assert.Contains(t, have[0], c.says)
	}
}

func TestComparedAreTheObjectItselfAndThoseForTheSameHosts(t *testing.T) {
	existing := []v1.ImagePullSecret{
		*with(object("r", "a", "*"), func(c *v1.DockerCredential) { c.Server = "before.example.com" }), *object("same", "a", "*"),
		*with(object("apart", "a", "*"), func(c *v1.DockerCredential) { c.Server = "apart.example.com" }),
		*with(also(object("also", "a", "*"), "VPC.example.com"), func(c *v1.DockerCredential) { c.Server = "s.example.com" }),
	}
	var names []string
	for _, one := range Compared(also(object("r", "a", "*"), "vpc.example.com"), existing) {
		names = append(names, one.Name)
	}
	assert.Equal(t, []string{"r", "same", "also"}, names)
}

func TestWhatPodsAreGivenIsNotNothing(t *testing.T) {
	of := func(pods string) *v1.ImagePullSecret {
		one := object("one", "*", "*")
		one.Spec.Pods = pods
		return one
	}
	for _, c := range []struct{ before, after, want string }{
		{"", v1.PodsAll, v1.PodsAll}, {v1.PodsAll, v1.PodsMatchingImages, v1.PodsMatchingImages}, {v1.PodsAll, "", v1.PodsNever},
		{v1.PodsNever, "", ""}, {v1.PodsAll, v1.PodsAll, ""},
	} {
		changed := For(of(c.after), []v1.ImagePullSecret{*of(c.before)}, seen, nil)
		assert.Equal(t, c.want, changed.Pods, "%q becomes %q", c.before, c.after)
		assert.Equal(t, c.want == "", changed.Empty())
	}
	made := For(of(v1.PodsAll), nil, seen, nil)
	assert.Equal(t, v1.PodsAll, made.Pods)
	made = For(of(v1.PodsNever), nil, seen, nil)
	assert.Empty(t, made.Pods)
}

func TestWhetherPodsAreHealedIsNotNothing(t *testing.T) {
	of := func(healing string) *v1.ImagePullSecret {
		one := object("one", "*", "*")
		one.Spec.Healing = healing
		return one
	}
	for _, c := range []struct{ before, after, want string }{
		{"", v1.HealingEvict, v1.HealingEvict}, {v1.HealingEvict, "", v1.HealingNever}, {v1.HealingEvict, v1.HealingEvict, ""},
		{v1.HealingNever, "", ""},
	} {
		changed := For(of(c.after), []v1.ImagePullSecret{*of(c.before)}, seen, nil)
		assert.Equal(t, c.want, changed.Healing, "%q becomes %q", c.before, c.after)
		assert.Equal(t, c.want == "", changed.Empty())
	}
	assert.Equal(t, v1.HealingEvict, For(of(v1.HealingEvict), nil, seen, nil).Healing)
	assert.Empty(t, For(of(v1.HealingNever), nil, seen, nil).Healing)
}
