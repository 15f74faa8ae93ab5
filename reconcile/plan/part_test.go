package plan

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// A player brings a cluster in line, each object by what is told of it, or whole namespaces whenever anything is.
type player struct {
	state   *State
	agenda  Agenda
	inParts bool
	// odd are those of which it was said that their label is.
	odd map[string]bool
	// gone are the Secrets that were looked up, by namespace and name: there are none.
	gone map[string]bool
}

// A game is what happens to a cluster, which two players bring in line.
type game struct {
	t       *testing.T
	random  *rand.Rand
	index   *pullsecret.Index
	players []*player
	version uint64
	failing map[ObjectKey]bool // what cannot be written at the moment
}

var (
	gameNamespaces = []string{"n0", "n1"}
	gameAccounts   = []string{"default", "builder", "tcr.ipsa"}
	gameRules      = []string{"a", "b", "c"}
	gameEntries    = []string{"tcr.ipsa", "tcr.ipsb", "tcr.ipsc", "tcr.ipsgone", "x"}
)

func newGame(t *testing.T, seed uint64) *game {
	g := &game{t: t, random: rand.New(rand.NewPCG(seed, 1)), index: pullsecret.NewIndex(), version: 10}
	byName := g.random.IntN(2) == 0
	for _, inParts := range []bool{true, false} {
		p := &player{state: NewState(), inParts: inParts, odd: map[string]bool{}, gone: map[string]bool{}}
		if byName {
			for _, rule := range gameRules {
				p.state.ReplaceSecrets(pullsecret.SecretName(rule), nil, latest.Relist{Version: 1})
			}
		} else {
			p.state.ReplaceIssued(nil, latest.Relist{Version: 1})
		}
		g.players = append(g.players, p)
	}
	return g
}

func pick[T any](g *game, from []T) T { return from[g.random.IntN(len(from))] }

func (g *game) next() uint64 { g.version++; return g.version }

// happen has something happen, and each player told of it as its watches would.
func (g *game) happen() {
	namespace, name, version := pick(g, gameNamespaces), pick(g, gameAccounts), g.next()
	switch g.random.IntN(9) {
	case 0, 1, 2:
		account := Account{Name: name, Version: version, OptOut: pick(g, []pullsecret.OptOut{0, 0, 0, pullsecret.OptedOut, pullsecret.OddOptOut})}
		for range g.random.IntN(5) {
			account.Secrets = append(account.Secrets, pick(g, gameEntries))
		}
		g.tell(func(p *player) {
			p.state.PutAccount(namespace, account)
			p.agenda.Add(ObjectKey{namespace, true, name})
		})
	case 3:
		g.tell(func(p *player) {
			p.state.RemoveAccount(namespace, name, version)
			p.agenda.Add(ObjectKey{namespace, true, name})
		})
	case 4, 5:
		secret := Secret{Name: pullsecret.SecretName(pick(g, gameRules)), Version: version, Docker: g.random.IntN(4) > 0, Managed: g.random.IntN(2) > 0}
		if rule := g.index.Rules().Get(pullsecret.ImagePullSecretName(secret.Name)); rule != nil && g.random.IntN(2) > 0 {
			secret.Sum = rule.Sum
		}
		if g.random.IntN(2) > 0 {
			secret.Owners = []types.UID{"uid-" + types.UID(pullsecret.ImagePullSecretName(secret.Name))}
		}
		g.tell(func(p *player) {
			for key := range p.state.PutSecret(namespace, secret).Keys(namespace) {
				p.agenda.Add(key)
			}
		})
	case 6:
		secret := pullsecret.SecretName(pick(g, gameRules))
		g.tell(func(p *player) {
			p.state.RemoveSecret(namespace, secret, version)
			p.agenda.Add(NamespaceKey(namespace))
		})
	case 7:
		seen := NamespaceMeta{Name: namespace, UID: "uid", Live: g.random.IntN(5) > 0, OptOut: pick(g, []pullsecret.OptOut{0, 0, 0, pullsecret.OptedOut, pullsecret.OddOptOut})}
		g.tell(func(p *player) {
			p.state.PutNamespace(seen)
			p.agenda.Add(NamespaceKey(namespace))
		})
	case 8:
		g.changeRule(pick(g, gameRules), version)
	}
}

func (g *game) changeRule(name string, version uint64) {
	if g.random.IntN(4) == 0 {
		g.index.Remove(name)
	} else {
		g.index.Put(&v1.ImagePullSecret{
			ObjectMeta: metav1.ObjectMeta{Name: name, UID: "uid-" + types.UID(name), Generation: int64(version)},
			Spec: v1.ImagePullSecretSpec{
				Namespaces: pick(g, []string{"*", "n0", "n1", "n0,n0"}), ServiceAccounts: pick(g, []string{"*", "default"}), // "n0,n0" can't be read
				Docker: v1.DockerCredential{Username: "robot", Password: pick(g, []string{"old", "new"}), Server: "registry.example.com"},
			},
		})
	}
	g.tell(func(p *player) {
		for _, namespace := range gameNamespaces {
			p.agenda.Add(NamespaceKey(namespace))
		}
	})
}

func (g *game) tell(of func(*player)) {
	for _, p := range g.players {
		of(p)
	}
}

// settle has both players bring in line what they know of. Some writes fail, and are tried again when they settle next.
func (g *game) settle() {
	g.failing = map[ObjectKey]bool{}
	for _, namespace := range gameNamespaces {
		for _, name := range slices.Concat(gameAccounts, gameEntries) {
			for _, isAccount := range []bool{true, false} {
				if g.random.IntN(8) == 0 {
					g.failing[ObjectKey{namespace, isAccount, name}] = true
				}
			}
		}
	}
	for _, namespace := range gameNamespaces {
		for _, p := range g.players {
			var again []ObjectKey
			for part := p.agenda.Take(namespace); !part.Empty(); part = p.agenda.Take(namespace) {
				if !p.inParts {
					part = Whole()
				}
				again = append(again, g.bringInLine(p, namespace, part)...)
			}
			for _, key := range again {
				p.agenda.Add(key)
			}
		}
	}
}

// bringInLine does what package reconcile does with a part of a namespace. It returns what has failed.
func (g *game) bringInLine(p *player, namespace string, part Part) (again []ObjectKey) {
	view, found := p.state.ViewPart(namespace, part)
	if !found {
		return nil
	}
	seen := Visibility{p.state.Issued, p.state.Watched, func(secret string) bool { return p.gone[namespace+"/"+secret] }}
	planned := ForPart(g.index.Rules(), view, part, seen)
	if len(planned.Unknown) > 0 {
		for _, secret := range planned.Unknown {
			p.gone[namespace+"/"+secret] = true
		}
		part = Whole()
		view, _ = p.state.View(namespace)
		planned = For(g.index.Rules(), view, seen)
	}
	for _, change := range planned.Changes {
		key := KeyOf(change)
		require.True(g.t, part.Holds(key), "%s is not what it was asked about", change)
		if g.failing[key] {
			again = append(again, key)
			for _, problem := range concerned(change) {
				problem.Reason = "Failing"
				planned.Problems = append(planned.Problems, problem)
			}
			continue
		}
		g.write(p.state, view, change)
		for key := range LeavesMore(change, view).Keys(namespace) {
			p.agenda.Add(key)
		}
	}
	maps.DeleteFunc(p.odd, func(name string, _ bool) bool {
		in, account, _ := strings.Cut(name, "/")
		return in == namespace && part.Holds(ObjectKey{namespace, true, account})
	})
	for _, name := range planned.Odd {
		require.True(g.t, part.Holds(ObjectKey{namespace, true, name}), "%q is not what it was asked about", name)
		p.odd[namespace+"/"+name] = true
	}
	p.state.SetProblems(namespace, part, planned.Problems)
	return again
}

// write makes a change as the API server would, and takes in its answer.
func (g *game) write(state *State, view Namespace, change Change) {
	switch change := change.(type) {
	case IssueSecret:
		rule := change.Rule
		state.PutSecret(change.Namespace, Secret{Name: rule.Secret, Version: g.next(), Docker: true, Managed: true, Owners: []types.UID{rule.UID}, Sum: rule.Sum})
	case DeleteSecret:
		state.RemoveSecret(change.Namespace, change.Name, change.Version)
	case EditAccount:
		account, _ := view.Account(change.Name)
		account.Secrets, account.Version = edited(g.t, account, change), g.next()
		state.PutAccount(change.Namespace, account)
	}
}

// standing is all that a player knows, but for the versions of its own writes.
func (p *player) standing() (lines []string) {
	for _, namespace := range gameNamespaces {
		view, _ := p.state.View(namespace)
		for _, secret := range view.Secrets {
			lines = append(lines, fmt.Sprintf("%s: secret %s docker %v managed %v owners %v sum %x", namespace, secret.Name, secret.Docker, secret.Managed, secret.Owners, secret.Sum[:2]))
		}
		for _, account := range view.Accounts {
			lines = append(lines, fmt.Sprintf("%s: account %s lists %v", namespace, account.Name, account.Secrets))
		}
		var problems []string
		for _, problem := range p.state.Problems(namespace) {
			problems = append(problems, fmt.Sprintf("%s: problem of %s: %s %v %s", namespace, problem.ImagePullSecret, problem.NamespacedName, problem.Account, problem.Reason))
		}
		slices.Sort(problems)
		lines = append(lines, problems...)
	}
	for _, name := range slices.Sorted(maps.Keys(p.odd)) {
		lines = append(lines, "odd label: "+name)
	}
	return lines
}

// play holds that whatever happens in whatever order, to compare what is concerned leads to what comparing whole namespaces leads to.
func play(t *testing.T, seed uint64, steps int) {
	g := newGame(t, seed)
	for range gameRules {
		g.changeRule(pick(g, gameRules), g.next())
	}
	g.tell(func(p *player) {
		for _, namespace := range gameNamespaces {
			p.state.PutNamespace(NamespaceMeta{Name: namespace, UID: "uid", Live: true})
			p.agenda.Add(NamespaceKey(namespace))
		}
	})
	for step := range steps {
		for range 1 + g.random.IntN(4) {
			g.happen()
		}
		g.settle()
		require.Equal(t, g.players[1].standing(), g.players[0].standing(), "seed %d, step %d", seed, step)
	}
}

func TestToCompareWhatIsConcernedLeadsToWhatToCompareAllDoes(t *testing.T) {
	for seed := range uint64(400) {
		play(t, seed, 40)
	}
}

// FuzzParts plays longer.
func FuzzParts(f *testing.F) {
	f.Add(uint64(1), uint8(100))
	f.Fuzz(func(t *testing.T, seed uint64, steps uint8) { play(t, seed, int(steps)) })
}

func TestNewsOfASecretConcernWhatDependsOnIt(t *testing.T) {
	ours := Secret{Name: "tcr.ipsr", Version: 5, Docker: true, Managed: true, Owners: []types.UID{"uid"}}
	alone := PartOf(ObjectKey{Namespace: "a", Name: "tcr.ipsr"})
	for name, test := range map[string]struct {
		news Secret
		want Part
	}{
		"its echo concerns nothing":                       {ours, Part{}},
		"another content concerns itself":                 {but(ours, func(s *Secret) { s.Version, s.Sum = 6, [32]byte{1} })[0], alone},
		"another type concerns itself":                    {but(ours, func(s *Secret) { s.Version, s.Docker = 6, false })[0], alone},
		"a lost label concerns whatever lists it":         {but(ours, func(s *Secret) { s.Version, s.Managed = 6, false })[0], Whole()},
		"a lost owner concerns whatever lists it":         {but(ours, func(s *Secret) { s.Version, s.Owners = 6, nil })[0], Whole()},
		"one that comes, too, concerns whatever lists it": {Secret{Name: "tcr.ipss", Version: 6}, Whole()},
	} {
		t.Run(name, func(t *testing.T) {
			state := NewState()
			state.PutNamespace(NamespaceMeta{Name: "a", UID: "1", Live: true})
			state.PutSecret("a", ours)
			assert.Equal(t, test.want, state.PutSecret("a", test.news))
		})
	}
}

func TestWhatIsGatheredIsTakenOnce(t *testing.T) {
	var agenda Agenda
	x, y := ObjectKey{"a", true, "x"}, ObjectKey{"a", false, "y"}
	for _, key := range []ObjectKey{x, y, x, {"b", true, "x"}} {
		agenda.Add(key)
	}
	part := agenda.Take("a")
	assert.ElementsMatch(t, []ObjectKey{x, y}, slices.Collect(part.Keys("a")))
	assert.False(t, part.Holds(ObjectKey{"a", false, "x"}), "a Secret is no account")
	assert.True(t, agenda.Take("a").Empty())
	agenda.Add(x)
	agenda.Add(NamespaceKey("a"))
	agenda.Add(y)
	whole := agenda.Take("a")
	assert.Equal(t, []ObjectKey{NamespaceKey("a")}, slices.Collect(whole.Keys("a")))
	assert.True(t, whole.Holds(x))
	assert.False(t, agenda.Take("b").Empty())
}

func TestWhatWasLookedUpIsTrustedUntilWhatListsItChanges(t *testing.T) {
	var lookups Lookups
	lookups.Remember("a", "tcr.ipsgone", Lookup{Gone: true, Version: 5})
	lookups.Remember("a", "tcr.ipstheirs", Lookup{Version: 5})
	listing := func(version uint64, names ...string) Namespace {
		return Namespace{Name: "a", Accounts: []Account{{Name: "default", Version: version, Secrets: names}}}
	}
	account := PartOf(ObjectKey{"a", true, "default"})
	for name, test := range map[string]struct {
		namespace Namespace
		part      Part
		known     []string
		current   bool
	}{
		"what lists nothing of it":                     {listing(9, "x"), account, nil, true},
		"what lists it as it did":                      {listing(5, "tcr.ipsgone", "tcr.ipstheirs"), account, []string{"tcr.ipsgone", "tcr.ipstheirs"}, true},
		"what was changed and lists what was gone":     {listing(6, "tcr.ipsgone"), account, nil, false},
		"what was changed and lists somebody else's":   {listing(6, "tcr.ipstheirs"), account, []string{"tcr.ipstheirs"}, true},
		"a secret of which it is known":                {listing(5), PartOf(ObjectKey{"a", false, "tcr.ipsgone"}), nil, false},
		"another namespace, of which nothing is known": {Namespace{Name: "b"}, account, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			known, current := lookups.InPart(test.namespace, test.part)
			assert.Equal(t, test.current, current)
			assert.ElementsMatch(t, test.known, slices.Collect(maps.Keys(known)))
		})
	}
}
