package reconcile

import (
	"cmp"
	"slices"
	"unicode/utf8"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

const (
	// maxFailures bounds the status' list of failures, maxMessage the length of each message in bytes.
	maxFailures = 50
	maxMessage  = 400
)

// severity orders the reasons of failures: 0 for those that stay until someone acts, 1 for those that may pass.
func severity(reason string) int {
	switch reason {
	case ReasonForbidden, ReasonForeignSecret, ReasonContended, ReasonInvalid:
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
