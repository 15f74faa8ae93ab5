package credential

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Seen is a snapshot of Secrets of the manager's namespace.
type Seen struct {
	Namespace string
	// Secrets holds those that were read, by name; nil means that it does not exist.
	Secrets map[string]*corev1.Secret
	// Domains holds the default domains of registry instances, by id, as far as they are known.
	Domains map[string]string
}

// Supply returns a rule with the credential of the Secret that it refers to, or with the domain of its registry instance. It returns the
// rule itself if that refers to neither, or to a Secret that was not read.
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

// Name returns the full name of a Secret of that namespace.
func (s Seen) Name(secret string) types.NamespacedName {
	return types.NamespacedName{Namespace: s.Namespace, Name: secret}
}
