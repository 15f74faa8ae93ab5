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
	// Verbs are what it grants on the Secrets that it lists. The admission policy allows no other verbs.
	Verbs []string
}

// Roles of the manager, and of the uninstall Job, which only has to find out whose entries an account has.
var (
	Manager   = Role{"tcr-assistant-secrets-role", []string{"get", "list", "watch", "patch", "delete"}}
	Uninstall = Role{"tcr-assistant-uninstall-secrets-role", []string{"get"}}
)

const (
	// limit is the maximum size of all names together, in bytes: etcd accepts no object of more than 1.5 MiB.
	limit = 1 << 20
	// overhead is how many bytes a name takes in addition to its own.
	overhead = 4
)

// Rules returns the rules that grant the Secrets of these names, and no others. Without names it returns no rule, since a rule without
// names grants all Secrets.
func (r Role) Rules(names []string) []rbacv1.PolicyRule {
	if len(names) == 0 {
		return nil
	}
	return []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: names, Verbs: r.Verbs}}
}

// decision is what the role should become.
type decision struct {
	// names are the names that it should list, sorted.
	names []string
	// added are those of them that it does not list yet.
	added []string
	// left are the names that should stay, but for which it has no room.
	left []string
	// strange says that it holds something that the manager never writes; write, that it has to be written.
	strange, write bool
}

// decide compares the rules of the role with the wanted and borrowed names, both sorted and without duplicates. Where there is no room
// for all, wanted names come before borrowed ones and, among each, those that the role already lists come first, so that what works
// continues to work.
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
	fill(borrowed, false) // Borrow waits until other names expire
	slices.Sort(d.names)
	d.write = !equality.Semantic.DeepEqual(rules, r.Rules(d.names))
	return d
}

// listed returns the names that the rules grant as Rules does, and whether the rules hold anything else.
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
