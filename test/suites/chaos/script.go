package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// step is one thing that the user does.
type step struct {
	pause time.Duration // before it
	what  string
	do    func(context.Context, *user) error
}

// script draws what the user does, step by step. It depends on the seed alone: no answer of the API server changes it.
type script struct {
	*model
	taken   int
	actions []action
	total   int
	rest    time.Duration
}

// action draws one kind of step; it draws nothing and returns false where that makes no sense now.
type action struct {
	weight int
	draw   func(*script, *rand.Rand) (step, bool)
}

func newScript(seed uint64) *script {
	s := &script{model: newModel(seed)}
	random := source(seed, "script")
	s.rest = 10*time.Millisecond + time.Duration(random.Int64N(int64(90*time.Millisecond)))
	for _, usual := range []action{
		{12, (*script).createNamespace}, {6, (*script).deleteNamespace},
		{10, (*script).createAccount}, {6, (*script).deleteAccount}, {10, (*script).editAccount},
		{4, (*script).writeForeign}, {2, (*script).deleteForeign}, {2, (*script).squat}, {2, (*script).addAlien},
		{8, (*script).deleteIssued}, {10, (*script).ambushSecret}, {8, (*script).ambushAccount}, {6, (*script).damageIssued},
		{3, (*script).unmarkIssued}, {2, (*script).freezeIssued},
		{10, (*script).createObject}, {4, (*script).deleteObject}, {8, (*script).editObject}, {5, (*script).invalidate}, {6, (*script).correct},
		{3, (*script).killReplica}, {1, (*script).stopReplica},
	} {
		// A third of what can happen does not in one run, and a few things often do.
		usual.weight *= []int{0, 1, 1, 2, 4, 1}[random.IntN(6)]
		s.actions = append(s.actions, usual)
		s.total += usual.weight
	}
	return s
}

// next draws the next step. The first ones make something to act on.
func (s *script) next() step {
	s.taken++
	random := source(s.seed, "step", s.taken)
	if s.taken <= 4 {
		if step, sensible := [](func(*script, *rand.Rand) (step, bool)){
			(*script).createObject, (*script).createNamespace, (*script).createNamespace, (*script).createObject,
		}[s.taken-1](s, random); sensible {
			return step
		}
	}
	for range 1000 {
		at := random.IntN(max(1, s.total))
		for _, action := range s.actions {
			if at -= action.weight; at < 0 {
				if step, sensible := action.draw(s, random); sensible {
					step.pause = time.Duration(random.Int64N(int64(2 * s.rest)))
					return step
				}
				break
			}
		}
	}
	return step{pause: s.rest, what: "rest", do: func(context.Context, *user) error { return nil }}
}

// place draws a namespace that is there.
func (s *script) place(random *rand.Rand) (string, *namespaceModel, bool) {
	names := sorted(s.namespaces)
	if len(names) == 0 {
		return "", nil, false
	}
	name := one(random, names)
	return name, s.namespaces[name], true
}

// slowness is how many steps a namespace that was deleted is given to end, which takes seconds, before its name is used again.
// Whoever uses it earlier waits.
const slowness = 60

func (s *script) createNamespace(random *rand.Rand) (step, bool) {
	name := s.namespace(one(random, namespaceLetters))
	if ended, before := s.ended[name]; s.namespaces[name] != nil || before && s.taken < ended+slowness {
		return step{}, false
	}
	s.namespaces[name] = &namespaceModel{accounts: map[string][]string{}, foreign: map[string]string{}, squatted: map[string]bool{}}
	return step{what: "create namespace " + name, do: func(ctx context.Context, u *user) error { return u.createNamespace(ctx, name) }}, true
}

func (s *script) deleteNamespace(random *rand.Rand) (step, bool) {
	name, _, found := s.place(random)
	if !found || len(s.namespaces) < 2 {
		return step{}, false
	}
	delete(s.namespaces, name)
	s.ended[name] = s.taken
	for object := range s.undone {
		if strings.HasPrefix(object, name+"/") {
			delete(s.undone, object)
		}
	}
	return step{what: "delete namespace " + name, do: func(ctx context.Context, u *user) error { return u.deleteNamespace(ctx, name) }}, true
}

// entries draws what an account lists that is not ours.
func (s *script) entries(random *rand.Rand, namespace *namespaceModel) []string {
	if random.IntN(3) == 0 {
		return nil
	}
	entries := some(random, foreignEntries)
	if namespace.squatted[alien] && random.IntN(2) == 0 {
		entries = append(entries, alien)
	}
	return entries
}

func (s *script) createAccount(random *rand.Rand) (step, bool) {
	name, namespace, found := s.place(random)
	account := one(random, accountNames[1:])
	if !found {
		return step{}, false
	}
	if _, there := namespace.accounts[account]; there {
		return step{}, false
	}
	entries := s.entries(random, namespace)
	namespace.accounts[account] = entries
	return step{
		what: fmt.Sprintf("create account %s/%s listing %q", name, account, entries),
		do:   func(ctx context.Context, u *user) error { return u.createAccount(ctx, name, account, entries) },
	}, true
}

// account draws a namespace, and an account that is there.
func (s *script) account(random *rand.Rand) (name string, namespace *namespaceModel, account string, found bool) {
	name, namespace, found = s.place(random)
	account = one(random, accountNames)
	if found {
		_, there := namespace.accounts[account]
		found = there || account == "default"
	}
	return name, namespace, account, found
}

func (s *script) deleteAccount(random *rand.Rand) (step, bool) {
	name, namespace, account, found := s.account(random)
	if !found {
		return step{}, false
	}
	delete(namespace.accounts, account)
	return step{
		what: fmt.Sprintf("delete account %s/%s", name, account),
		do:   func(ctx context.Context, u *user) error { return u.deleteAccount(ctx, name, account) },
	}, true
}

func (s *script) editAccount(random *rand.Rand) (step, bool) {
	name, namespace, account, found := s.account(random)
	if !found {
		return step{}, false
	}
	keepOurs := random.IntN(3) > 0 || !s.mayUndo(name+"/account/"+account) // whether ours stay
	entries := s.entries(random, namespace)
	namespace.accounts[account] = entries
	return step{
		what: fmt.Sprintf("edit account %s/%s to list %q, and ours: %t", name, account, entries, keepOurs),
		do:   func(ctx context.Context, u *user) error { return u.editAccount(ctx, name, account, entries, keepOurs) },
	}, true
}

func (s *script) writeForeign(random *rand.Rand) (step, bool) {
	name, namespace, found := s.place(random)
	if !found {
		return step{}, false
	}
	secret, content := one(random, foreignSecrets), fmt.Sprint("content-", s.taken)
	namespace.foreign[secret] = content
	return step{
		what: fmt.Sprintf("write foreign secret %s/%s", name, secret),
		do:   func(ctx context.Context, u *user) error { return u.writeForeign(ctx, name, secret, content) },
	}, true
}

func (s *script) deleteForeign(random *rand.Rand) (step, bool) {
	name, namespace, found := s.place(random)
	secret := one(random, foreignSecrets)
	if !found || namespace.foreign[secret] == "" {
		return step{}, false
	}
	delete(namespace.foreign, secret)
	return step{
		what: fmt.Sprintf("delete foreign secret %s/%s", name, secret),
		do:   func(ctx context.Context, u *user) error { return u.deleteSecret(ctx, name, secret) },
	}, true
}

// addAlien makes a Secret that only looks like ours. It stays as long as its namespace.
func (s *script) addAlien(random *rand.Rand) (step, bool) {
	name, namespace, found := s.place(random)
	if !found || namespace.squatted[alien] {
		return step{}, false
	}
	namespace.squatted[alien] = true
	namespace.foreign[alien] = "alien"
	return step{
		what: fmt.Sprintf("write alien secret %s/%s", name, alien),
		do:   func(ctx context.Context, u *user) error { return u.writeForeign(ctx, name, alien, "alien") },
	}, true
}

// squat writes a Secret of another type under a name of ours, in the place of what is there.
func (s *script) squat(random *rand.Rand) (step, bool) {
	name, namespace, secret, ok := s.issued(random)
	if !ok {
		return step{}, false
	}
	namespace.squatted[secret] = true
	docker := random.IntN(2) == 0
	return step{
		what: fmt.Sprintf("put another secret in the place of %s/%s, to be adopted: %t", name, secret, docker),
		do:   func(ctx context.Context, u *user) error { return u.squat(ctx, name, secret, docker) },
	}, true
}

func (s *script) issued(random *rand.Rand) (namespace string, model *namespaceModel, secret string, ok bool) {
	namespace, model, found := s.place(random)
	secret = prefix + one(random, objectNames)
	return namespace, model, secret, found && s.mayUndo(namespace+"/"+secret)
}

func (s *script) deleteIssued(random *rand.Rand) (step, bool) {
	name, _, secret, ok := s.issued(random)
	// One that is in the way, which nobody watches unless an object can be read that wants it, is deleted only then.
	invalid, there := s.invalid[strings.TrimPrefix(secret, prefix)]
	whatever := there && !invalid
	return step{
		what: fmt.Sprintf("delete secret %s/%s, even where it bears no mark: %t", name, secret, whatever),
		do:   func(ctx context.Context, u *user) error { return u.deleteIssued(ctx, name, secret, whatever) },
	}, ok
}

// ambushSecret deletes a Secret, and once more as soon as it is there again: while the manager still waits for the answer.
func (s *script) ambushSecret(random *rand.Rand) (step, bool) {
	name, _, secret, ok := s.issued(random)
	return step{
		what: fmt.Sprintf("delete secret %s/%s, and again once it is back", name, secret),
		do:   func(ctx context.Context, u *user) error { return u.ambushSecret(ctx, name, secret) },
	}, ok && s.mayUndo(name+"/"+secret)
}

// ambushAccount takes our entries from an account, and deletes it as soon as they are there again.
func (s *script) ambushAccount(random *rand.Rand) (step, bool) {
	name, namespace, account, found := s.account(random)
	if !found || !s.mayUndo(name+"/account/"+account) {
		return step{}, false
	}
	delete(namespace.accounts, account)
	return step{
		what: fmt.Sprintf("take our entries from account %s/%s, and delete it once they are back", name, account),
		do:   func(ctx context.Context, u *user) error { return u.ambushAccount(ctx, name, account) },
	}, true
}

// patch returns the step that patches a Secret.
func patch(what, namespace, secret, body string) step {
	return step{
		what: fmt.Sprintf("%s secret %s/%s", what, namespace, secret),
		do:   func(ctx context.Context, u *user) error { return u.patchSecret(ctx, namespace, secret, body) },
	}
}

func (s *script) damageIssued(random *rand.Rand) (step, bool) {
	name, _, secret, ok := s.issued(random)
	return patch("damage", name, secret, `{"data":{".dockerconfigjson":"e30="},"metadata":{"annotations":{"chaos":"was here"}}}`), ok
}

func (s *script) unmarkIssued(random *rand.Rand) (step, bool) {
	name, namespace, secret, ok := s.issued(random)
	if ok {
		namespace.squatted[secret] = true
	}
	return patch("take the mark from", name, secret, `{"metadata":{"labels":{"app.kubernetes.io/managed-by":null}}}`), ok
}

func (s *script) freezeIssued(random *rand.Rand) (step, bool) {
	name, _, secret, ok := s.issued(random)
	return patch("freeze", name, secret, `{"immutable":true}`), ok
}
