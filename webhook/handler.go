package webhook

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/go-chi/chi/v5"
	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

const (
	// MutatePath takes ServiceAccounts, ValidatePath ImagePullSecrets.
	MutatePath   = "/mutate/serviceaccounts"
	ValidatePath = "/validate/imagepullsecrets"

	// maxBody is above the 3 MiB that the API server accepts of an object, twice (object and old object).
	maxBody = 7 << 20
)

// Handler returns the HTTP handler of both webhooks. ready is asked before each request: while it returns an error the
// answer is 503, which leaves the decision to the webhook's failure policy. (A 200 that denies would override it.) The
// observers, if any, are told what each request came to.
func Handler(log *slog.Logger, index *pullsecret.Index, ready func() error, observers ...Observer) http.Handler {
	router := chi.NewRouter()
	router.Use(observed(observers), recoverer(log), deadline, readiness(ready), onlyJSON)
	router.Post(MutatePath, serve(log, "", "serviceaccounts", func(request *request[serviceAccount]) (admissionv1.AdmissionResponse, error) {
		return Mutate(index.Rules(), request)
	}))
	router.Post(ValidatePath, serve(log, v1.GroupVersion.Group, "imagepullsecrets", func(request *request[v1.ImagePullSecret]) (admissionv1.AdmissionResponse, error) {
		return Validate(index.Rules(), request), nil
	}))
	return router
}

// serve decodes a review of the resource, has it answered, and encodes the answer.
func serve[Object any](log *slog.Logger, group, resource string, answer func(*request[Object]) (admissionv1.AdmissionResponse, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			refuse(w, err)
			return
		}
		request, err := decodeReview[Object](body, group, resource)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		response, err := answer(request)
		if err == nil && r.Context().Err() != nil {
			err = context.Cause(r.Context()) // the API server no longer waits
		}
		if err != nil {
			log.Error("admission request was not answered", "resource", resource, "namespace", request.Namespace, "error", err)
			http.Error(w, "answering the admission request: internal error", http.StatusInternalServerError)
			return
		}
		if respond(log, w, request.UID, response) {
			conclude(r, response)
		}
	}
}

// respond reports whether the answer was given.
func respond(log *slog.Logger, w http.ResponseWriter, uid types.UID, response admissionv1.AdmissionResponse) bool {
	encoded, err := encodeResponse(uid, response)
	if err != nil {
		log.Error("admission response was not encoded", "error", err)
		http.Error(w, "encoding the admission response: internal error", http.StatusInternalServerError)
		return false
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(encoded); err != nil {
		log.Debug("admission response was not delivered", "error", err)
		return false
	}
	return true
}

// refuse answers a request whose body could not be read.
func refuse(w http.ResponseWriter, err error) {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		http.Error(w, "reading the admission review: it is larger than 7 MiB", http.StatusRequestEntityTooLarge)
		return
	}
	http.Error(w, "reading the admission review: the body ended early", http.StatusBadRequest)
}

// recoverer turns a panic into a 500, so that the failure policy decides.
func recoverer(log *slog.Logger) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				if cause := recover(); cause != nil {
					// What the panic says may quote the request: only where it happened is logged.
					log.Error("admission request panicked", "path", r.URL.Path, "stack", string(debug.Stack()))
					http.Error(w, "answering the admission request: internal error", http.StatusInternalServerError)
				}
			}()
			next.ServeHTTP(w, r)
		})
	}
}

// deadline ends a request when the API server stops waiting for it, which its timeout parameter says.
func deadline(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if timeout, err := time.ParseDuration(r.URL.Query().Get("timeout")); err == nil && timeout > 0 {
			ctx, cancel := context.WithTimeout(r.Context(), timeout)
			defer cancel()
			r = r.WithContext(ctx)
		}
		next.ServeHTTP(w, r)
	})
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
		if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); r.Method == http.MethodPost && (err != nil || kind != "application/json") {
			http.Error(w, "Content-Type must be application/json", http.StatusUnsupportedMediaType)
			return
		}
		next.ServeHTTP(w, r)
	})
}
