package registry

import (
	"sync"

	"github.com/tcr-assistant/tcr-assistant/test/harness/registry"
)

// account is what a token service knows of a user.
type account struct {
	password     string
	repositories []string // that the user may pull from and push to
	stale        bool     // the tokens issued to the user are over
}

// accounts are the users of a token service.
type accounts struct {
	open bool // who is not known gets a token, too: of nobody, and for nothing

	mu sync.Mutex
	of map[string]account
}

// grants says what a user gets.
func (a *accounts) grants(user, password string) (registry.Grant, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if known, is := a.of[user]; is && password == known.password {
		return registry.Grant{User: user, Repositories: known.repositories, Stale: known.stale}, true
	}
	return registry.Grant{}, a.open
}

// remove takes a user away.
func (a *accounts) remove(user string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.of, user)
}
