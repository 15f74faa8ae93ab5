// Package preview says what creating or changing an ImagePullSecret would do, without doing it. It is pure: it asks the same rules
// that the manager follows.
package preview

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Namespace is what matters of a namespace.
type Namespace struct {
	Name string
	// Ending is whether it is being deleted: it gets nothing.
	Ending   bool
	Accounts []Account
	// Secret is the one that bears the name of what the ImagePullSecret issues; nil where there is none, or none is known.
	Secret *Secret
}

// Account is what matters of a ServiceAccount.
type Account struct {
	Name    string
	Entries []string
}

// Secret is what matters of a Secret in the place of ours.
type Secret struct {
	Type    string
	Managed bool
}

// Op is what becomes of something.
type Op string

// What may become of it.
const (
	Gain   Op = "+"
	Lose   Op = "-"
	Change Op = "~"
)

// Effect is what becomes of a namespace.
type Effect struct {
	Op        Op     `json:"op"`
	Namespace string `json:"namespace"`
	// Secret is whether the Op is about the Secret: gained, lost or written anew. Else it is about accounts alone.
	Secret bool `json:"secret"`
	// Gain and Lose are the accounts whose entry is added or removed.
	Gain []string `json:"gain,omitempty"`
	Lose []string `json:"lose,omitempty"`
}

// Preview is what would become of the cluster.
type Preview struct {
	Name string `json:"name"`
	// New is whether there is no ImagePullSecret of this name yet.
	New bool `json:"new"`
	// Refused is what is wrong with the object: it would not be taken.
	Refused []string `json:"refused,omitempty"`
	// Server is set where it changes: from and to.
	Server []string `json:"server,omitempty"`
	// Credential is whether another credential is issued than before.
	Credential bool     `json:"credential"`
	Effects    []Effect `json:"effects,omitempty"`
	// InTheWay are Secrets that stand where ours belong, Conflicts other ImagePullSecrets with another credential for the server.
	InTheWay  []string `json:"inTheWay,omitempty"`
	Conflicts []string `json:"conflicts,omitempty"`
}

// Empty reports whether nothing would become of it.
func (p *Preview) Empty() bool {
	return len(p.Refused) == 0 && len(p.Effects) == 0 && len(p.InTheWay) == 0 && len(p.Conflicts) == 0 && !p.Credential && !p.New && len(p.Server) == 0
}

// For compares an ImagePullSecret as it would be with those that there are, in a cluster of these namespaces. Nothing that it returns
// holds a part of a credential.
func For(object *v1.ImagePullSecret, existing []v1.ImagePullSecret, namespaces []Namespace) Preview {
	preview := Preview{Name: object.Name, New: true}
	after, errs := pullsecret.Parse(object)
	if preview.Refused = texts(errs); len(errs) > 0 {
		preview.New = !slices.ContainsFunc(existing, func(e v1.ImagePullSecret) bool { return e.Name == object.Name })
		return preview
	}
	var before *pullsecret.Rule
	var others []*pullsecret.Rule
	for i := range existing {
		rule, errs := pullsecret.Parse(&existing[i])
		switch {
		case existing[i].Name == object.Name:
			preview.New, before = false, rule
		case len(errs) == 0:
			others = append(others, rule)
		}
	}
	if before != nil {
		preview.Credential = before.Sum != after.Sum
		if before.Server != after.Server {
			preview.Server = []string{before.Server, after.Server}
		}
	}
	for _, namespace := range namespaces {
		if namespace.Ending {
			continue
		}
		if effect, any := effectOn(namespace, before, after); any {
			preview.Effects = append(preview.Effects, effect)
		}
		if text := inTheWay(namespace, after); text != "" {
			preview.InTheWay = append(preview.InTheWay, text)
		}
	}
	preview.Conflicts = conflicts(after, others, namespaces)
	return preview
}

func texts(errs field.ErrorList) (texts []string) {
	for _, err := range errs {
		texts = append(texts, err.Error())
	}
	return texts
}

// selects reports whether a rule selects a namespace; no rule selects none.
func selects(rule *pullsecret.Rule, namespace string) bool {
	return rule != nil && rule.Namespaces.Matches(namespace)
}

func effectOn(namespace Namespace, before, after *pullsecret.Rule) (Effect, bool) {
	had, has := selects(before, namespace.Name), selects(after, namespace.Name)
	effect := Effect{Namespace: namespace.Name}
	switch {
	case has && !had:
		effect.Op, effect.Secret = Gain, true
	case had && !has:
		effect.Op, effect.Secret = Lose, true
	case had && has && before.Sum != after.Sum:
		effect.Op, effect.Secret = Change, true
	}
	for _, account := range namespace.Accounts {
		listed := slices.Contains(account.Entries, after.Secret)
		wanted := has && after.ServiceAccounts.Matches(account.Name)
		unwanted := had && before.ServiceAccounts.Matches(account.Name) && !wanted
		switch {
		case wanted && !listed:
			effect.Gain = append(effect.Gain, account.Name)
		case unwanted && listed:
			effect.Lose = append(effect.Lose, account.Name)
		}
	}
	if effect.Op == "" {
		effect.Op = Change
	}
	return effect, effect.Secret || len(effect.Gain)+len(effect.Lose) > 0
}

// inTheWay tells of a Secret that stands where ours belongs.
func inTheWay(namespace Namespace, after *pullsecret.Rule) string {
	secret := namespace.Secret
	if secret == nil || secret.Managed || !selects(after, namespace.Name) {
		return ""
	}
	where := "secret " + namespace.Name + "/" + after.Secret
	if secret.Type != "kubernetes.io/dockerconfigjson" {
		return fmt.Sprintf("%s is of type %s: it is left alone, and the namespace gets no credential until it is deleted or renamed", where,
			secret.Type)
	}
	return where + " is somebody else's: it would be taken over, and what it holds overwritten"
}

// maxNamed is how many namespaces a conflict names.
const maxNamed = 5

// conflicts tells which others give the same server another credential in a common namespace.
func conflicts(after *pullsecret.Rule, others []*pullsecret.Rule, namespaces []Namespace) (texts []string) {
	for _, other := range others {
		if !strings.EqualFold(other.Server, after.Server) || other.Sum == after.Sum {
			continue
		}
		var common []string
		for _, namespace := range namespaces {
			if !namespace.Ending && selects(after, namespace.Name) && selects(other, namespace.Name) {
				common = append(common, namespace.Name)
			}
		}
		if len(common) == 0 {
			continue
		}
		where := strings.Join(common[:min(len(common), maxNamed)], ", ")
		if more := len(common) - maxNamed; more > 0 {
			where += fmt.Sprintf(" and %d more", more)
		}
		texts = append(texts, fmt.Sprintf("imagepullsecret %s gives %s another credential in %s: a kubelet tries both", other.Name,
			after.Server, where))
	}
	slices.Sort(texts)
	return texts
}
