package webhook

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"k8s.io/apimachinery/pkg/util/validation"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

var (
	errNoReview = errors.New("decoding the admission review: it must be an AdmissionReview of admission.k8s.io/v1")
	errNoUID    = errors.New("decoding the admission review: request.uid must be set, to at most 128 characters")
	errNoObject = errors.New("decoding the admission review: request.object must be set")
	errLongName = errors.New("decoding the admission review: metadata.name must be at most 253 characters")
)

// objectRequest is what is read of an AdmissionReview for an ImagePullSecret. Its status and most of its metadata are skipped:
// decoded, they would take many times their size.
type objectRequest struct {
	header

	name        string // of the request; the object's own takes precedence
	object, old *reviewedObject
}

// reviewedObject is what is read of an ImagePullSecret.
type reviewedObject struct {
	name   string
	ending bool // it has a deletionTimestamp
	spec   v1.ImagePullSecretSpec
}

// decodeObjectReview decodes an AdmissionReview as decodeAccountReview does.
func decodeObjectReview(body []byte) (request objectRequest, err error) {
	err = decodeReview(body, &request.header, request.decode)
	switch {
	case err != nil:
	case request.group != v1.GroupVersion.Group || request.resource != "imagepullsecrets":
		err = fmt.Errorf("decoding the admission review: request.resource must be imagepullsecrets of group %s", v1.GroupVersion.Group)
	case request.object == nil:
		err = errNoObject
	case max(len(request.name), len(request.object.name)) > validation.DNS1123SubdomainMaxLength:
		err = errLongName
	}
	return request, err
}

func (r *objectRequest) decode(decoder *jsontext.Decoder) error {
	return members(decoder,
		field{"uid", text(&r.uid)},
		field{"name", text(&r.name)},
		field{"resource", r.decodeResource},
		field{"object", optional(&r.object, (*reviewedObject).decode)},
		field{"oldObject", optional(&r.old, (*reviewedObject).decode)})
}

func (o *reviewedObject) decode(decoder *jsontext.Decoder) error {
	return members(decoder,
		field{"metadata", func(decoder *jsontext.Decoder) error {
			return members(decoder, field{"name", text(&o.name)}, field{"deletionTimestamp", isSet(&o.ending)})
		}},
		field{"spec", func(decoder *jsontext.Decoder) error {
			return members(decoder,
				field{"namespaces", text(&o.spec.Namespaces)},
				field{"namespaceSelector", optional(&o.spec.NamespaceSelector, decodeSelector)},
				field{"excludedNamespaces", texts(&o.spec.ExcludedNamespaces, pullsecret.MaxExcluded)},
				field{"serviceAccounts", text(&o.spec.ServiceAccounts)},
				field{"healing", text(&o.spec.Healing)},
				field{"docker", func(decoder *jsontext.Decoder) error {
					docker := &o.spec.Docker
					return members(decoder,
						field{"username", text(&docker.Username)},
						field{"password", text(&docker.Password)},
						field{"server", text(&docker.Server)},
						field{"additionalServers", texts(&docker.AdditionalServers, pullsecret.MaxAdditionalServers)},
						field{"secretRef", optional(&docker.SecretRef, decodeReference)})
				}},
				field{"pods", text(&o.spec.Pods)},
				field{"tcr", optional(&o.spec.TCR, decodeRegistry)},
				field{"check", optional(&o.spec.Check, decodeCheck)})
		}})
}

func decodeRegistry(registry *v1.RegistryInstance, decoder *jsontext.Decoder) error {
	return members(decoder,
		field{"registryId", text(&registry.RegistryID)},
		field{"region", text(&registry.Region)},
		field{"tokenType", text(&registry.TokenType)},
		field{"rotateAfter", text(&registry.RotateAfter)},
		field{"onDelete", text(&registry.OnDelete)},
		field{"credentialsSecretRef", optional(&registry.CredentialsSecretRef, decodeReference)},
		field{"privateNetwork", optional(&registry.PrivateNetwork, decodeNetwork)})
}

func decodeNetwork(network *v1.PrivateNetwork, decoder *jsontext.Decoder) error {
	return members(decoder,
		field{"vpcId", text(&network.VPCID)},
		field{"domains", texts(&network.Domains, pullsecret.MaxDomains)})
}

func decodeCheck(check *v1.CredentialCheck, decoder *jsontext.Decoder) error {
	return members(decoder,
		field{"image", text(&check.Image)},
		field{"interval", text(&check.Interval)},
		field{"realms", texts(&check.Realms, pullsecret.MaxRealms)},
		field{"caSecretRef", optional(&check.CASecretRef, decodeReference)},
		field{"disabled", truth(&check.Disabled)})
}

func decodeReference(reference *v1.SecretReference, decoder *jsontext.Decoder) error {
	return members(decoder, field{"name", text(&reference.Name)})
}

// withoutValue returns a decoding error that quotes nothing of the input.
func withoutValue(err error) error {
	var syntactic *jsontext.SyntacticError
	var wrong *wrong
	switch {
	case errors.As(err, &syntactic):
		return fmt.Errorf("it is not valid JSON at byte %d", syntactic.ByteOffset)
	case errors.As(err, &wrong):
		return wrong
	default:
		return errors.New("it is not valid JSON")
	}
}

func decodeSelector(s *v1.LabelSelector, decoder *jsontext.Decoder) error {
	return members(decoder,
		field{"matchLabels", func(decoder *jsontext.Decoder) error {
			s.MatchLabels = map[string]v1.LabelValue{}
			// It points to the labels: a pointer to one of them would repeat its key.
			bad := &wrong{string(decoder.StackPointer()), "must hold each key once, with a string"}
			return each(decoder, '{', func(decoder *jsontext.Decoder) error {
				var key, value string
				if err := text(&key)(decoder); err != nil {
					return err
				}
				if len(s.MatchLabels) > pullsecret.MaxMatchLabels {
					return skip(decoder)
				}
				_, again := s.MatchLabels[key]
				if again || strings.ContainsRune("{[0tf", rune(decoder.PeekKind())) { // an object, a list, a number, true or false
					return bad
				}
				err := text(&value)(decoder)
				s.MatchLabels[key] = v1.LabelValue(value)
				return err
			})
		}},
		field{"matchExpressions", func(decoder *jsontext.Decoder) error {
			return each(decoder, '[', func(decoder *jsontext.Decoder) error {
				if len(s.MatchExpressions) > pullsecret.MaxMatchExpressions {
					return skip(decoder)
				}
				var requirement v1.LabelRequirement
				var key, operator string
				err := members(decoder,
					field{"key", text(&key)},
					field{"operator", text(&operator)},
					field{"values", texts(&requirement.Values, pullsecret.MaxValues)})
				requirement.Key, requirement.Operator = v1.LabelKey(key), v1.LabelOperator(operator)
				s.MatchExpressions = append(s.MatchExpressions, requirement)
				return err
			})
		}})
}
