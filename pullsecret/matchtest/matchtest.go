// Package matchtest reads the tables of test/cases. Each table is for rules that are stated in several languages, which must agree:
// which entries a ServiceAccount is born with (the Go code, the webhook, the admission policy in the API server), and what may be
// written into a spec (the Go code, the CRD, the chart). It is for tests.
package matchtest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// read reads a table of test/cases, which is in the tests' folder or in one above it.
func read(name string, into any) error {
	folder, err := os.Getwd()
	for ; err == nil; folder = filepath.Dir(folder) {
		var text []byte
		text, err = os.ReadFile(filepath.Join(folder, "test", "cases", name))
		if err == nil {
			err = yaml.UnmarshalStrict(text, into)
			break
		}
		if os.IsNotExist(err) && folder != filepath.Dir(folder) {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("reading the cases in %s: %w", name, err)
	}
	return nil
}

// Case is one ServiceAccount, the ImagePullSecrets that exist, and what the account then lists.
type Case struct {
	Name string
	// Rules are the ImagePullSecrets.
	Rules []*v1.ImagePullSecret
	// Namespace, AccountName and GenerateName are the account's; either AccountName or GenerateName is blank.
	Namespace, AccountName, GenerateName string
	// Labels are the namespace's, AccountLabels the account's.
	Labels, AccountLabels map[string]string
	// Has is what the account is created with, Want what it lists afterwards, each in order.
	Has, Want []string
}

// row is a Case in the form of the table.
type row struct {
	Name                  string
	Rules                 map[string]string
	Selectors             map[string]*v1.LabelSelector
	Excluded              map[string][]v1.NamespaceName
	Account               string
	Labels, AccountLabels map[string]string
	Has, Want             []string
}

// Cases returns the cases. The names of their ImagePullSecrets begin with prefix and the number of the case, so that all
// of them can exist side by side.
func Cases(prefix string) ([]Case, error) {
	var file struct{ Cases []row }
	if err := read("matching.yaml", &file); err != nil {
		return nil, err
	}
	cases := make([]Case, len(file.Cases))
	for i, read := range file.Cases {
		named := func(rule string) string { return fmt.Sprintf("%s%02d-%s", prefix, i, rule) }
		c := Case{Name: read.Name, AccountLabels: read.AccountLabels}
		for name, lists := range read.Rules {
			namespaces, accounts, found := strings.Cut(lists, "|")
			if !found {
				return nil, fmt.Errorf("reading the matching case %q: rule %s must be \"namespaces | serviceAccounts\"", read.Name, name)
			}
			c.Rules = append(c.Rules, &v1.ImagePullSecret{
				ObjectMeta: metav1.ObjectMeta{Name: named(name)},
				Spec: v1.ImagePullSecretSpec{
					Namespaces: list(namespaces), ServiceAccounts: list(accounts),
					NamespaceSelector: read.Selectors[name], ExcludedNamespaces: read.Excluded[name],
					Docker: v1.DockerCredential{Username: "robot", Password: "password", Server: named(name) + ".example.com"},
				},
			})
		}
		namespace, account, found := strings.Cut(read.Account, "/")
		if !found {
			return nil, fmt.Errorf("reading the matching case %q: account must be \"namespace/name\"", read.Name)
		}
		c.Namespace, c.AccountName = namespace, account
		c.Labels = map[string]string{corev1.LabelMetadataName: namespace} // as every namespace has it
		maps.Copy(c.Labels, read.Labels)
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

// list returns a list field as it is written; blank, which omits it from the JSON, where the table leaves it out as "-".
func list(text string) string {
	if strings.TrimSpace(text) == "-" {
		return ""
	}
	return text
}
