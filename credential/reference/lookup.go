package reference

import (
	"context"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// errOvertaken says that a list is older than what is already known.
var errOvertaken = errors.New("the answer is older than what is known")

// lookUpReferred has a Secret listed by name, if a rule refers to it.
func (f *Follower) lookUpReferred(name string) {
	if len(f.referring()[name]) > 0 {
		f.queue.Add(name)
	}
}

// work lists Secrets by name, until the queue is shut down.
func (f *Follower) work(ctx context.Context) {
	for {
		name, stopped := f.queue.Get()
		if stopped {
			return
		}
		if err := f.lookUp(ctx, name); err != nil && ctx.Err() == nil {
			f.log.Debug("secret was not looked up, trying again", "namespace", f.namespace, "secret", name, "error", err)
			f.queue.AddRateLimited(name)
		} else {
			f.queue.Forget(name)
		}
		f.queue.Done(name)
	}
}

// lookUp takes in a Secret as it is now. Before the first list of the watch it does nothing: that list brings the Secret.
func (f *Follower) lookUp(ctx context.Context, name string) error {
	era, watched := f.begin(name)
	if !watched {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var options metav1.ListOptions
	candidates(&options)
	options.FieldSelector += ",metadata.name=" + name
	list, err := f.clients.Secrets(f.namespace).List(ctx, options)
	if err != nil {
		return fmt.Errorf("looking up secret %s/%s: %w", f.namespace, name, err)
	}
	told := found{name: name, version: latest.Version(list.ResourceVersion)}
	if len(list.Items) > 0 {
		told.secret = credential.Referred(&list.Items[0])
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case era != f.era:
		return nil // another watch brings it, or none is needed
	case told.version < max(f.seen, f.known[name]):
		return errOvertaken
	}
	f.supply(told)
	return nil
}

// begin reports whether the watch has listed the Secrets, and in which era. If they may not be watched, the rules that refer to this one
// are told so.
func (f *Follower) begin(name string) (era int, watched bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refused != nil {
		credentials := map[*pullsecret.Rule]pullsecret.Credential{}
		for _, rule := range f.referring()[name] {
			credentials[rule] = pullsecret.Credential{Config: rule.Config, Expiry: rule.Expiry, Unread: f.refused}
		}
		f.hand(credentials)
		return f.era, false
	}
	return f.era, f.seen > 0
}
