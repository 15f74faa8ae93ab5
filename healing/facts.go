package healing

import (
	"slices"
	"strings"

	"github.com/tcr-assistant/tcr-assistant/image"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// Facts are what is known about what the pods of an account pull with.
type Facts struct {
	// OptedOut is whether the label of the namespace or of the account opts out.
	OptedOut bool
	// Entries are the names that the account lists, at the latest since Listed, in Unix seconds.
	Entries []string
	Listed  int64
	// Givers are the ImagePullSecrets that heal pods of the account.
	Givers []Giver
}

// Giver is an ImagePullSecret that heals pods.
type Giver struct {
	// Name is the name of the ImagePullSecret, Secret the name of its Secret, and Servers are the servers that its credential is for.
	Name, Secret string
	Servers      []string
	// Current is whether the Secret in the namespace holds the current credential, since Written, in Unix seconds.
	Current bool
	Written int64
	// Inserted is whether pods with pull secrets of their own are given the Secret, too, when they are created.
	Inserted bool
	// Bad is whether the credential is known to be refused.
	Bad bool
}

// FactsOf returns what is known about what the pods of an account pull with. bad reports whether a rule's credential is known to be
// refused.
func FactsOf(rules *pullsecret.Rules, namespace plan.Namespace, account string, bad func(*pullsecret.Rule) bool) Facts {
	facts := Facts{OptedOut: namespace.OptOut == pullsecret.OptedOut}
	if !namespace.Live {
		return facts
	}
	if known, found := namespace.Account(account); found {
		facts.Entries, facts.Listed = known.Secrets, known.Updated
		facts.OptedOut = facts.OptedOut || known.OptOut == pullsecret.OptedOut
	}
	for _, rule := range rules.In(namespace.Name, namespace.Labels) {
		if !rule.Heals || !rule.ServiceAccounts.Matches(account) {
			continue
		}
		secret, found := namespace.Secret(rule.Secret)
		facts.Givers = append(facts.Givers, Giver{
			Name: rule.Name, Secret: rule.Secret, Servers: rule.Servers,
			Current: found && rule.Known() && plan.Current(secret, rule), Written: secret.Updated,
			Inserted: inserted(rules, rule, namespace, account), Bad: bad(rule),
		})
	}
	return facts
}

// inserted reports whether a pod of the account that pulls from a rule's server, and lists pull secrets of its own, is given the Secret
// when it is created.
func inserted(rules *pullsecret.Rules, rule *pullsecret.Rule, namespace plan.Namespace, account string) bool {
	pod := &pullsecret.Pod{Namespace: namespace.Name, ServiceAccount: account, Images: []string{rule.Servers[0] + "/any"}}
	return rule.Pods != "" && slices.Contains(rules.PodSecrets(pod, func() pullsecret.Labels { return namespace.Labels }), rule.Secret)
}

// gives reports whether a kubelet uses the credential to pull from a registry. To a kubelet, a host without a dot or a port is a user of
// Docker Hub.
func (g Giver) gives(host string) bool {
	hub := host == "docker.io" || host != "" && !strings.ContainsAny(host, ".:")
	return slices.ContainsFunc(g.Servers, func(server string) bool {
		return strings.EqualFold(server, host) || hub && server == image.DockerHub
	})
}

// stands returns since when the entry and the giver's Secret are in place, in Unix seconds: pods that are created later have both.
func (f Facts) stands(giver Giver) int64 { return max(f.Listed, giver.Written) }
