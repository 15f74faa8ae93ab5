package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// The steps that concern ImagePullSecrets and replicas.

func (s *script) spec(random *rand.Rand, name string) v1.ImagePullSecretSpec {
	namespaces, accounts := s.namespaceList(random), s.accountList(random)
	if !strings.Contains(namespaces, ",") && random.IntN(4) > 0 {
		accounts = accountNames[random.IntN(len(accountNames))] // the dozens of kube-system would take all of the time
	}
	return v1.ImagePullSecretSpec{
		Namespaces: namespaces, ServiceAccounts: accounts,
		Docker: v1.DockerCredential{Username: "robot", Password: s.password(), Server: name + ".example.com"},
		// The servers lead nowhere, and what comes of asking them is written when it comes.
		Check: &v1.CredentialCheck{Disabled: true},
	}
}

func (s *script) createObject(random *rand.Rand) (step, bool) {
	name := one(random, objectNames)
	if _, there := s.invalid[name]; there {
		return step{}, false
	}
	spec := s.spec(random, name)
	s.invalid[name], s.selected[name] = false, spec.Namespaces
	return step{
		what: fmt.Sprintf("create object %s for namespaces %q, accounts %q", name, spec.Namespaces, spec.ServiceAccounts),
		do:   func(ctx context.Context, u *user) error { return u.createObject(ctx, name, spec) },
	}, true
}

func (s *script) object(random *rand.Rand) (string, bool) {
	names := sorted(s.invalid)
	if len(names) == 0 {
		return "", false
	}
	return one(random, names), true
}

func (s *script) deleteObject(random *rand.Rand) (step, bool) {
	name, found := s.object(random)
	delete(s.invalid, name)
	return step{
		what: "delete object " + name,
		do:   func(ctx context.Context, u *user) error { return u.deleteObject(ctx, name) },
	}, found
}

// editObject changes any part of an object, which makes it valid where it was not.
func (s *script) editObject(random *rand.Rand) (step, bool) {
	name, found := s.object(random)
	if !found {
		return step{}, false
	}
	next, parts, wasInvalid := s.spec(random, name), 1+random.IntN(7), s.invalid[name]
	s.invalid[name] = false
	if before := strings.Split(s.selected[name], ","); wasInvalid && len(before) > 1 && random.IntN(2) == 0 {
		next.Namespaces = strings.TrimSpace(one(random, before)) // narrower than it was before it became invalid
	}
	if parts&1 != 0 || wasInvalid {
		s.selected[name] = next.Namespaces
	}
	what := fmt.Sprintf("edit object %s:", name)
	if parts&1 != 0 || wasInvalid {
		what += fmt.Sprintf(" namespaces %q", next.Namespaces)
	}
	if parts&2 != 0 {
		what += fmt.Sprintf(" accounts %q", next.ServiceAccounts)
	}
	if parts&4 != 0 {
		what += " password"
	}
	return step{what: what, do: func(ctx context.Context, u *user) error {
		return u.editObject(ctx, name, func(spec *v1.ImagePullSecretSpec) {
			if parts&1 != 0 || wasInvalid {
				spec.Namespaces = next.Namespaces
			}
			if parts&2 != 0 {
				spec.ServiceAccounts = next.ServiceAccounts
			}
			if parts&4 != 0 {
				spec.Docker.Password = next.Docker.Password
			}
		})
	}}, true
}

func (s *script) invalidate(random *rand.Rand) (step, bool) {
	name, found := s.object(random)
	if !found || s.invalid[name] {
		return step{}, false
	}
	s.invalid[name] = true
	return step{what: "make object " + name + " invalid", do: func(ctx context.Context, u *user) error {
		return u.editObject(ctx, name, func(spec *v1.ImagePullSecretSpec) { spec.Namespaces = unreadable })
	}}, true
}

// correct makes an object invalid and at once valid again, for fewer namespaces than before: a mistake that is mended with another
// change.
func (s *script) correct(random *rand.Rand) (step, bool) {
	name, found := s.object(random)
	before := strings.Split(s.selected[name], ",")
	if !found || s.invalid[name] || len(before) < 2 {
		return step{}, false
	}
	next := strings.TrimSpace(one(random, before))
	s.selected[name] = next
	return step{what: fmt.Sprintf("make object %s invalid, and correct it to namespaces %q", name, next),
		do: func(ctx context.Context, u *user) error {
			if err := u.editObject(ctx, name, func(spec *v1.ImagePullSecretSpec) { spec.Namespaces = unreadable }); err != nil {
				return err
			}
			return u.editObject(ctx, name, func(spec *v1.ImagePullSecretSpec) { spec.Namespaces = next })
		}}, true
}

func (s *script) killReplica(random *rand.Rand) (step, bool) {
	which, free, away := random.IntN(2), random.IntN(3) > 0, time.Duration(random.Int64N(int64(1500*time.Millisecond)))
	return step{
		what: fmt.Sprintf("kill replica %s for %s, and free its lease: %t", replicaNames[which], away.Round(time.Millisecond), free),
		do:   func(ctx context.Context, u *user) error { return u.replicas.kill(ctx, which, free, away) },
	}, true
}

func (s *script) stopReplica(random *rand.Rand) (step, bool) {
	which := random.IntN(2)
	return step{
		what: fmt.Sprintf("stop replica %s in order", replicaNames[which]),
		do:   func(_ context.Context, u *user) error { return u.replicas.stop(which) },
	}, true
}
