package pullsecret_test

import (
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// teamA gives one namespace and two of its ServiceAccounts the credential of a registry.
func teamA() *v1.ImagePullSecret {
	return &v1.ImagePullSecret{
		ObjectMeta: metav1.ObjectMeta{Name: "team-a"},
		Spec: v1.ImagePullSecretSpec{
			Namespaces:      "team-a",
			ServiceAccounts: "default, builder",
			Docker:          v1.DockerCredential{Username: "robot", Password: "example", Server: "team-a.example.com"},
		},
	}
}

// What is shared starts here: the webhook and the controller put every ImagePullSecret into one index, and ask it.
func Example() {
	index := pullsecret.NewIndex()
	index.Put(teamA())

	rules := index.Rules()
	fmt.Println(rules.Secrets("team-a", nil, "builder"))
	fmt.Println(rules.Secrets("team-a", nil, "other"))
	fmt.Println(rules.Secrets("team-b", nil, "builder"))
	// Output:
	// [tcr.ipsteam-a]
	// []
	// []
}

// Each mistake names its field and what to write instead. What may hold a password is not repeated.
func ExampleParse() {
	object := teamA()
	object.Spec.Namespaces = "team-*"
	object.Spec.Docker.Server = "https://team-a.example.com"
	_, mistakes := pullsecret.Parse(object)
	for _, mistake := range mistakes {
		fmt.Println(mistake)
	}
	// Output:
	// spec.namespaces: Invalid value: "team-*": must be an exact namespace name: patterns are not supported; list the names, or write "*" alone for all
	// spec.docker.server: Invalid value: "https://team-a.example.com": must be a host without a scheme: write "team-a.example.com", without "https://"
}

// The Secret is the same in every namespace.
func ExampleRule_NewSecret() {
	rule, mistakes := pullsecret.Parse(teamA())
	if len(mistakes) > 0 {
		fmt.Println(mistakes)
		return
	}
	secret := rule.NewSecret()
	fmt.Println(secret.Name)
	fmt.Println(secret.Type)
	fmt.Println(secret.Labels)
	// Output:
	// tcr.ipsteam-a
	// kubernetes.io/dockerconfigjson
	// map[app.kubernetes.io/managed-by:tcr-assistant]
}

// A ServiceAccount's list is never replaced: what is missing is appended, and what others wrote keeps its place.
func ExampleAttach() {
	show := func(list []string, present bool) {
		patch, missing, _ := pullsecret.Attach(list, present, []string{"tcr.ipsteam-a"})
		text, err := json.Marshal(patch)
		if err != nil {
			fmt.Println(err)
		}
		fmt.Println(missing, string(text))
	}
	show(nil, false)
	show([]string{"theirs"}, true)
	show([]string{"tcr.ipsteam-a", "theirs"}, true)
	// Output:
	// [tcr.ipsteam-a] [{"op":"add","path":"/imagePullSecrets","value":[{"name":"tcr.ipsteam-a"}]}]
	// [tcr.ipsteam-a] [{"op":"add","path":"/imagePullSecrets/-","value":{"name":"tcr.ipsteam-a"}}]
	// [] null
}

// Entries are removed from the last one on, so that each index still means what it meant.
func ExampleDetach() {
	patch, left, _ := pullsecret.Detach([]string{"tcr.ipsold", "theirs", "tcr.ipsolder"}, func(name string) bool {
		return pullsecret.Removable(name, false, false)
	})
	for _, operation := range patch {
		fmt.Println(operation.Operation, operation.Path)
	}
	fmt.Println(left)
	// Output:
	// remove /imagePullSecrets/2
	// remove /imagePullSecrets/0
	// [theirs]
}
