package webhook

import (
	"net/http"
	"time"
)

// Outcome is what an admission request came to.
type Outcome string

// The outcomes there are. Whatever did not get an AdmissionReview in answer is an error: the failure policy decided it.
const (
	OutcomeAllowed Outcome = "allowed" // unchanged
	OutcomePatched Outcome = "patched" // allowed with a patch
	OutcomeDenied  Outcome = "denied"
	OutcomeError   Outcome = "error"
)

// The webhooks that are told apart.
const (
	Mutating   = "mutating"
	Pods       = "pods"
	Validating = "validating"
)

// Observer is told of each admission request: which webhook it asked, what it came to, and how long it took. It is called from
// the request's goroutine and must not block.
type Observer func(webhook string, outcome Outcome, took time.Duration)

// outcomeRecorder is a ResponseWriter that knows what the request came to.
type outcomeRecorder struct {
	http.ResponseWriter
	outcome Outcome
}

// observed tells the observers of every request of a webhook, however it ended.
func observed(observers []Observer) func(http.Handler) http.Handler {
	webhooks := map[string]string{MutatePath: Mutating, MutatePodsPath: Pods, ValidatePath: Validating}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			webhook, known := webhooks[r.URL.Path]
			if !known {
				next.ServeHTTP(w, r)
				return
			}
			seen, began := &outcomeRecorder{w, OutcomeError}, time.Now()
			next.ServeHTTP(seen, r)
			for _, observe := range observers {
				observe(webhook, seen.outcome, time.Since(began))
			}
		})
	}
}

// conclude notes what a request came to.
func conclude(w http.ResponseWriter, outcome Outcome) {
	if seen, observed := w.(*outcomeRecorder); observed {
		seen.outcome = outcome
	}
}
