package webhook

import (
	"net/http"
	"time"
)

// Outcome is the outcome of an admission request.
type Outcome string

// The possible outcomes. A request that was not answered with an AdmissionReview is an error: the failure policy decided about it.
const (
	OutcomeAllowed Outcome = "allowed" // unchanged
	OutcomePatched Outcome = "patched" // allowed with a patch
	OutcomeDenied  Outcome = "denied"
	OutcomeError   Outcome = "error"
)

// The names of the webhooks.
const (
	Mutating   = "mutating"
	Pods       = "pods"
	Validating = "validating"
)

// Observer is told about each admission request: its webhook, its outcome, and how long it took. It is called from the request's
// goroutine and must not block.
type Observer func(webhook string, outcome Outcome, took time.Duration)

// outcomeRecorder is a ResponseWriter that records the outcome of the request.
type outcomeRecorder struct {
	http.ResponseWriter
	outcome Outcome
}

// observed tells the observers about every request to a webhook, however it ended.
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

// conclude records the outcome of a request.
func conclude(w http.ResponseWriter, outcome Outcome) {
	if seen, observed := w.(*outcomeRecorder); observed {
		seen.outcome = outcome
	}
}
