package reconcile

import (
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// everywhere selects every namespace.
var everywhere = pullsecret.Named(pullsecret.Everything)

// changed enqueues namespaces in which something changed.
func (c *Controller) changed(namespaces ...string) {
	for _, namespace := range namespaces {
		c.queue.Add(namespace)
	}
	c.enqueueStatuses(namespaces...)
}

// accountChanged enqueues an account that was created, changed or deleted.
func (c *Controller) accountChanged(account plan.Namespaced[plan.Account]) {
	key := plan.ObjectKey{Namespace: account.Namespace, Account: true, Name: account.Object.Name}
	c.partChanged(account.Namespace, plan.PartOf(key))
}

// partChanged enqueues the part of a namespace in which something changed.
func (c *Controller) partChanged(namespace string, part plan.Part) {
	for key := range part.Keys(namespace) {
		c.queue.AddObject(key)
	}
	if !part.Empty() {
		c.enqueueStatuses(namespace)
	}
}

// enqueueStatuses notes that the status of every ImagePullSecret that selects one of these namespaces may have changed.
func (c *Controller) enqueueStatuses(namespaces ...string) {
	rules := c.Index.Rules()
	for _, namespace := range namespaces {
		for _, rule := range rules.In(namespace, c.state.Labels(namespace)) {
			c.status.Enqueue(rule.Name)
		}
	}
	if len(namespaces) > 0 {
		c.status.Enqueue(c.secrets.retiring()...)
	}
}

// enqueue enqueues the live namespaces that are selected, or may be.
func (c *Controller) enqueue(selected pullsecret.Namespaces) {
	var names []string
	c.state.EachPossible(selected, func(namespace *plan.Namespace) { names = append(names, namespace.Name) })
	for _, name := range names {
		c.queue.Add(name)
	}
}
