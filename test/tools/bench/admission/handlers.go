package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/webhook"
)

// sizes of admission requests, in bytes, and how long the product's handler may take over controller-runtime's.
var sizes = []struct {
	bytes  int
	within float64
}{{1 << 10, 1.0 / 5}, {5 << 10, 0}, {28 << 10, 1.0 / 10}}

// maxAllocations is the goal for one request.
const maxAllocations = 15

// index holds one rule, which selects every account.
func index() *pullsecret.Index {
	index := pullsecret.NewIndex()
	index.Put(&v1.ImagePullSecret{
		ObjectMeta: metav1.ObjectMeta{Name: "bench", UID: "1"},
		Spec: v1.ImagePullSecretSpec{
			Namespaces: "*", ServiceAccounts: "*",
			Docker: v1.DockerCredential{Username: "robot", Password: "hidden", Server: "example.tencentcloudcr.com"},
		},
	})
	return index
}

// product is the product's handler with all that the manager gives it.
func product() http.Handler {
	labels := func(context.Context, string) pullsecret.Labels { return pullsecret.Labels{} }
	ready := func() error { return nil }
	return webhook.Handler(slog.New(slog.DiscardHandler), index(), labels, ready, func(string, webhook.Outcome, time.Duration) {})
}

// controllerRuntime serves the same mutation the way its documentation shows: decode, change, compare.
func controllerRuntime() http.Handler {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		panic(err) // the types are compiled in
	}
	log.SetLogger(logr.Discard())
	rules, decoder := index(), admission.NewDecoder(scheme)
	return &admission.Webhook{Handler: admission.HandlerFunc(func(_ context.Context, request admission.Request) admission.Response {
		var account corev1.ServiceAccount
		if err := decoder.Decode(request, &account); err != nil {
			return admission.Errored(http.StatusBadRequest, err)
		}
		for _, secret := range rules.Rules().Secrets(request.Namespace, nil, account.Name) {
			if !slices.Contains(account.ImagePullSecrets, corev1.LocalObjectReference{Name: secret}) {
				account.ImagePullSecrets = append(account.ImagePullSecrets, corev1.LocalObjectReference{Name: secret})
			}
		}
		changed, err := json.Marshal(account)
		if err != nil {
			return admission.Errored(http.StatusInternalServerError, err)
		}
		return admission.PatchResponseFromRaw(request.Object.Raw, changed)
	})}
}

// review is an AdmissionReview of a ServiceAccount as an API server sends it, about so many bytes long: the account bears an
// annotation of kubectl's, which is JSON in a string.
func review(account *corev1.ServiceAccount, size int) []byte {
	account.Namespace = "team"
	account.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}
	text := strings.Repeat(`{"apiVersion":"v1","kind":"ServiceAccount"},`, size)
	account.Annotations = map[string]string{corev1.LastAppliedConfigAnnotation: ""}
	body := reviewOf(account)
	for ; len(body) < size; body = reviewOf(account) {
		account.Annotations[corev1.LastAppliedConfigAnnotation] += text[:max(1, (size-len(body))/2)]
	}
	return body
}

func reviewOf(account *corev1.ServiceAccount) []byte {
	object, err := json.Marshal(account)
	if err != nil {
		panic(err) // it marshals, whatever is in it
	}
	dryRun := false
	kind := metav1.GroupVersionKind{Version: "v1", Kind: "ServiceAccount"}
	resource := metav1.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "0f1c9b8e-5d1f-4f0e-9a52-2f7f0d3c0a11", Kind: kind, RequestKind: &kind, Resource: resource, RequestResource: &resource,
			Name: account.Name, Namespace: account.Namespace, Operation: admissionv1.Create, DryRun: &dryRun,
			Object: runtime.RawExtension{Raw: object},
		},
	})
	if err != nil {
		panic(err)
	}
	return body
}

// alike fails unless both handlers lead to the same account.
func alike(a, b http.Handler) error {
	for _, account := range []corev1.ServiceAccount{
		{ObjectMeta: metav1.ObjectMeta{Name: "default"}},
		{ObjectMeta: metav1.ObjectMeta{GenerateName: "generated-"}},
		{ObjectMeta: metav1.ObjectMeta{Name: "default"}, ImagePullSecrets: []corev1.LocalObjectReference{{Name: "other"}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "default"}, ImagePullSecrets: []corev1.LocalObjectReference{{Name: "tcr.ipsbench"}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "ünïcode"}, Secrets: []corev1.ObjectReference{{Name: "token"}}},
	} {
		for _, size := range sizes {
			body := review(&account, size.bytes)
			left, err := outcome(a, body)
			if err != nil {
				return err
			}
			right, err := outcome(b, body)
			if err != nil {
				return err
			}
			if !reflect.DeepEqual(left, right) {
				return fmt.Errorf("comparing the handlers: of one request one makes %+v and the other %+v", left, right)
			}
		}
	}
	return nil
}

// outcome is the account that an answer leads to.
func outcome(handler http.Handler, body []byte) (*corev1.ServiceAccount, error) {
	exchange := newExchange(body)
	exchange.with(handler)
	var answer admissionv1.AdmissionReview
	if err := json.Unmarshal(exchange.answer.Bytes(), &answer); err != nil {
		return nil, fmt.Errorf("reading an answer: %w", err)
	}
	if answer.Response == nil || !answer.Response.Allowed {
		return nil, fmt.Errorf("reading an answer: it must allow: %s", exchange.answer.Bytes())
	}
	var asked admissionv1.AdmissionReview
	if err := json.Unmarshal(body, &asked); err != nil {
		return nil, err
	}
	object := asked.Request.Object.Raw
	if len(answer.Response.Patch) > 0 {
		patch, err := jsonpatch.DecodePatch(answer.Response.Patch)
		if err != nil {
			return nil, err
		}
		if object, err = patch.Apply(object); err != nil {
			return nil, err
		}
	}
	var account corev1.ServiceAccount
	return &account, json.Unmarshal(object, &account)
}

// exchange is a request and its answer, made once and used over and over, so that what is measured is the handler.
type exchange struct {
	request *http.Request
	body    *bytes.Reader
	header  http.Header
	answer  bytes.Buffer
}

func newExchange(body []byte) *exchange {
	return &exchange{
		body:   bytes.NewReader(body),
		header: http.Header{},
		request: &http.Request{
			Method: http.MethodPost, ProtoMajor: 2,
			URL:           &url.URL{Path: webhook.MutatePath, RawQuery: "timeout=3s"},
			Header:        http.Header{"Content-Type": {"application/json"}},
			ContentLength: int64(len(body)),
		},
	}
}

func (e *exchange) Header() http.Header         { return e.header }
func (e *exchange) Write(p []byte) (int, error) { return e.answer.Write(p) }
func (e *exchange) WriteHeader(int)             {}

func (e *exchange) with(handler http.Handler) {
	_, _ = e.body.Seek(0, io.SeekStart)
	e.answer.Reset()
	clear(e.header)
	e.request.Body = io.NopCloser(e.body)
	handler.ServeHTTP(e, e.request)
}

// compareHandlers measures the handlers alone.
func compareHandlers(all *figures, ours, theirs http.Handler) {
	measure := func(handler http.Handler, size int) testing.BenchmarkResult {
		exchange := newExchange(review(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, size))
		return testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				exchange.with(handler)
			}
			if !strings.Contains(exchange.answer.String(), `"allowed":true`) {
				b.Fatalf("the answer is %s", exchange.answer.String())
			}
		})
	}
	for _, size := range sizes {
		own, other := measure(ours, size.bytes), measure(theirs, size.bytes)
		over := all.add("admission handler", "time over controller-runtime", size.bytes, "x", float64(own.NsPerOp())/float64(other.NsPerOp()))
		if size.within > 0 {
			over.atMost(size.within)
		}
		all.add("admission handler", "allocations", size.bytes, "allocs", float64(own.AllocsPerOp())).atMost(maxAllocations)
		all.add("admission handler", "allocations of controller-runtime", size.bytes, "allocs", float64(other.AllocsPerOp()))
		all.add("admission handler", "time", size.bytes, "us", float64(own.NsPerOp())/1000)
		all.add("admission handler", "time of controller-runtime", size.bytes, "us", float64(other.NsPerOp())/1000)
	}
}
