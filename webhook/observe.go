package webhook

import (
	"context"
	"net/http"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
)

// Outcome is what an admission request came to.
type Outcome string

// The outcomes there are. Whatever did not get an AdmissionReview in answer is an error: the failure policy decided it.
const (
	OutcomeAllowed Outcome = "allowed" // as it was
	OutcomePatched Outcome = "patched" // allowed with a patch
	OutcomeDenied  Outcome = "denied"
	OutcomeError   Outcome = "error"
)

// The webhooks that are told apart.
const (
	Mutating   = "mutating"
	Validating = "validating"
)

// Observer is told of each admission request: which webhook it asked, what it came to, and how long it took. It is called from
// the request's goroutine and must not block.
type Observer func(webhook string, outcome Outcome, took time.Duration)

// outcomeKey is where a request's context holds its *Outcome.
type outcomeKey struct{}

// observed tells the observers of every request of a webhook, however it ended.
func observed(observers []Observer) func(http.Handler) http.Handler {
	webhooks := map[string]string{MutatePath: Mutating, ValidatePath: Validating}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			webhook, known := webhooks[r.URL.Path]
			if !known {
				next.ServeHTTP(w, r)
				return
			}
			outcome, began := OutcomeError, time.Now()
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), outcomeKey{}, &outcome)))
			for _, observe := range observers {
				observe(webhook, outcome, time.Since(began))
			}
		})
	}
}

// conclude notes what a request came to.
func conclude(r *http.Request, response admissionv1.AdmissionResponse) {
	outcome, observed := r.Context().Value(outcomeKey{}).(*Outcome)
	switch {
	case !observed:
	case !response.Allowed:
		*outcome = OutcomeDenied
	case len(response.Patch) > 0:
		*outcome = OutcomePatched
	default:
		*outcome = OutcomeAllowed
	}
}
