package reconcile

import (
	"context"

	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// Healing knows what there is to tell of the pods that ImagePullSecrets would heal.
type Healing interface {
	// Healing returns what there is to tell of one.
	Healing(imagePullSecret string) plan.Healing
	// Changed returns a channel that is closed once there is something else to tell.
	Changed() <-chan struct{}
}

func healingOf(known Healing) func(imagePullSecret string) plan.Healing {
	if known == nil {
		return nil
	}
	return known.Healing
}

// watchHealing has the status written of the ImagePullSecrets that heal pods whenever there is something else to tell.
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

// View returns a namespace as it is known; false where nothing of it was ever seen.
func (c *Controller) View(namespace string) (plan.Namespace, bool) { return c.state.View(namespace) }
