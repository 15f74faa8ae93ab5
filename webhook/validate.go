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

// maxWarning is the length to which API conventions hold a warning, in characters.
const maxWarning = 120

// maxWarnings is how many warnings an answer holds. There could be one for each ImagePullSecret.
const maxWarnings = 10

// validate refuses an ImagePullSecret whose spec cannot be understood, and warns of what is valid but probably a mistake. An
// update that leaves the spec as it was passes: an object that is bad already can still be labelled and deleted.
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

// warnings do not depend on the credentials that others hold: callers are not authenticated, and an answer that told whether two
// credentials are equal would let anybody try passwords here.
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
				warnings = append(warnings, warning("%q gives %s a credential too, and labels may make a namespace common", other.Name, called))
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

// warning cuts the text to what a client shows.
func warning(format string, args ...any) string {
	text := []rune(fmt.Sprintf(format, args...))
	if len(text) > maxWarning {
		text = append(text[:maxWarning-1], '…')
	}
	return string(text)
}
