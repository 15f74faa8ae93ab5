package reconcile

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// maxLookups is how many Secrets, and lookupTime how long, a namespace may look up before it makes room for others. Whoever may edit an
// account can make it list tens of thousands of names.
const (
	maxLookups = 50
	lookupTime = time.Second
)

// planPart plans a part of a namespace from what is known; false where something has to be looked up, for which the whole namespace has
// to be planned: look-ups are remembered per namespace.
func (c *Controller) planPart(namespace plan.Namespace, part plan.Part) (planned plan.Plan, known bool) {
	remembered, current := c.lookups.InPart(namespace, part)
	if !current {
		return planned, false
	}
	planned = c.planWith(c.Index.Rules(), namespace, part, remembered)
	return planned, len(c.unknown(planned, namespace, remembered)) == 0
}

// plan plans a namespace after it has looked up what the watches do not show: the Secrets behind entries that belong to no
// ImagePullSecret. An entry whose Secret cannot be looked up stays for now, and does not keep anything else from being planned. more is
// whether there are others to look up, after other namespaces had their turn. It takes no longer than a write may.
func (c *Controller) plan(ctx context.Context, namespace plan.Namespace) (planned plan.Plan, more bool, failures []failure) {
	ctx, cancel := context.WithTimeout(ctx, c.writer.timeout)
	defer cancel()
	whole, rules, known := plan.NamespaceKey(namespace.Name), c.Index.Rules(), c.lookups.In(namespace)
	planned = c.planWith(rules, namespace, plan.Whole(), known)
	names := c.unknown(planned, namespace, known)
	if len(names) == 0 {
		return planned, false, nil
	}
	soon := names[:min(len(names), maxLookups)]
	if err := borrow(ctx, c.Grants, slices.DeleteFunc(slices.Clone(soon), clientset.Unnameable)...); err != nil {
		return planned, false, []failure{{whole, fmt.Errorf("looking up secrets in namespace %s: %w", namespace.Name, err)}}
	}
	listed := plan.Listed(namespace.Accounts, pullsecret.Among(soon))
	began, found := time.Now(), false
	for i, name := range names {
		if i == maxLookups || time.Since(began) > lookupTime {
			more = found // otherwise the failures have it tried again
			break
		}
		lookup, err := c.lookUp(ctx, rules, namespace.Name, name)
		if err != nil {
			failures = append(failures, failure{whole, fmt.Errorf("looking up secret %s/%s: %w", namespace.Name, name, err)})
			continue
		}
		lookup.Version = listed[name]
		c.lookups.Remember(namespace.Name, name, lookup)
		found = true
	}
	return c.planWith(rules, namespace, plan.Whole(), c.lookups.In(namespace)), more, failures
}

// planWith plans from what is watched and what was looked up.
func (c *Controller) planWith(rules *pullsecret.Rules, namespace plan.Namespace, part plan.Part, known map[string]plan.Lookup) plan.Plan {
	var ours []plan.Secret
	for _, lookup := range known {
		if lookup.Ours != nil {
			ours = append(ours, *lookup.Ours)
		}
	}
	if len(ours) > 0 {
		namespace = namespace.With(ours...)
	}
	return plan.ForPart(rules, namespace, part, plan.Visibility{
		Issued: c.state.Issued, Watched: c.state.Watched, Gone: func(secret string) bool { return known[secret].Gone },
	})
}

// unknown returns the names to look up: those that were not looked up yet, except names listed only by accounts whose edit is being held
// back. Looking those up would change the edit, and a changed edit is not held back.
func (c *Controller) unknown(planned plan.Plan, namespace plan.Namespace, known map[string]plan.Lookup) []string {
	names := slices.DeleteFunc(planned.Unknown, func(name string) bool { _, found := known[name]; return found })
	if len(names) == 0 {
		return nil
	}
	now, waiting := time.Now(), map[string]bool{}
	for _, change := range planned.Changes {
		if edit, is := change.(plan.EditAccount); is {
			_, _, contended := c.repairs.Held(edit, now)
			waiting[edit.Name] = contended || c.refusals.Known(edit, edit.Version)
		}
	}
	open := slices.DeleteFunc(slices.Clone(namespace.Accounts), func(account plan.Account) bool { return waiting[account.Name] })
	if len(open) == len(namespace.Accounts) {
		return names
	}
	listed := plan.Listed(open, pullsecret.Among(names))
	return slices.DeleteFunc(names, func(name string) bool { _, is := listed[name]; return !is })
}

// lookUp looks up the Secret behind an entry. Only its owner, or an ImagePullSecret of its name, makes a Secret ours; that it was looked
// up does not.
func (c *Controller) lookUp(ctx context.Context, rules *pullsecret.Rules, namespace, name string) (plan.Lookup, error) {
	secret, allowed, err := c.Clients.FindSecret(ctx, namespace, name)
	switch {
	case err != nil:
		return plan.Lookup{}, err
	case !allowed && c.Grants != nil:
		return plan.Lookup{}, errRefused
	case !allowed: // nobody knows whose Secret it is, so the entry stays
		c.Log.Debug("entries were left alone: their secret may not be read", "namespace", namespace, "secret", name)
		return plan.Lookup{}, nil
	case secret == nil:
		return plan.Lookup{Gone: true}, nil
	}
	if stripped := plan.StripSecret(secret).Object; plan.Ours(stripped, rules, plan.Visibility{Watched: c.state.Watched}) {
		return plan.Lookup{Ours: &stripped}, nil
	}
	return plan.Lookup{}, nil
}
