// Package matchtest holds the cases that everything must agree on that says which entries a ServiceAccount is born with:
// the Go code, the webhook, and the admission policy in the API server. It is for tests.
package matchtest

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

//go:embed matching.yaml
var table []byte

// Case is one ServiceAccount, the ImagePullSecrets there are, and what it lists then.
type Case struct {
	Name string
	// Rules are the ImagePullSecrets.
	Rules []*v1.ImagePullSecret
	// Namespace, AccountName and GenerateName are the account's; one of the names is blank.
	Namespace, AccountName, GenerateName string
	// Has is what the account is created with, Want what it lists afterwards, each in order.
	Has, Want []string
}

// Cases returns the cases. The names of their ImagePullSecrets begin with prefix and the number of the case, so that all
// of them can exist side by side.
func Cases(prefix string) ([]Case, error) {
	var file struct {
		Cases []struct {
			Name    string
			Rules   map[string]string
			Account string
			Has     []string
			Want    []string
		}
	}
	if err := yaml.UnmarshalStrict(table, &file); err != nil {
		return nil, fmt.Errorf("reading the matching cases: %w", err)
	}
	cases := make([]Case, len(file.Cases))
	for i, read := range file.Cases {
		named := func(rule string) string { return fmt.Sprintf("%s%02d-%s", prefix, i, rule) }
		c := Case{Name: read.Name}
		for name, lists := range read.Rules {
			namespaces, accounts, found := strings.Cut(lists, "|")
			if !found {
				return nil, fmt.Errorf("reading the matching case %q: rule %s must be \"namespaces | serviceAccounts\"", read.Name, name)
			}
			c.Rules = append(c.Rules, &v1.ImagePullSecret{
				ObjectMeta: metav1.ObjectMeta{Name: named(name)},
				Spec: v1.ImagePullSecretSpec{
					Namespaces: list(namespaces), ServiceAccounts: list(accounts),
					Docker: v1.DockerCredential{Username: "robot", Password: "password", Server: named(name) + ".example.com"},
				},
			})
		}
		namespace, account, found := strings.Cut(read.Account, "/")
		if !found {
			return nil, fmt.Errorf("reading the matching case %q: account must be \"namespace/name\"", read.Name)
		}
		c.Namespace, c.AccountName = namespace, account
		if strings.HasSuffix(account, "-") {
			c.AccountName, c.GenerateName = "", account
		}
		for _, entry := range read.Has {
			if rule, ours := strings.CutPrefix(entry, "rule:"); ours {
				entry = pullsecret.SecretName(named(rule))
			}
			c.Has = append(c.Has, entry)
		}
		c.Want = append(c.Want, c.Has...)
		for _, rule := range read.Want {
			if secret := pullsecret.SecretName(named(rule)); !slices.Contains(c.Has, secret) {
				c.Want = append(c.Want, secret)
			}
		}
		cases[i] = c
	}
	return cases, nil
}

// list returns a list field as it is written; blank where it is left out, which it then is in JSON too.
func list(text string) string {
	if strings.TrimSpace(text) == "-" {
		return ""
	}
	return text
}
