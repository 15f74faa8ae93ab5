package webhook

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
	admissionv1 "k8s.io/api/admission/v1"
)

// accountRequest is what is read of an AdmissionReview for a ServiceAccount. Everything else in it is passed over without
// being decoded: of a large account, most is annotations and managed fields.
type accountRequest struct {
	apiVersion, kind string
	group, resource  string

	uid       string
	namespace string
	name      string // of the request; the object's own comes first
	account   *serviceAccount
}

// serviceAccount is what is read of a ServiceAccount.
type serviceAccount struct {
	name   string // blank as long as it has yet to be generated
	ending bool   // it has a deletionTimestamp
	// secrets are the names in imagePullSecrets. present tells a list, even an empty one, from none: they are patched
	// differently.
	secrets []string
	present bool
}

// decoders are reused: a decoder's buffers cost more than what it decodes here. That a name stands twice in an object is
// looked for where it matters, by object, and not in what is passed over.
var decoders = sync.Pool{New: func() any { return jsontext.NewDecoder(bytes.NewReader(nil)) }}

// decodeAccountReview reads an AdmissionReview in one pass. It is strict as JSON goes: a field that stands twice, invalid
// UTF-8 and anything behind the review are errors, so that nobody can mean one account by a review and have another one
// read. Its errors are for whoever sent the bytes and repeat none of them.
func decodeAccountReview(body []byte) (*accountRequest, error) {
	decoder := decoders.Get().(*jsontext.Decoder)
	defer decoders.Put(decoder)
	decoder.Reset(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true))
	var request accountRequest
	err := members(decoder,
		field{"apiVersion", text(&request.apiVersion)},
		field{"kind", text(&request.kind)},
		field{"request", request.decode})
	if err == nil && decoder.PeekKind() != 0 {
		err = errors.New("something follows it")
	}
	if err != nil {
		return nil, fmt.Errorf("decoding the admission review: %w", withoutValue(err))
	}
	return &request, request.check()
}

func (r *accountRequest) decode(decoder *jsontext.Decoder) error {
	return members(decoder,
		field{"uid", text(&r.uid)},
		field{"namespace", text(&r.namespace)},
		field{"name", text(&r.name)},
		field{"resource", func(decoder *jsontext.Decoder) error {
			return members(decoder, field{"group", text(&r.group)}, field{"resource", text(&r.resource)})
		}},
		field{"object", func(decoder *jsontext.Decoder) error {
			if decoder.PeekKind() == 'n' {
				return skip(decoder)
			}
			r.account = &serviceAccount{}
			return r.account.decode(decoder)
		}})
}

func (a *serviceAccount) decode(decoder *jsontext.Decoder) error {
	return members(decoder,
		field{"metadata", func(decoder *jsontext.Decoder) error {
			return members(decoder,
				field{"name", text(&a.name)},
				field{"deletionTimestamp", func(decoder *jsontext.Decoder) error {
					a.ending = decoder.PeekKind() != 'n'
					return skip(decoder)
				}})
		}},
		field{"imagePullSecrets", a.decodeSecrets})
}

func (a *serviceAccount) decodeSecrets(decoder *jsontext.Decoder) error {
	if decoder.PeekKind() == 'n' {
		return skip(decoder)
	}
	if err := begin(decoder, '['); err != nil {
		return err
	}
	a.present = true
	for decoder.PeekKind() != ']' {
		var name string
		if err := members(decoder, field{"name", text(&name)}); err != nil {
			return err
		}
		a.secrets = append(a.secrets, name)
	}
	_, err := decoder.ReadToken()
	return err
}

// check refuses what is well-formed but not for this webhook.
func (r *accountRequest) check() error {
	switch {
	case r.apiVersion != admissionv1.SchemeGroupVersion.String() || r.kind != "AdmissionReview":
		return errNoReview
	case r.uid == "":
		return errNoUID
	case r.group != "" || r.resource != "serviceaccounts":
		return errors.New("decoding the admission review: request.resource must be serviceaccounts of the core group")
	case r.account == nil:
		return errNoObject
	}
	return nil
}

// field is a member of an object that is read.
type field struct {
	name string
	read func(*jsontext.Decoder) error
}

// members reads the fields of an object and passes over its other members. A null counts as an empty object.
func members(decoder *jsontext.Decoder, fields ...field) error {
	if decoder.PeekKind() == 'n' {
		return skip(decoder)
	}
	if err := begin(decoder, '{'); err != nil {
		return err
	}
	var seen uint // a bit for each field
	for decoder.PeekKind() != '}' {
		quoted, err := decoder.ReadValue()
		if err != nil {
			return err
		}
		name, err := unquoted(quoted)
		if err != nil {
			return err
		}
		read := skip
		for i := range fields {
			if string(name) != fields[i].name {
				continue
			}
			if seen&(1<<i) != 0 {
				return &wrong{string(decoder.StackPointer()), "must stand once in its object"}
			}
			seen |= 1 << i
			read = fields[i].read
		}
		if err := read(decoder); err != nil {
			return err
		}
	}
	_, err := decoder.ReadToken()
	return err
}

// text reads a string into a field. A null leaves the field as it is.
func text(into *string) func(*jsontext.Decoder) error {
	return func(decoder *jsontext.Decoder) error {
		switch decoder.PeekKind() {
		case 'n':
			return skip(decoder)
		case '"':
			quoted, err := decoder.ReadValue()
			if err != nil {
				return err
			}
			raw, err := unquoted(quoted)
			*into = string(raw)
			return err
		default:
			return begin(decoder, '"')
		}
	}
}

// skip passes over a value. (The decoder's own SkipValue does so token by token, which takes longer.)
func skip(decoder *jsontext.Decoder) error {
	_, err := decoder.ReadValue()
	return err
}

// unquoted returns what a JSON string says. One without escapes, as nearly all are, is not copied.
func unquoted(quoted []byte) ([]byte, error) {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1], nil
	}
	return jsontext.AppendUnquote(nil, quoted)
}

// wrong is a field that is valid JSON and not what it has to be.
type wrong struct{ pointer, rule string }

func (w *wrong) Error() string { return w.pointer + " " + w.rule }

// begin reads the token that begins a value of that kind.
func begin(decoder *jsontext.Decoder, kind jsontext.Kind) error {
	found := decoder.PeekKind()
	if _, err := decoder.ReadToken(); err != nil {
		return err // it is no JSON at all
	}
	if found == kind {
		return nil
	}
	rule := map[jsontext.Kind]string{'{': "must be an object", '[': "must be a list", '"': "must be a string"}[kind]
	return &wrong{string(decoder.StackPointer()), rule}
}
