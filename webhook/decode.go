package webhook

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// maxUID is how long the UID of a review may be, which the answer repeats. API servers write 36 characters.
const maxUID = 128

// header is what is read of every AdmissionReview.
type header struct {
	apiVersion, kind string
	group, resource  string
	uid              string
}

// accountRequest is what is read of an AdmissionReview for a ServiceAccount. Everything else in it is skipped without being
// decoded: a large account is mostly annotations and managed fields.
type accountRequest struct {
	header

	namespace string
	name      string // of the request; the object's own takes precedence
	sent      bool   // there is an account
	account   serviceAccount
}

// serviceAccount is what is read of a ServiceAccount.
type serviceAccount struct {
	name   string // blank until it is generated
	ending bool   // it has a deletionTimestamp
	optOut string // the value of the label with which its owner keeps it out
	// secrets are the names in imagePullSecrets that can be ours. present is whether there is a list, even an empty one: without one,
	// the patch is another.
	secrets []string
	present bool
}

// reader decodes a body.
type reader struct {
	decoder *jsontext.Decoder
	body    bytes.Buffer
}

// readers are reused: a decoder's buffers cost more than what it decodes here. Duplicate names are looked for in the objects
// that are read, not in what is skipped.
var readers = sync.Pool{New: func() any { return &reader{decoder: jsontext.NewDecoder(bytes.NewReader(nil))} }}

// decodeAccountReview decodes an AdmissionReview in one pass. It is strict about JSON: a field that occurs twice, invalid UTF-8 and
// anything after the review are errors, so that a review cannot mean one account to the API server and another one here. Its errors
// repeat none of the bytes that were sent.
func decodeAccountReview(body []byte) (request accountRequest, err error) {
	err = decodeReview(body, &request.header, request.decode)
	switch {
	case err != nil:
	case request.group != "" || request.resource != "serviceaccounts":
		err = errors.New("decoding the admission review: request.resource must be serviceaccounts of the core group")
	case !request.sent:
		err = errNoObject
	}
	return request, err
}

// decodeReview decodes an AdmissionReview, and its request with decode.
func decodeReview(body []byte, into *header, decode func(*jsontext.Decoder) error) error {
	reader := readers.Get().(*reader)
	if len(body) <= smallBody {
		defer readers.Put(reader) // it keeps a reference to the body until it reads another one
	}
	reader.body = *bytes.NewBuffer(body)
	decoder := reader.decoder
	decoder.Reset(&reader.body, jsontext.AllowDuplicateNames(true))
	err := members(decoder,
		field{"apiVersion", text(&into.apiVersion)},
		field{"kind", text(&into.kind)},
		field{"request", decode})
	if err == nil {
		err = ended(decoder)
	}
	switch {
	case err != nil:
		return fmt.Errorf("decoding the admission review: %w", withoutValue(err))
	case into.apiVersion != reviewVersion || into.kind != reviewKind:
		return errNoReview
	case into.uid == "" || len(into.uid) > maxUID:
		return errNoUID
	}
	return nil
}

// ended returns an error if anything follows. (PeekKind does not tell the end from a byte that begins no value.)
func ended(decoder *jsontext.Decoder) error {
	switch _, err := decoder.ReadToken(); {
	case errors.Is(err, io.EOF):
		return nil
	case err == nil:
		return errors.New("something follows it")
	default:
		return err
	}
}

func (h *header) decodeResource(decoder *jsontext.Decoder) error {
	return members(decoder, field{"group", text(&h.group)}, field{"resource", text(&h.resource)})
}

func (r *accountRequest) decode(decoder *jsontext.Decoder) error {
	return members(decoder,
		field{"uid", text(&r.uid)},
		field{"namespace", text(&r.namespace)},
		field{"name", text(&r.name)},
		field{"resource", r.decodeResource},
		field{"object", given(&r.sent, r.account.decode)})
}

func (a *serviceAccount) decode(decoder *jsontext.Decoder) error {
	return members(decoder,
		field{"metadata", a.decodeMetadata},
		field{"imagePullSecrets", a.decodeSecrets})
}

func (a *serviceAccount) decodeMetadata(decoder *jsontext.Decoder) error {
	return members(decoder, field{"name", text(&a.name)}, field{"deletionTimestamp", isSet(&a.ending)}, field{"labels", a.decodeLabels})
}

func (a *serviceAccount) decodeLabels(decoder *jsontext.Decoder) error {
	return members(decoder, field{v1.OptOutLabel, text(&a.optOut)})
}

// isSet returns a function that reads whether a field has a value.
func isSet(into *bool) func(*jsontext.Decoder) error {
	return func(decoder *jsontext.Decoder) error {
		*into = decoder.PeekKind() != 'n'
		return skip(decoder)
	}
}

func (a *serviceAccount) decodeSecrets(decoder *jsontext.Decoder) error {
	a.present = decoder.PeekKind() == '['
	return each(decoder, '[', func(decoder *jsontext.Decoder) error {
		var name string
		err := members(decoder, field{"name", text(&name)})
		if strings.HasPrefix(name, pullsecret.SecretPrefix) {
			a.secrets = append(a.secrets, name)
		}
		return err
	})
}

// each reads all elements of a list, or all members of an object, one by one. A null counts as empty.
func each(decoder *jsontext.Decoder, kind jsontext.Kind, read func(*jsontext.Decoder) error) error {
	if decoder.PeekKind() == 'n' {
		return skip(decoder)
	}
	if err := begin(decoder, kind); err != nil {
		return err
	}
	for decoder.PeekKind() != ']' && decoder.PeekKind() != '}' {
		if err := read(decoder); err != nil {
			return err
		}
	}
	_, err := decoder.ReadToken()
	return err
}

// field is a member of an object that is read.
type field struct {
	name string
	read func(*jsontext.Decoder) error
}

// members reads the fields of an object and skips its other members. A null counts as an empty object.
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
				return &wrong{string(decoder.StackPointer()), "must occur only once in its object"}
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

// text returns a function that reads a string into a field. A null leaves the field as it is.
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
			*into = kept(raw)
			return err
		default:
			return begin(decoder, '"')
		}
	}
}

// kept returns a copy of a text that outlives the review. What API servers write every time is not copied.
func kept(text []byte) string {
	for _, usual := range [...]string{"", "default", reviewVersion, reviewKind, "serviceaccounts", "pods", "CREATE", "UPDATE"} {
		if string(text) == usual {
			return usual
		}
	}
	return string(text)
}

// texts returns a function that reads a list of strings into a field: at most one more than most, so that too many are noticed. A null
// leaves the field as it is.
func texts[Text ~string](into *[]Text, most int) func(*jsontext.Decoder) error {
	return func(decoder *jsontext.Decoder) error {
		return each(decoder, '[', func(decoder *jsontext.Decoder) error {
			if len(*into) > most {
				return skip(decoder)
			}
			var one string
			err := text(&one)(decoder)
			*into = append(*into, Text(one))
			return err
		})
	}
}

// truth returns a function that reads true or false.
func truth(into *bool) func(*jsontext.Decoder) error {
	return func(decoder *jsontext.Decoder) error {
		switch decoder.PeekKind() {
		case 't', 'f':
			token, err := decoder.ReadToken()
			*into = err == nil && token.Bool()
			return err
		case 'n':
			return skip(decoder)
		}
		return &wrong{string(decoder.StackPointer()), "must be true or false"}
	}
}

// given returns a function that reads a value, and whether there is one: a null is none.
func given(into *bool, decode func(*jsontext.Decoder) error) func(*jsontext.Decoder) error {
	return func(decoder *jsontext.Decoder) error {
		if *into = decoder.PeekKind() != 'n'; !*into {
			return skip(decoder)
		}
		return decode(decoder)
	}
}

// optional returns a function that decodes into a new value. A null leaves the pointer as it is.
func optional[Value any](into **Value, decode func(*Value, *jsontext.Decoder) error) func(*jsontext.Decoder) error {
	return func(decoder *jsontext.Decoder) error {
		if decoder.PeekKind() == 'n' {
			return skip(decoder)
		}
		*into = new(Value)
		return decode(*into, decoder)
	}
}

// skip skips a value. (The decoder's own SkipValue does so token by token, which takes longer.)
func skip(decoder *jsontext.Decoder) error {
	_, err := decoder.ReadValue()
	return err
}

// unquoted returns the text of a JSON string. A string without escapes, as nearly all are, is not copied.
func unquoted(quoted []byte) ([]byte, error) {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1], nil
	}
	return jsontext.AppendUnquote(nil, quoted)
}

// wrong is a field that is valid JSON, but not what it must be.
type wrong struct{ pointer, rule string }

func (w *wrong) Error() string { return w.pointer + " " + w.rule }

// begin reads the token that begins a value of that kind; any other kind is an error.
func begin(decoder *jsontext.Decoder, kind jsontext.Kind) error {
	found := decoder.PeekKind()
	if _, err := decoder.ReadToken(); err != nil {
		return err // it is not JSON at all
	}
	if found == kind {
		return nil
	}
	rule := map[jsontext.Kind]string{'{': "must be an object", '[': "must be a list", '"': "must be a string"}[kind]
	return &wrong{string(decoder.StackPointer()), rule}
}
