package gather

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/diagnose"
	"github.com/tcr-assistant/tcr-assistant/preview"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Namespaces returns what a preview of ImagePullSecrets needs to know about every namespace, and what of that could not be read. It
// returns an error if not even the namespaces could be listed.
func (c *Cluster) Namespaces(ctx context.Context) ([]preview.Namespace, []diagnose.Unseen, error) {
	found, err := list[corev1.Namespace](ctx, c, namespaces, "", metav1.ListOptions{})
	if err != nil {
		return nil, nil, err
	}
	var hidden unseen
	accounts, err := list[corev1.ServiceAccount](ctx, c, serviceAccounts, "", metav1.ListOptions{})
	if err != nil {
		hidden.note(diagnose.PartAccount, err)
	}
	of := map[string][]preview.Account{}
	for i := range accounts {
		account := &accounts[i]
		read := diagnose.ReadAccount(account)
		of[account.Namespace] = append(of[account.Namespace], preview.Account{
			Name: account.Name, OptedOut: read.OptedOut, Entries: read.Entries,
		})
	}
	var all []preview.Namespace
	for i := range found {
		namespace, read := &found[i], diagnose.ReadNamespace(&found[i])
		all = append(all, preview.Namespace{
			Name: namespace.Name, Labels: read.Labels, OptedOut: read.OptedOut, Ending: namespace.DeletionTimestamp != nil,
			Accounts: of[namespace.Name],
		})
	}
	return all, hidden, nil
}

// Occupied fills in, for each namespace, the existing Secret with the name that an ImagePullSecret issues.
func (c *Cluster) Occupied(ctx context.Context, name string, all []preview.Namespace) ([]preview.Namespace, []diagnose.Unseen) {
	var hidden unseen
	selector := fields.OneTermEqualSelector("metadata.name", pullsecret.SecretName(name)).String()
	found, err := list[corev1.Secret](ctx, c, secrets, "", metav1.ListOptions{FieldSelector: selector})
	if err != nil {
		hidden.note(diagnose.PartSecrets, err)
	}
	in := map[string]*preview.Secret{}
	for i := range found {
		in[found[i].Namespace] = &preview.Secret{Type: string(found[i].Type), Managed: v1.Managed(found[i].Labels)}
	}
	filled := make([]preview.Namespace, len(all))
	for i, namespace := range all {
		namespace.Secret = in[namespace.Name]
		filled[i] = namespace
	}
	return filled, hidden
}
