package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
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

// undone says that a write succeeded, and that its answer is not what was written.
type undone struct{ repeated bool }

func (*undone) Error() string {
	return "the write was answered by an object without it: an admission webhook or policy of the cluster changes it within the same request. Exempt this object, or the manager, there"
}

// held says that an object cannot be replaced because something keeps the old one.
type held struct{ finalizers []string }

func (h *held) Error() string {
	return fmt.Sprintf("it is immutable, and while it is being deleted so that a new one can take its place, finalizers hold it: %q. Whoever set them has to remove them", h.finalizers)
}

// reasonOf returns one word for an error, of the Kubernetes API's or ours.
func reasonOf(err error) string {
	var without *undone
	var kept *held
	reason := apierrors.ReasonForError(err)
	switch {
	case errors.As(err, &without):
		return ReasonUndone
	case errors.As(err, &kept):
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

// leaves returns the errors that one was joined from.
func leaves(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// refuser is how the API server words who refuses, where it is not itself.
var refuser = regexp.MustCompile(`admission webhook "[^"]+"|ValidatingAdmissionPolicy '[^']+'|exceeded quota`)

// alikeness is the same for failures that are one to whoever reads of them, whatever objects they are of.
func alikeness(err error) string {
	if match := wording.FindString(err.Error()); match != "" {
		return match
	}
	return reasonOf(err) + refuser.FindString(err.Error())
}

// The least time between two lines of the log that say the same: of what stays until someone acts, and of what may pass.
const (
	stayingPeriod = 10 * time.Minute
	passingPeriod = time.Minute
)

// lines knows what was logged lately.
type lines struct {
	mu   sync.Mutex
	said map[string]line // by alikeness, of which there are few
}

type line struct {
	at    time.Time
	alike int
}

func newLines() *lines { return &lines{said: map[string]line{}} }

// say reports whether it is time for a line on what is alike, a period after the last one, and for how many that were not
// written it stands.
func (l *lines) say(alikeness string, period time.Duration, now time.Time) (alike int, say bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last, found := l.said[alikeness]
	if found && now.Sub(last.at) < period {
		last.alike++
		l.said[alikeness] = last
		return 0, false
	}
	l.said[alikeness] = line{at: now}
	return last.alike, true
}

// severity orders the reasons of failures: 0 for those that stay until someone acts, 1 for those that may pass.
func severity(reason string) int {
	switch reason {
	case ReasonForbidden, ReasonForeignSecret, ReasonContended, ReasonInvalid, ReasonUndone, ReasonHeld:
		return 0
	default:
		return 1
	}
}

// worst returns the failures that the status lists: those that need someone first, then the oldest.
func worst(failures []v1.Failure) []v1.Failure {
	sorted := slices.SortedFunc(slices.Values(failures), func(a, b v1.Failure) int {
		return cmp.Or(cmp.Compare(severity(a.Reason), severity(b.Reason)), a.Since.Compare(b.Since.Time),
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
