package plan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential"
)

const (
	// maxFailures bounds the status' list of failures, maxMessage the length of each message in bytes.
	maxFailures = 50
	maxMessage  = 400
)

const (
	// ReasonUndone is the failure of a write that succeeds without effect: something in the API server's admission changes
	// the object back within the same request.
	ReasonUndone = "Undone"
	// ReasonWriteFailed is the failure of a write that ended in an error without a reason of the Kubernetes API. Admission
	// webhooks may put whole sentences in the place of one.
	ReasonWriteFailed = "WriteFailed"
	// ReasonHeld is the failure of a Secret that is being deleted, and does not go.
	ReasonHeld = "Held"
)

// apiReasons are the reasons of the Kubernetes API that a failure has. They become labels of metrics: there are no others.
var apiReasons = map[metav1.StatusReason]bool{
	metav1.StatusReasonUnauthorized: true, metav1.StatusReasonForbidden: true, metav1.StatusReasonNotFound: true,
	metav1.StatusReasonAlreadyExists: true, metav1.StatusReasonConflict: true, metav1.StatusReasonGone: true,
	metav1.StatusReasonInvalid: true, metav1.StatusReasonServerTimeout: true, metav1.StatusReasonStoreReadError: true,
	metav1.StatusReasonTimeout: true, metav1.StatusReasonTooManyRequests: true, metav1.StatusReasonBadRequest: true,
	metav1.StatusReasonMethodNotAllowed: true, metav1.StatusReasonNotAcceptable: true,
	metav1.StatusReasonRequestEntityTooLarge: true, metav1.StatusReasonUnsupportedMediaType: true,
	metav1.StatusReasonInternalError: true, metav1.StatusReasonExpired: true, metav1.StatusReasonServiceUnavailable: true,
}

// UndoneError says that a write succeeded, and that its answer is not what was written.
type UndoneError struct {
	// Repeated is whether the same write has been undone, or repaired what was undone, before.
	Repeated bool
}

func (*UndoneError) Error() string {
	return "the write was answered by an object without it: an admission webhook or policy of the cluster changes it within the same request. Exempt this object, or the manager, there"
}

// HeldError says that an object cannot be replaced because something keeps the old one.
type HeldError struct {
	// Finalizers are the old one's.
	Finalizers []string
}

func (h *HeldError) Error() string {
	return fmt.Sprintf("it is immutable, and while it is being deleted so that a new one can take its place, finalizers hold it: %q. Whoever set them has to remove them", h.Finalizers)
}

// ReasonOf returns one word for an error, of the Kubernetes API's or ours.
func ReasonOf(err error) string {
	var undone *UndoneError
	var held *HeldError
	reason := apierrors.ReasonForError(err)
	switch {
	case errors.As(err, &undone):
		return ReasonUndone
	case errors.As(err, &held):
		return ReasonHeld
	case errors.Is(err, context.DeadlineExceeded):
		return string(metav1.StatusReasonTimeout)
	case apiReasons[reason]:
		return string(reason)
	}
	switch codeOf(err) {
	case http.StatusBadRequest:
		return string(metav1.StatusReasonBadRequest)
	case http.StatusForbidden:
		return ReasonForbidden
	case http.StatusUnprocessableEntity:
		return ReasonInvalid
	}
	return ReasonWriteFailed
}

// codeOf returns the code of the API server's answer; 0 where err is none.
func codeOf(err error) int32 {
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) {
		return 0
	}
	return answer.Status().Code
}

// messageOf returns what a failure says of an error, with the reason that was given where that is no word of the API's.
func messageOf(err error) string {
	message := remedy(err)
	if reason := apierrors.ReasonForError(err); !apiReasons[reason] && !strings.Contains(message, string(reason)) {
		message += ": " + string(reason)
	}
	return shortened(message)
}

// refuser is how the API server words who refuses, where it is not itself.
var refuser = regexp.MustCompile(`admission webhook "[^"]+"|ValidatingAdmissionPolicy '[^']+'|exceeded quota`)

// LogKey is the same for errors that say the same to a reader of the log, whatever objects they are of.
func LogKey(err error) string {
	if match := unpermitted.FindString(err.Error()); match != "" {
		return match
	}
	return ReasonOf(err) + refuser.FindString(err.Error())
}

// Lasting reports whether failures of a reason stay until someone acts. Others may pass by themselves.
func Lasting(reason string) bool {
	switch reason {
	case ReasonForbidden, ReasonForeignSecret, ReasonContended, ReasonInvalid, ReasonUndone, ReasonHeld:
		return true
	default:
		return slices.Contains(credential.Reasons, reason)
	}
}

// worst returns the failures that the status lists: those that need someone first, then the oldest.
func worst(failures []v1.Failure) []v1.Failure {
	rank := func(failure v1.Failure) int {
		if Lasting(failure.Reason) {
			return 0
		}
		return 1
	}
	sorted := slices.SortedFunc(slices.Values(failures), func(a, b v1.Failure) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), a.Since.Compare(b.Since.Time),
			cmp.Compare(a.NamespacedName, b.NamespacedName), cmp.Compare(a.Reason, b.Reason))
	})
	sorted = sorted[:min(len(sorted), maxFailures)]
	for i := range sorted {
		sorted[i].Message = shortened(sorted[i].Message)
	}
	return sorted
}

// shortened cuts a message, between characters, to what a list of many has room for.
func shortened(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	cut := maxMessage - len("…")
	for !utf8.RuneStart(message[cut]) {
		cut--
	}
	return message[:cut] + "…"
}

// countReasons counts failures by reason.
func countReasons(failures []v1.Failure) map[string]int {
	counts := map[string]int{}
	for _, failure := range failures {
		counts[failure.Reason]++
	}
	return counts
}
