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
	// maxFailures limits the list of failures in the status, maxMessage the length of each message in bytes.
	maxFailures = 50
	maxMessage  = 400
)

const (
	// ReasonUndone is the failure of a write that succeeds without effect: admission changes the object back within the same request.
	ReasonUndone = "Undone"
	// ReasonWriteFailed is the failure of a write that ended in an error without a reason of the Kubernetes API. Admission webhooks may
	// return whole sentences as a reason.
	ReasonWriteFailed = "WriteFailed"
	// ReasonHeld is the failure of a Secret whose deletion is blocked by finalizers.
	ReasonHeld = "Held"
)

// apiReasons are the reasons of the Kubernetes API that a failure can have. They become values of metric labels, so the set is closed.
var apiReasons = map[metav1.StatusReason]bool{
	metav1.StatusReasonUnauthorized: true, metav1.StatusReasonForbidden: true, metav1.StatusReasonNotFound: true,
	metav1.StatusReasonAlreadyExists: true, metav1.StatusReasonConflict: true, metav1.StatusReasonGone: true,
	metav1.StatusReasonInvalid: true, metav1.StatusReasonServerTimeout: true, metav1.StatusReasonStoreReadError: true,
	metav1.StatusReasonTimeout: true, metav1.StatusReasonTooManyRequests: true, metav1.StatusReasonBadRequest: true,
	metav1.StatusReasonMethodNotAllowed: true, metav1.StatusReasonNotAcceptable: true,
	metav1.StatusReasonRequestEntityTooLarge: true, metav1.StatusReasonUnsupportedMediaType: true,
	metav1.StatusReasonInternalError: true, metav1.StatusReasonExpired: true, metav1.StatusReasonServiceUnavailable: true,
}

// UndoneError means that a write succeeded, but that the returned object is not what was written.
type UndoneError struct {
	// Repeated is whether the same write was undone before, or has already repaired what someone undid.
	Repeated bool
}

func (*UndoneError) Error() string {
	return "the API server accepted the write but returned the object without it: an admission webhook or policy of the cluster " +
		"changes the object back within the same request. Exempt this object, or the manager, there"
}

// HeldError means that an object cannot be replaced because finalizers block the deletion of the old one.
type HeldError struct {
	// Finalizers are those of the old object.
	Finalizers []string
}

func (h *HeldError) Error() string {
	return fmt.Sprintf("it is immutable and is being deleted, so that a new one can take its place, but finalizers block that: %q. "+
		"Whoever set them has to remove them", h.Finalizers)
}

// ReasonOf returns the reason of an error in one word, the Kubernetes API's or ours.
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

// codeOf returns the status code of the API server's answer; 0 where err is not an answer of the API server.
func codeOf(err error) int32 {
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) {
		return 0
	}
	return answer.Status().Code
}

// messageOf returns the message of a failure. It includes the error's reason where that is not a reason of the Kubernetes API.
func messageOf(err error) string {
	message := remedy(err)
	if reason := apierrors.ReasonForError(err); !apiReasons[reason] && !strings.Contains(message, string(reason)) {
		message += ": " + string(reason)
	}
	return shortened(message)
}

// refuser matches who refuses, in the API server's words, where that is not the API server itself.
var refuser = regexp.MustCompile(`admission webhook "[^"]+"|ValidatingAdmissionPolicy '[^']+'|exceeded quota`)

// LogKey returns the same key for errors that say the same to a reader of the log, whichever object they are about.
func LogKey(err error) string {
	if match := unpermitted.FindString(err.Error()); match != "" {
		return match
	}
	return ReasonOf(err) + refuser.FindString(err.Error())
}

// Lasting reports whether failures of a reason last until someone acts. Others may pass by themselves.
func Lasting(reason string) bool {
	switch reason {
	case ReasonForbidden, ReasonForeignSecret, ReasonContended, ReasonInvalid, ReasonUndone, ReasonHeld:
		return true
	default:
		return slices.Contains(credential.Reasons, reason)
	}
}

// worst returns the failures that the status lists: the lasting ones first, then the oldest.
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

// shortened cuts a message to maxMessage bytes, between characters.
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
