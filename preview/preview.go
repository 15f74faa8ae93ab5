// Package preview says what creating or changing an ImagePullSecret would do, without doing it. It is pure, and uses the same rules as
// the manager.
package preview

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Namespace is what matters of a namespace.
type Namespace struct {
	Name   string
	Labels pullsecret.Labels
	// OptedOut is whether its owner keeps it out, whatever selects it.
	OptedOut bool
	// Ending is whether it is being deleted: it gets nothing.
	Ending   bool
	Accounts []Account
	// Secret is the one with the name of the Secret that the ImagePullSecret issues; nil where there is none, or none is known.
	Secret *Secret
}

// Account is what matters of a ServiceAccount.
type Account struct {
	Name string
	// OptedOut is whether its owner keeps it out, whatever selects it.
	OptedOut bool
	Entries  []string
}

// Secret is what matters of a Secret that has the name of ours.
type Secret struct {
	Type    string
	Managed bool
}

// Op is how something changes.
type Op string

// The possible changes.
const (
	Gain   Op = "+"
	Lose   Op = "-"
	Change Op = "~"
)

// Effect is how a namespace changes.
type Effect struct {
	Op        Op     `json:"op"`
	Namespace string `json:"namespace"`
	// Secret is whether the Op is about the Secret: gained, lost or rewritten. Otherwise it is only about accounts.
	Secret bool `json:"secret"`
	// Gain and Lose are the accounts whose entry is added or removed.
	Gain []string `json:"gain,omitempty"`
	Lose []string `json:"lose,omitempty"`
}

// Preview is how the cluster would change.
type Preview struct {
	Name string `json:"name"`
	// New is whether there is no ImagePullSecret with this name yet.
	New bool `json:"new"`
	// Refused is what is wrong with the object: the API server would refuse it.
	Refused []string `json:"refused,omitempty"`
	// GainServers are the hosts that the credential would newly be for, LoseServers those that it would no longer be for.
	GainServers []string `json:"gainServers,omitempty"`
	LoseServers []string `json:"loseServers,omitempty"`
	// Credential is whether another credential would be issued than before.
	Credential bool `json:"credential"`
	// Pods says which pods that list pull secrets of their own would also get it, if that changes: Never for none.
	Pods string `json:"pods,omitempty"`
	// Healing says what would happen to pods that came before the credential, if that changes: Never if none would be evicted.
	Healing string `json:"healing,omitempty"`
	// Unread is why the credential cannot be read: until it can, no Secret is written.
	Unread  string   `json:"unread,omitempty"`
	Effects []Effect `json:"effects,omitempty"`
	// OptedOut are the namespaces and accounts that would gain if they did not opt out by label.
	OptedOut []string `json:"optedOut,omitempty"`
	// InTheWay are Secrets that have the name of ours. Conflicts are other ImagePullSecrets with another credential for the server.
	InTheWay  []string `json:"inTheWay,omitempty"`
	Conflicts []string `json:"conflicts,omitempty"`
}

// Empty reports whether nothing would change.
func (p *Preview) Empty() bool {
	told := len(p.Refused) + len(p.Effects) + len(p.InTheWay) + len(p.Conflicts) + len(p.GainServers) + len(p.LoseServers)
	return told == 0 && !p.Credential && !p.New && p.Unread == "" && p.Pods+p.Healing == ""
}

// For returns the preview of creating or changing an ImagePullSecret, given the existing ones and the namespaces of the cluster. seen
// holds what they refer to, as far as it was looked up; anything else is assumed to give a credential. The result holds no part of a
// credential.
func For(object *v1.ImagePullSecret, existing []v1.ImagePullSecret, seen credential.Seen, namespaces []Namespace) Preview {
	preview := Preview{Name: nameOf(object), New: true}
	after, errs := pullsecret.Parse(object)
	errs = append(checkName(object), errs...)
	if preview.Refused = texts(errs); len(errs) > 0 {
		preview.New = !slices.ContainsFunc(existing, func(e v1.ImagePullSecret) bool { return e.Name == object.Name })
		return preview
	}
	after = seen.Supply(after)
	var before *pullsecret.Rule
	var others []*pullsecret.Rule
	for i := range existing {
		rule, errs := pullsecret.Parse(&existing[i])
		if len(errs) == 0 {
			rule = seen.Supply(rule)
		}
		switch {
		case existing[i].Name == object.Name:
			preview.New, before = false, rule
		case len(errs) == 0:
			others = append(others, rule)
		}
	}
	if before != nil {
		preview.Credential = reissues(before, after)
		had, has := serversOf(before), serversOf(after)
		preview.GainServers, preview.LoseServers = lacking(had, has), lacking(has, had)
	}
	preview.Pods, preview.Healing = pods(before, after), healing(before, after)
	if after.Unread != nil {
		preview.Unread = after.Unread.Message
	}
	for _, namespace := range namespaces {
		if !namespace.Ending {
			preview.take(namespace, before, after)
		}
	}
	preview.Conflicts = conflicts(after, others, namespaces)
	return preview
}

// pods returns what spec.pods would say; blank where that is no change.
func pods(before, after *pullsecret.Rule) string {
	if before == nil && after.Pods == "" || before != nil && before.Pods == after.Pods {
		return ""
	}
	return cmp.Or(after.Pods, v1.PodsNever)
}

// healing returns what spec.healing would say; blank where that is no change.
func healing(before, after *pullsecret.Rule) string {
	switch heals := before != nil && before.Heals; {
	case heals == after.Heals:
		return ""
	case after.Heals:
		return v1.HealingEvict
	}
	return v1.HealingNever
}

// nameOf returns the name of an object; its generateName and "…" if the API server completes the name.
func nameOf(object *v1.ImagePullSecret) string {
	if object.Name == "" && object.GenerateName != "" {
		return object.GenerateName + "…"
	}
	return object.Name
}

// checkName returns what the API server would find wrong with the name of an object.
func checkName(object *v1.ImagePullSecret) (errs field.ErrorList) {
	metadata := field.NewPath("metadata")
	path, name, begins := metadata.Child("name"), object.Name, false
	if name == "" {
		path, name, begins = metadata.Child("generateName"), object.GenerateName, true
	}
	if name == "" {
		return field.ErrorList{field.Required(metadata.Child("name"), "name or generateName is required")}
	}
	for _, message := range validation.NameIsDNSSubdomain(name, begins) {
		errs = append(errs, field.Invalid(path, name, message))
	}
	return errs
}

// Compared returns those of existing whose credential For compares with that of the object: those for the same server, and those for a
// registry instance, whose servers are not in their specs. It includes the object's own predecessor.
func Compared(object *v1.ImagePullSecret, existing []v1.ImagePullSecret) (compared []v1.ImagePullSecret) {
	servers := func(of *v1.ImagePullSecret) []string {
		return append([]string{of.Spec.Docker.Server}, of.Spec.Docker.AdditionalServers...)
	}
	mine := servers(object)
	for i := range existing {
		shared := slices.ContainsFunc(servers(&existing[i]), func(theirs string) bool {
			return slices.ContainsFunc(mine, func(server string) bool { return strings.EqualFold(server, theirs) })
		})
		if shared || existing[i].Name == object.Name || existing[i].Spec.TCR != nil {
			compared = append(compared, existing[i])
		}
	}
	return compared
}

// take adds how a namespace would change.
func (p *Preview) take(namespace Namespace, before, after *pullsecret.Rule) {
	if effect, any := effectOn(namespace, before, after); any {
		p.Effects = append(p.Effects, effect)
	}
	p.OptedOut = append(p.OptedOut, optedOut(namespace, before, after)...)
	if text := inTheWay(namespace, after); text != "" {
		p.InTheWay = append(p.InTheWay, text)
	}
}

// serversOf returns the hosts that a credential is for. While the domains of a registry instance are not known, its id stands for them.
func serversOf(rule *pullsecret.Rule) []string {
	if rule.Reachable() {
		return rule.Servers
	}
	return append([]string{"(" + rule.Called(rule.Servers[0]) + ")"}, rule.Registry.Additional...)
}

// lacking returns those names that are not among others.
func lacking(others, names []string) (lacking []string) {
	for _, name := range names {
		if !slices.Contains(others, name) {
			lacking = append(lacking, name)
		}
	}
	return lacking
}

// reissues reports whether Secrets would be rewritten. If one of the credentials is not known, their sources are compared instead.
func reissues(before, after *pullsecret.Rule) bool {
	switch {
	case after.Unread != nil:
		return false // what was issued stays
	case before.Registry != nil && after.Registry != nil:
		return before.Registry.ID != after.Registry.ID || before.Registry.Region != after.Registry.Region ||
			!slices.Equal(before.Registry.Additional, after.Registry.Additional)
	case before.Registry != nil || after.Registry != nil:
		return true
	case before.Known() && after.Known():
		return before.Sum != after.Sum
	case before.Unread != nil:
		return true
	}
	return before.Reference != after.Reference || !slices.Equal(before.Servers, after.Servers)
}

func texts(errs field.ErrorList) (texts []string) {
	for _, err := range errs {
		texts = append(texts, err.Error())
	}
	return texts
}

// names reports whether a rule selects a namespace, even if that opts out. A nil rule selects none.
func names(rule *pullsecret.Rule, namespace Namespace) bool {
	if rule == nil {
		return false
	}
	selected, _ := rule.Namespaces.Selects(namespace.Name, namespace.Labels)
	return selected
}

// selects reports whether a namespace gets what a rule issues.
func selects(rule *pullsecret.Rule, namespace Namespace) bool {
	return !namespace.OptedOut && names(rule, namespace)
}

func effectOn(namespace Namespace, before, after *pullsecret.Rule) (Effect, bool) {
	had, has := selects(before, namespace), selects(after, namespace)
	effect := Effect{Namespace: namespace.Name}
	switch {
	case has && !had:
		effect.Op, effect.Secret = Gain, after.Unread == nil
	case had && !has:
		effect.Op, effect.Secret = Lose, true
	case had && has && reissues(before, after):
		effect.Op, effect.Secret = Change, true
	}
	for _, account := range namespace.Accounts {
		if account.OptedOut {
			continue
		}
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

// optedOut returns what would gain if it did not opt out by label.
func optedOut(namespace Namespace, before, after *pullsecret.Rule) (kept []string) {
	had, has := names(before, namespace), names(after, namespace)
	switch {
	case has && namespace.OptedOut && !had:
		return []string{"namespace " + namespace.Name}
	case !has || namespace.OptedOut:
		return nil
	}
	for _, account := range namespace.Accounts {
		gained := after.ServiceAccounts.Matches(account.Name) && (!had || !before.ServiceAccounts.Matches(account.Name))
		if account.OptedOut && gained {
			kept = append(kept, "serviceaccount "+namespace.Name+"/"+account.Name)
		}
	}
	return kept
}

// inTheWay returns a message about a Secret that has the name of ours; blank where there is none.
func inTheWay(namespace Namespace, after *pullsecret.Rule) string {
	secret := namespace.Secret
	if secret == nil || secret.Managed || !selects(after, namespace) {
		return ""
	}
	where := "secret " + namespace.Name + "/" + after.Secret
	if secret.Type != "kubernetes.io/dockerconfigjson" {
		return fmt.Sprintf("%s is of type %s: it is left alone, and the namespace gets no credential until it is deleted or renamed", where,
			secret.Type)
	}
	return where + " belongs to somebody else: it would be taken over, and its data overwritten"
}

// maxNamed is how many namespaces a conflict names.
const maxNamed = 5

// conflicts returns messages about the others that give the same server another credential in a common namespace.
func conflicts(after *pullsecret.Rule, others []*pullsecret.Rule, namespaces []Namespace) (texts []string) {
	for _, other := range others {
		servers := contested(after, other)
		if len(servers) == 0 {
			continue
		}
		var common []string
		for _, namespace := range namespaces {
			if !namespace.Ending && selects(after, namespace) && selects(other, namespace) {
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
		what := "another credential in %s: a kubelet tries both"
		if !after.Known() || !other.Known() {
			what = "a credential, too, in %s: a kubelet tries both if they differ, which could not be checked"
		}
		texts = append(texts, fmt.Sprintf("imagepullsecret %s gives %s "+what, other.Name, strings.Join(servers, ", "), where))
	}
	slices.Sort(texts)
	return texts
}

// contested returns the servers for which two rules have different credentials, or may have.
func contested(one, other *pullsecret.Rule) (servers []string) {
	mine, theirs := entries(one), entries(other)
	for _, server := range one.Servers {
		i := slices.IndexFunc(other.Servers, func(theirs string) bool { return strings.EqualFold(server, theirs) })
		if i >= 0 && (!one.Known() || !other.Known() || mine[server] != theirs[other.Servers[i]]) {
			servers = append(servers, one.Called(server))
		}
	}
	return servers
}

// entries returns what a rule issues for each server, as JSON.
func entries(rule *pullsecret.Rule) map[string]string {
	var config struct {
		Auths map[string]json.RawMessage `json:"auths"`
	}
	_ = json.Unmarshal(rule.Config, &config) // it was rendered from entries, or is not known
	written := map[string]string{}
	for server, entry := range config.Auths {
		written[server] = string(entry)
	}
	return written
}
