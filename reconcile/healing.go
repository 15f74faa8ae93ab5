package reconcile

import (
	"context"

	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// Healing reports on the pods that ImagePullSecrets heal.
type Healing interface {
	// Healing returns the report of one ImagePullSecret.
	Healing(imagePullSecret string) plan.Healing
	// Changed returns a channel that is closed once a report changes.
	Changed() <-chan struct{}
}

func healingOf(known Healing) func(imagePullSecret string) plan.Healing {
	if known == nil {
		return nil
	}
	return known.Healing
}

// watchHealing enqueues the status of the ImagePullSecrets that heal pods whenever a report changes.
func (c *Controller) watchHealing(ctx context.Context) {
	for c.Healing != nil && ctx.Err() == nil {
		changed := c.Healing.Changed()
		for rule := range c.Index.Rules().All() {
			if rule.Heals {
				c.status.Enqueue(rule.Name)
			}
		}
		waitFor(ctx, changed)
	}
}

// View returns what is known of a namespace; false where nothing in it was ever seen.
func (c *Controller) View(namespace string) (plan.Namespace, bool) { return c.state.View(namespace) }
