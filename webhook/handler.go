package webhook

import (
	"context"
	"errors"
	"log/slog"
	"mime"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

const (
	// MutatePath takes ServiceAccounts.
	MutatePath = "/mutate/serviceaccounts"
	// MutatePodsPath takes Pods.
	MutatePodsPath = "/mutate/pods"
	// ValidatePath takes ImagePullSecrets.
	ValidatePath = "/validate/imagepullsecrets"
)

// Attachments is what is known about all ImagePullSecrets, without their credentials. Each result must be of one moment.
type Attachments interface {
	// Secrets returns the names of the Secrets that a service account should list. labels returns the labels of the namespace; it is
	// called only if they may decide. If it is nil, they are not known.
	Secrets(namespace string, labels func() pullsecret.Labels, serviceAccount string) []string
	// PodSecrets returns the names of the Secrets that a pod gets if it lists pull secrets of its own.
	PodSecrets(pod *pullsecret.Pod, labels func() pullsecret.Labels) []string
	// Sources returns the ImagePullSecrets that give a server a credential in some of these namespaces, or could.
	Sources(server string, namespaces pullsecret.Namespaces) []pullsecret.Source
}

// LabelsOf returns the labels of a namespace, which a review does not hold; unknown ones if they are not found before ctx ends.
type LabelsOf func(ctx context.Context, namespace string) pullsecret.Labels

var (
	_ Attachments = (*pullsecret.Index)(nil)
	_ Attachments = (*pullsecret.Rules)(nil)
	_ Attachments = (*pullsecret.Attachments)(nil)
)

// Handler returns the HTTP handler of all webhooks. ready is called before each request: while it returns an error, the answer is
// 503, which leaves the decision to the webhook's failure policy. (A 200 that denies would override it.) labels is called only if
// labels may decide; if it is nil, none are known. The observers are told about each request.
func Handler(log *slog.Logger, known Attachments, labels LabelsOf, ready func() error, observers ...Observer) http.Handler {
	router := chi.NewRouter()
	in := newIntake()
	router.Use(observed(observers), recoverer(log), readiness(ready), onlyJSON)
	router.Post(MutatePath, serve(log, in, decodeAccountReview, func(r *http.Request, request accountRequest) (string, response) {
		return request.uid, mutate(known, labels.of(r, request.namespace), &request)
	}))
	router.Post(MutatePodsPath, serve(log, in, decodePodReview, func(r *http.Request, request podRequest) (string, response) {
		return request.uid, mutatePod(known, labels.of(r, request.namespace), &request)
	}))
	router.Post(ValidatePath, serve(log, in, decodeObjectReview, func(_ *http.Request, request objectRequest) (string, response) {
		return request.uid, validate(known, &request)
	}))
	return router
}

// of returns a function that asks for the labels of a namespace. It takes at most half of the time that the API server waits, so that
// the request can still be answered without them. It is nil where l is.
func (l LabelsOf) of(r *http.Request, namespace string) func() pullsecret.Labels {
	if l == nil {
		return nil
	}
	return func() pullsecret.Labels {
		ctx := r.Context()
		if limit := deadline(r); limit > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, limit/2)
			defer cancel()
		}
		return l(ctx, namespace)
	}
}

// answering returns the response to a request, with the request's UID. (A pointer to the request would move it to the heap.)
type answering[Request any] func(*http.Request, Request) (uid string, response response)

// jsonType is the Content-Type of all answers. It is never modified.
var jsonType = []string{"application/json"}

// serve returns a handler that reads a review, calls answer, and writes the answer.
func serve[Request any](log *slog.Logger, in *intake, decode func([]byte) (Request, error), answer answering[Request]) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		review := in.open()
		defer in.close(review) // after its answer is written
		outcome, err := respond(w, r, in, review, decode, answer)
		if limit := deadline(r); err == nil && limit > 0 && time.Since(began) > limit {
			err = context.DeadlineExceeded // the API server no longer waits
		}
		if err != nil {
			refuse(log, w, r, err)
			return
		}
		w.Header()["Content-Type"] = jsonType
		review.lent = true
		if _, err := w.Write(review.data); err != nil {
			log.Debug("admission response was not delivered", "error", err)
			return
		}
		review.lent = false
		conclude(w, outcome)
	}
}

// respond replaces a review by its answer, and returns the outcome.
func respond[Request any](
	w http.ResponseWriter, r *http.Request, in *intake, review *body, decode func([]byte) (Request, error), answer answering[Request],
) (Outcome, error) {
	if err := in.read(w, r, review); err != nil {
		return OutcomeError, &unread{err}
	}
	request, err := decode(review.data)
	if err != nil {
		return OutcomeError, &misread{err}
	}
	uid, response := answer(r, request)
	err = in.exchange(review, func(room []byte) ([]byte, error) { return response.append(room, uid) })
	if err != nil {
		return OutcomeError, err
	}
	return response.outcome(), nil
}

// deadline returns how long the API server waits for this answer, by its timeout parameter; 0 where there is none.
func deadline(r *http.Request) time.Duration {
	value, found := strings.CutPrefix(r.URL.RawQuery, "timeout=") // API servers write only that, and this is cheaper to parse
	if limit, err := time.ParseDuration(value); found && err == nil {
		return limit
	}
	limit, err := time.ParseDuration(r.URL.Query().Get("timeout"))
	if err != nil {
		return 0
	}
	return limit
}

// unread is why a review could not be read, misread why it could not be decoded.
type (
	unread  struct{ error }
	misread struct{ error }
)

func (u *unread) Unwrap() error { return u.error }

// refuse answers a request that gets no AdmissionReview.
func refuse(log *slog.Logger, w http.ResponseWriter, r *http.Request, err error) {
	var tooLarge *http.MaxBytesError
	var unread *unread
	var misread *misread
	switch {
	case errors.As(err, &misread):
		http.Error(w, misread.Error(), http.StatusBadRequest)
	case errors.As(err, &tooLarge):
		http.Error(w, "reading the admission review: it is larger than 7 MiB", http.StatusRequestEntityTooLarge)
	case errors.Is(err, errBusy):
		w.Header().Set("Connection", "close") // the rest of the review is not waited for
		http.Error(w, "answering the admission review: "+errBusy.Error(), http.StatusServiceUnavailable)
	case errors.As(err, &unread):
		http.Error(w, "reading the admission review: the body ended early", http.StatusBadRequest)
	default:
		log.Error("admission request was not answered", "path", r.URL.Path, "error", err)
		http.Error(w, "answering the admission request: internal error", http.StatusInternalServerError)
	}
}

// recoverer answers a panic with 500, so that the failure policy decides.
func recoverer(log *slog.Logger) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				if cause := recover(); cause != nil {
					// The panic's message may quote the request: only the stack is logged.
					log.Error("admission request panicked", "path", r.URL.Path, "stack", string(debug.Stack()))
					http.Error(w, "answering the admission request: internal error", http.StatusInternalServerError)
				}
			}()
			next.ServeHTTP(w, r)
		})
	}
}

func readiness(ready func() error) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := ready(); err != nil {
				http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

func onlyJSON(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && !isJSON(r.Header.Get("Content-Type")) {
			http.Error(w, "Content-Type must be application/json", http.StatusUnsupportedMediaType)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func isJSON(contentType string) bool {
	if contentType == "application/json" {
		return true // as all API servers write it
	}
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && kind == "application/json"
}
