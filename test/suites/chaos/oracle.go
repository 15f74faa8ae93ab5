package chaos

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
)

// snapshot is the cluster as it stands.
type snapshot struct {
	namespaces []corev1.Namespace
	accounts   []corev1.ServiceAccount
	secrets    []corev1.Secret
	objects    []v1.ImagePullSecret
}

func look(ctx context.Context, client kubernetes.Interface, objects *typed.Client) (snapshot, error) {
	var s snapshot
	namespaces, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return s, err
	}
	accounts, err := client.CoreV1().ServiceAccounts("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return s, err
	}
	secrets, err := client.CoreV1().Secrets("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return s, err
	}
	all, err := objects.List(ctx, metav1.ListOptions{})
	if err != nil {
		return s, err
	}
	return snapshot{namespaces.Items, accounts.Items, secrets.Items, all.Items}, nil
}

// The oracle: what the README says, read plainly, and shared with the product in nothing but the types.

// selects reads a list as users write it.
func selects(list, name string) bool {
	if list = strings.TrimSpace(list); list == "" || list == "*" {
		return true
	}
	for _, entry := range strings.Split(list, ",") {
		if strings.TrimSpace(entry) == name {
			return true
		}
	}
	return false
}

// credential is the content of the Secret that an object asks for.
func credential(object v1.ImagePullSecret) string {
	docker := object.Spec.Docker
	auth := base64.StdEncoding.EncodeToString([]byte(docker.Username + ":" + docker.Password))
	return fmt.Sprintf(`{"auths":{"%s":{"username":"%s","password":"%s","auth":"%s"}}}`, docker.Server, docker.Username, docker.Password, auth)
}

// marked reports whether a Secret says that it is the product's.
func marked(secret *corev1.Secret) bool {
	return secret.Labels["app.kubernetes.io/managed-by"] == "tcr-assistant"
}

// oracle holds a snapshot against the model.
type oracle struct {
	snapshot
	model  *model
	secret map[string]*corev1.Secret // by namespace and name
	live   map[string]bool           // namespaces
	found  []string
}

// differences returns what is not as it must be.
func differences(s snapshot, m *model) []string {
	o := &oracle{snapshot: s, model: m, secret: map[string]*corev1.Secret{}, live: map[string]bool{}}
	for i := range s.secrets {
		o.secret[s.secrets[i].Namespace+"/"+s.secrets[i].Name] = &s.secrets[i]
	}
	for _, namespace := range s.namespaces {
		o.live[namespace.Name] = namespace.DeletionTimestamp == nil
	}
	for _, object := range s.objects {
		if object.Spec.Namespaces == unreadable {
			o.rejected(object)
		} else {
			o.served(object)
		}
	}
	o.noOtherSecret()
	o.entries()
	o.foreign()
	return o.found
}

func (o *oracle) differ(format string, args ...any) {
	o.found = append(o.found, fmt.Sprintf(format, args...))
}

// served says where an object's Secrets and entries are missing, and what its status should say of them.
func (o *oracle) served(object v1.ImagePullSecret) {
	var want expected
	name := prefix + object.Name
	for namespace, live := range o.live {
		if !live || !selects(object.Spec.Namespaces, namespace) {
			continue
		}
		at := namespace + "/" + name
		want.secretsDesired++
		switch secret := o.secret[at]; {
		case secret == nil:
			o.differ("secret %s is missing", at)
		case secret.Type != corev1.SecretTypeDockerConfigJson:
			want.inTheWay = append(want.inTheWay, at)
			continue
		case string(secret.Data[corev1.DockerConfigJsonKey]) != credential(object):
			o.differ("secret %s holds another credential", at)
		case !marked(secret):
			o.differ("secret %s does not bear the mark", at)
		case !slices.ContainsFunc(secret.OwnerReferences, func(owner metav1.OwnerReference) bool { return owner.UID == object.UID }):
			o.differ("secret %s is not owned by the object", at)
		}
		want.secrets = append(want.secrets, at)
	}
	for _, account := range o.accounts {
		if !o.live[account.Namespace] || !selects(object.Spec.Namespaces, account.Namespace) ||
			!selects(object.Spec.ServiceAccounts, account.Name) {
			continue
		}
		want.accounts = append(want.accounts, account.Namespace+"/"+account.Name)
		if entries := entriesOf(account); !slices.Contains(entries, name) {
			o.differ("account %s/%s lists %q, without %s", account.Namespace, account.Name, entries, name)
		}
	}
	o.status(object, want)
}

// expected is what a status must say.
type expected struct {
	secretsDesired              int
	secrets, accounts, inTheWay []string
}

func (o *oracle) status(object v1.ImagePullSecret, want expected) {
	status := object.Status
	have := [4]int{int(status.SecretsDesired), int(status.SecretsSuccess), int(status.SAsDesired), int(status.SAsSuccess)}
	if right := [4]int{want.secretsDesired, len(want.secrets), len(want.accounts), len(want.accounts)}; have != right {
		o.differ("status of %s counts %v instead of %v", object.Name, have, right)
	}
	o.condition(object, len(want.inTheWay) == 0, map[bool]string{true: "Complete", false: "Failing"}[len(want.inTheWay) == 0])
	var failures []string
	for _, failure := range status.Failures {
		if failure.Reason != "ForeignSecret" {
			o.differ("status of %s tells of %s at %s: %s", object.Name, failure.Reason, failure.NamespacedName, failure.Message)
			continue
		}
		failures = append(failures, failure.NamespacedName)
	}
	o.same("status of "+object.Name+" tells what is in the way", failures, want.inTheWay)
	o.same("status of "+object.Name+" lists secrets", names(status.SecretUpdateSuccessful), want.secrets)
	o.same("status of "+object.Name+" lists accounts", names(status.ServiceAccountsModifySuccessful), want.accounts)
}

func (o *oracle) same(what string, have, want []string) {
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		o.differ("%s: %q instead of %q", what, have, want)
	}
}

func names(updates []v1.Update) []string {
	var names []string
	for _, update := range updates {
		names = append(names, update.NamespacedName)
	}
	return names
}

func (o *oracle) condition(object v1.ImagePullSecret, ready bool, reason string) {
	if have := object.Status.ObservedGeneration; have != object.Generation {
		o.differ("status of %s speaks of generation %d instead of %d", object.Name, have, object.Generation)
	}
	want := metav1.ConditionFalse
	if ready {
		want = metav1.ConditionTrue
	}
	for _, condition := range object.Status.Conditions {
		if condition.Type != v1.ConditionReady {
			continue
		}
		if condition.Status != want || condition.Reason != reason || condition.ObservedGeneration != object.Generation {
			o.differ("status of %s says Ready %s, %s, of generation %d: %s; instead of %s, %s, %d", object.Name,
				condition.Status, condition.Reason, condition.ObservedGeneration, condition.Message, want, reason, object.Generation)
		}
		return
	}
	o.differ("status of %s has no condition", object.Name)
}

// rejected says what the status of an object that cannot be read must say. What it issued before stays.
func (o *oracle) rejected(object v1.ImagePullSecret) { o.condition(object, false, "InvalidSpec") }

// wants reports whether some object asks for a Secret of that name in a namespace, or did before it became unreadable.
func (o *oracle) wants(namespace, account, secret string) bool {
	return slices.ContainsFunc(o.objects, func(object v1.ImagePullSecret) bool {
		return prefix+object.Name == secret && (object.Spec.Namespaces == unreadable ||
			selects(object.Spec.Namespaces, namespace) && (account == "" || selects(object.Spec.ServiceAccounts, account)))
	})
}

func (o *oracle) noOtherSecret() {
	for at, secret := range o.secret {
		if o.live[secret.Namespace] && strings.HasPrefix(secret.Name, prefix) && marked(secret) && !o.wants(secret.Namespace, "", secret.Name) {
			o.differ("secret %s is there although nothing asks for it", at)
		}
	}
}

func entriesOf(account corev1.ServiceAccount) []string {
	var entries []string
	for _, entry := range account.ImagePullSecrets {
		entries = append(entries, entry.Name)
	}
	return entries
}

// entries holds what accounts list against what nothing asks for, and against what the user has listed.
func (o *oracle) entries() {
	for _, account := range o.accounts {
		if !o.live[account.Namespace] {
			continue
		}
		at := account.Namespace + "/" + account.Name
		var foreign []string
		seen := map[string]bool{}
		for _, entry := range entriesOf(account) {
			if !ours(entry) {
				foreign = append(foreign, entry)
				continue
			}
			// An entry whose Secret somebody else made is somebody else's.
			secret := o.secret[account.Namespace+"/"+entry]
			if !o.wants(account.Namespace, account.Name, entry) && (secret == nil || marked(secret)) {
				o.differ("account %s lists %s although nothing asks for it", at, entry)
			}
			if seen[entry] {
				o.differ("account %s lists %s twice", at, entry)
			}
			seen[entry] = true
		}
		var want []string
		if namespace := o.model.namespaces[account.Namespace]; namespace != nil {
			want = namespace.accounts[account.Name]
		}
		if !slices.Equal(foreign, want) {
			o.differ("account %s lists %q of others instead of %q", at, foreign, want)
		}
	}
}

// foreign holds what the user has made against what stands.
func (o *oracle) foreign() {
	for name, namespace := range o.model.namespaces {
		if !o.live[name] {
			o.differ("namespace %s is not there", name)
		}
		for secret, content := range namespace.foreign {
			switch stands := o.secret[name+"/"+secret]; {
			case stands == nil:
				o.differ("foreign secret %s/%s is gone", name, secret)
			case string(stands.Data["content"]) != content || len(stands.Labels)+len(stands.OwnerReferences) > 0:
				o.differ("foreign secret %s/%s was changed", name, secret)
			}
		}
		for account := range namespace.accounts {
			if !slices.ContainsFunc(o.accounts, func(a corev1.ServiceAccount) bool { return a.Namespace == name && a.Name == account }) {
				o.differ("account %s/%s is gone", name, account)
			}
		}
	}
	for name, invalid := range o.model.invalid {
		if !slices.ContainsFunc(o.objects, func(object v1.ImagePullSecret) bool {
			return object.Name == name && (object.Spec.Namespaces == unreadable) == invalid
		}) {
			o.differ("object %s is not as the user left it", name)
		}
	}
}
