package webhook

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// maxWarning is how long a warning should be at most, by the API conventions, in characters.
const maxWarning = 120

// maxWarnings is how many warnings an answer holds at most. There could be one for each ImagePullSecret.
const maxWarnings = 10

// validate refuses an ImagePullSecret whose spec cannot be understood, and warns of what is valid but probably a mistake. An
// update that does not change the spec is allowed: an object that is already bad can still be labelled and deleted.
func validate(known Attachments, request *objectRequest) response {
	asked := request.object
	if asked.name == "" {
		asked.name = request.name
	}
	unchanged := request.old != nil && equality.Semantic.DeepEqual(request.old.spec, asked.spec)
	if unchanged || asked.ending {
		return response{}
	}
	rule, errs := pullsecret.Check(&v1.ImagePullSecret{ObjectMeta: metav1.ObjectMeta{Name: asked.name}, Spec: asked.spec})
	if len(errs) > 0 {
		status := apierrors.NewInvalid(v1.Kind.GroupKind(), asked.name, errs).Status()
		status.Code = http.StatusUnprocessableEntity
		return response{refusal: &status}
	}
	return response{warnings: warnings(known, rule, asked.spec.Docker)}
}

// warnings returns the warnings about a rule. They do not depend on the credentials of others: callers are not authenticated, and an
// answer that told whether two credentials are equal would let anybody guess passwords.
func warnings(known Attachments, rule *pullsecret.Rule, credential v1.DockerCredential) []string {
	var warnings []string
	if strings.TrimRight(credential.Password, "\r\n") != credential.Password {
		warnings = append(warnings, "spec.docker.password ends in a line break, which registries take as part of the password")
	}
	for _, server := range rule.Servers {
		called := rule.Called(server)
		for _, other := range known.Sources(server, rule.Namespaces) {
			switch {
			case other.Name == rule.Name:
			case other.Labelled:
				warnings = append(warnings,
					warning("%q gives %s a credential too, and labels may bring both into one namespace", other.Name, called))
			default:
				warnings = append(warnings, warning("%q gives %s a credential too, in a common namespace", other.Name, called))
			}
		}
	}
	slices.Sort(warnings)
	if more := len(warnings) - maxWarnings; more > 0 {
		warnings = append(warnings[:maxWarnings], fmt.Sprintf("%d more warnings are not shown", more))
	}
	return warnings
}

// warning formats a warning and cuts it to maxWarning.
func warning(format string, args ...any) string {
	text := []rune(fmt.Sprintf(format, args...))
	if len(text) > maxWarning {
		text = append(text[:maxWarning-1], '…')
	}
	return string(text)
}
