package webhook

import (
	"encoding/json"
	"fmt"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// auditAttached is the audit annotation that names the Secrets which admission has attached.
const auditAttached = "attached"

// mutate attaches to a ServiceAccount the Secrets that it should list; more than one patch may add are left to
// reconciliation. labels tells those of its namespace. It never denies, and it holds no "test"
// operation: a patch that does not apply would reject the object, whatever the failure policy.
func mutate(known Attachments, labels func() pullsecret.Labels, request *accountRequest) (*admissionv1.AdmissionResponse, error) {
	response := &admissionv1.AdmissionResponse{Allowed: true}
	account := request.account
	if account.ending || account.optOut == v1.OptOutValue {
		return response, nil
	}
	name := account.name
	if name == "" {
		name = request.name // both are blank for generateName: then only "*" can select it
	}
	patch, added, _ := pullsecret.Attach(account.secrets, account.present, known.Secrets(request.namespace, labels, name))
	if len(patch) == 0 {
		return response, nil
	}
	if err := respondWith(response, patch, added); err != nil {
		return nil, fmt.Errorf("encoding the patch of service account %s/%s: %w", request.namespace, name, err)
	}
	return response, nil
}

// respondWith answers with a patch, and names what it attaches.
func respondWith(response *admissionv1.AdmissionResponse, patch []jsonpatch.Operation, added []string) error {
	encoded, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	response.Patch, response.PatchType = encoded, new(admissionv1.PatchTypeJSONPatch)
	response.AuditAnnotations = map[string]string{auditAttached: strings.Join(added, ",")}
	return nil
}
