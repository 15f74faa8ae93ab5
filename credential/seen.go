package credential

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Seen are Secrets of the manager's namespace, as somebody saw them.
type Seen struct {
	Namespace string
	// Secrets are those that were looked at, by name; nil is one that is not there.
	Secrets map[string]*corev1.Secret
	// Domains are the default ones of registry instances, by id, as far as they are known.
	Domains map[string]string
}

// Supply returns a rule with what the Secret that it refers to gives, or with the domain of its registry instance; the rule itself where
// it refers to neither, or to what was not looked at.
func (s Seen) Supply(rule *pullsecret.Rule) *pullsecret.Rule {
	if rule.Registry != nil {
		return rule.With(pullsecret.Credential{Renewal: pullsecret.Renewal{Domain: s.Domains[rule.Registry.ID]}})
	}
	secret, looked := s.Secrets[rule.Reference]
	if rule.Reference == "" || !looked {
		return rule
	}
	return rule.With(Of(s.Name(rule.Reference), secret, rule.Servers))
}

// Name names a Secret of that namespace.
func (s Seen) Name(secret string) types.NamespacedName {
	return types.NamespacedName{Namespace: s.Namespace, Name: secret}
}
