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

// EventOddOptOut is the reason of the event on a Namespace or ServiceAccount whose opt-out label has an unknown value.
const EventOddOptOut = "UnknownOptOut"

// oddMessage says what to write instead. It does not repeat the value, which is on the object.
const oddMessage = "the label " + v1.OptOutLabel + " has an unknown value and is ignored: write \"" + v1.OptOutValue +
	"\" to opt this object out, or \"" + v1.OptInValue + "\" not to"

// tellOdd records an event on each of these accounts in a part of a namespace, "" being the namespace itself, once for as long as its
// label is odd.
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

// newlyOdd returns those for which no event was recorded yet.
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

// identify sets the account's UID, by which kubectl describe looks for events. UIDs of accounts are not kept in memory.
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
