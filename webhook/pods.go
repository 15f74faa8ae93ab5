package webhook

import (
	"errors"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// podRequest is what is read of an AdmissionReview for a Pod.
type podRequest struct {
	header

	namespace, operation string
	sent                 bool // there is a pod
	pod                  pod
}

// pod is what is read of a Pod.
type pod struct {
	account string
	images  []string
	optOut  string // the value of the label with which its owner keeps it out
	mirror  bool   // it is the mirror pod of a static pod
	// lists says that it lists pull secrets; secrets are those of them whose names can be ours.
	lists   bool
	secrets []string
}

// decodePodReview decodes an AdmissionReview as decodeAccountReview does.
func decodePodReview(body []byte) (request podRequest, err error) {
	err = decodeReview(body, &request.header, request.decode)
	switch {
	case err != nil:
	case request.group != "" || request.resource != "pods":
		err = errors.New("decoding the admission review: request.resource must be pods of the core group")
	case !request.sent:
		err = errNoObject
	}
	return request, err
}

func (r *podRequest) decode(decoder *jsontext.Decoder) error {
	return members(decoder,
		field{"uid", text(&r.uid)},
		field{"namespace", text(&r.namespace)},
		field{"operation", text(&r.operation)},
		field{"resource", r.decodeResource},
		field{"object", given(&r.sent, r.pod.decode)})
}

func (p *pod) decode(decoder *jsontext.Decoder) error {
	return members(decoder,
		field{"metadata", p.decodeMetadata},
		field{"spec", func(decoder *jsontext.Decoder) error {
			return members(decoder,
				field{"serviceAccountName", text(&p.account)},
				field{"imagePullSecrets", p.decodeSecrets},
				field{"containers", p.decodeImages},
				field{"initContainers", p.decodeImages},
				field{"volumes", p.decodeVolumes})
		}})
}

func (p *pod) decodeMetadata(decoder *jsontext.Decoder) error {
	return members(decoder,
		field{"labels", func(decoder *jsontext.Decoder) error {
			return members(decoder, field{v1.OptOutLabel, text(&p.optOut)})
		}},
		field{"annotations", func(decoder *jsontext.Decoder) error {
			return members(decoder, field{corev1.MirrorPodAnnotationKey, isSet(&p.mirror)})
		}})
}

func (p *pod) decodeSecrets(decoder *jsontext.Decoder) error {
	return each(decoder, '[', func(decoder *jsontext.Decoder) error {
		p.lists = true
		var name string
		err := members(decoder, field{"name", text(&name)})
		if strings.HasPrefix(name, pullsecret.SecretPrefix) {
			p.secrets = append(p.secrets, name)
		}
		return err
	})
}

func (p *pod) decodeImages(decoder *jsontext.Decoder) error {
	return each(decoder, '[', p.decodeImage("image"))
}

func (p *pod) decodeVolumes(decoder *jsontext.Decoder) error {
	return each(decoder, '[', func(decoder *jsontext.Decoder) error {
		return members(decoder, field{"image", p.decodeImage("reference")})
	})
}

// decodeImage returns a function that reads the image that the given member of an object names.
func (p *pod) decodeImage(member string) func(*jsontext.Decoder) error {
	return func(decoder *jsontext.Decoder) error {
		var image string
		err := members(decoder, field{member, text(&image)})
		if image != "" {
			p.images = append(p.images, image)
		}
		return err
	}
}

// mutatePod attaches Secrets to a pod that is being created and lists pull secrets of its own. It never denies, and its patch holds no
// "test" operation.
func mutatePod(known Attachments, labels func() pullsecret.Labels, request *podRequest) response {
	pod := &request.pod
	if request.operation != string(admissionv1.Create) || !pod.lists || pod.mirror || pod.optOut == v1.OptOutValue {
		return response{}
	}
	wanted := known.PodSecrets(&pullsecret.Pod{Namespace: request.namespace, ServiceAccount: pod.account, Images: pod.images}, labels)
	patch, added := pullsecret.AttachToPod(pod.secrets, wanted)
	return response{patch: patch, attached: added}
}
