package secretsrole

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Role is a ClusterRole that lists Secrets.
type Role struct {
	Name string
	// Verbs are what it grants on those that it lists. The admission policy knows of no others.
	Verbs []string
}

// Roles of the manager, and of the job of an uninstall, which only has to tell whose entry an account's is.
var (
	Manager   = Role{"tcr-assistant-secrets-role", []string{"get", "list", "watch", "patch", "delete"}}
	Uninstall = Role{"tcr-assistant-uninstall-secrets-role", []string{"get"}}
)

const (
	// limit is how many bytes the names may have together: etcd takes no object of more than 1.5 MiB.
	limit = 1 << 20
	// overhead is what a name takes besides its own bytes.
	overhead = 4
)

// Rules returns what grants the Secrets of these names, and no others: no rule where there is no name, since a rule without
// names grants all.
func (r Role) Rules(names []string) []rbacv1.PolicyRule {
	if len(names) == 0 {
		return nil
	}
	return []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: names, Verbs: r.Verbs}}
}

// decision is what to make of the role.
type decision struct {
	// names are those that it is to list, in their order.
	names []string
	// added are those among them that it does not list as it is.
	added []string
	// left are those that are to stay, and have no room in it.
	left []string
	// strange says that it holds what nobody but somebody else can have written there; write, that it is to be written.
	strange, write bool
}

// decide compares the rules of the role with the names that are wanted to stay and for a moment, each once and in their order. Where
// not all have room, those that are to stay come first, and of each the ones that the role lists already: what works goes on to
// work.
func (r Role) decide(wanted, borrowed []string, rules []rbacv1.PolicyRule) decision {
	listed, strange := r.listed(rules)
	d, room := decision{strange: strange}, limit
	fill := func(names []string, old bool) (left []string) {
		for _, name := range names {
			cost := len(name) + overhead
			switch {
			case listed[name] != old:
			case cost > room:
				left = append(left, name)
			default:
				room -= cost
				d.names = append(d.names, name)
				if !old {
					d.added = append(d.added, name)
				}
			}
		}
		return left
	}
	d.left = append(fill(wanted, true), fill(wanted, false)...)
	fill(borrowed, true)
	fill(borrowed, false) // who borrows waits for others to go
	slices.Sort(d.names)
	d.write = !equality.Semantic.DeepEqual(rules, r.Rules(d.names))
	return d
}

// listed returns the names whose Secrets the rules grant as Rules does, and whether they hold anything else.
func (r Role) listed(rules []rbacv1.PolicyRule) (names map[string]bool, strange bool) {
	names = map[string]bool{}
	for _, rule := range rules {
		if len(rule.ResourceNames) == 0 || !equality.Semantic.DeepEqual(rule, r.Rules(rule.ResourceNames)[0]) {
			strange = true
			continue
		}
		for _, name := range rule.ResourceNames {
			names[name] = true
			strange = strange || !strings.HasPrefix(name, pullsecret.SecretPrefix)
		}
	}
	return names, strange || len(rules) > 1
}
