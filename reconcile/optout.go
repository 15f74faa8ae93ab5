package reconcile

import (
	"context"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// EventOddOptOut is the reason of the event on a Namespace or ServiceAccount whose label opts out by no value that there is.
const EventOddOptOut = "UnknownOptOut"

// oddMessage says what to write instead. The value is not repeated: it stands on the object.
const oddMessage = "the label " + v1.OptOutLabel + " keeps this object out only if its value is \"" + v1.OptOutValue + "\", and has another one: write \"" +
	v1.OptOutValue + "\" to opt out, or \"" + v1.OptInValue + "\""

// tellOdd records an event on each of these accounts of a part of a namespace, "" for itself, once for as long as its label is odd.
func (c *Controller) tellOdd(ctx context.Context, namespace plan.Namespace, part plan.Part, odd []string) {
	for _, name := range c.newlyOdd(namespace.Name, part, odd) {
		subject := &corev1.ObjectReference{APIVersion: "v1", Kind: "Namespace", Name: namespace.Name, UID: namespace.UID}
		if name != "" {
			subject = &corev1.ObjectReference{APIVersion: "v1", Kind: "ServiceAccount", Namespace: namespace.Name, Name: name}
			c.identify(ctx, subject)
		}
		c.Recorder.Event(subject, corev1.EventTypeWarning, EventOddOptOut, oddMessage)
	}
}

// newlyOdd returns those of which no event tells yet.
func (c *Controller) newlyOdd(namespace string, part plan.Part, odd []string) (news []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	told := c.odd[namespace]
	if c.Recorder == nil || len(told) == 0 && len(odd) == 0 {
		return nil
	}
	isOdd := pullsecret.Among(odd)
	maps.DeleteFunc(told, func(name string, _ bool) bool {
		return !isOdd(name) && part.Holds(plan.ObjectKey{Namespace: namespace, Account: true, Name: name})
	})
	for _, name := range odd {
		if told[name] {
			continue
		}
		if told == nil {
			told = map[string]bool{}
			c.odd[namespace] = told
		}
		told[name] = true
		news = append(news, name)
	}
	if len(told) == 0 {
		delete(c.odd, namespace)
	}
	return news
}

// identify has an event found by kubectl describe, which asks for an account's UID. Those of accounts are not kept.
func (c *Controller) identify(ctx context.Context, account *corev1.ObjectReference) {
	options := metav1.ListOptions{}
	clientset.ByName(account.Name)(&options)
	ctx, cancel := context.WithTimeout(ctx, c.writer.timeout)
	defer cancel()
	found, err := c.Clients.ServiceAccounts(account.Namespace).List(ctx, options)
	if err == nil && len(found.Items) == 1 {
		account.UID = found.Items[0].UID
	}
}
