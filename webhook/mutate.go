package webhook

import (
	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// mutate attaches to a ServiceAccount the Secrets that it should list. What exceeds one patch is left to reconciliation. labels
// returns the labels of the account's namespace. mutate never denies, and its patch holds no "test" operation: a patch that does not
// apply would reject the object, whatever the failure policy.
func mutate(known Attachments, labels func() pullsecret.Labels, request *accountRequest) response {
	account := &request.account
	if account.ending || account.optOut == v1.OptOutValue {
		return response{}
	}
	name := account.name
	if name == "" {
		name = request.name // both are blank for generateName: then only "*" can select it
	}
	patch, added, _ := pullsecret.Attach(account.secrets, account.present, known.Secrets(request.namespace, labels, name))
	return response{patch: patch, attached: added}
}
