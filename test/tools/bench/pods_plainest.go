package main

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/test/harness/selfsigned"
)

// The plainest policy, or webhook, that adds a fixed entry to pods which list pull secrets: what it costs, every one costs.
const (
	plainest      = "bench-plainest"
	plainestEntry = "tcr.ips.0000000000.plainest"
)

// ofPods are the rules, and plainestSelector selects the namespace, of the plainest policy or webhook.
var (
	ofPods = admissionregistrationv1.RuleWithOperations{
		Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
		Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
	}
	plainestSelector  = &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": plainestNamespace}}
	plainestCondition = []admissionregistrationv1.MatchCondition{{Name: "lists-pull-secrets", Expression: "has(object.spec.imagePullSecrets)"}}
)

// addPlainestPolicy creates it.
func (w *podsWorld) addPlainestPolicy(ctx context.Context) error {
	policy := &admissionregistrationv1.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: plainest},
		Spec: admissionregistrationv1.MutatingAdmissionPolicySpec{
			FailurePolicy:      new(admissionregistrationv1.Ignore),
			ReinvocationPolicy: admissionregistrationv1.NeverReinvocationPolicy,
			MatchConstraints: &admissionregistrationv1.MatchResources{
				ResourceRules:     []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: ofPods}},
				NamespaceSelector: plainestSelector,
			},
			MatchConditions: plainestCondition,
			Mutations: []admissionregistrationv1.Mutation{{
				PatchType: admissionregistrationv1.PatchTypeJSONPatch,
				JSONPatch: &admissionregistrationv1.JSONPatch{
					Expression: fmt.Sprintf(`[JSONPatch{op: "add", path: "/spec/imagePullSecrets/-", value: {"name": %q}}]`, plainestEntry),
				},
			}},
		},
	}
	binding := &admissionregistrationv1.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: plainest},
		Spec:       admissionregistrationv1.MutatingAdmissionPolicyBindingSpec{PolicyName: plainest},
	}
	registration := w.client.AdmissionregistrationV1()
	_, err := registration.MutatingAdmissionPolicies().Create(ctx, policy, metav1.CreateOptions{})
	if err == nil {
		_, err = registration.MutatingAdmissionPolicyBindings().Create(ctx, binding, metav1.CreateOptions{})
	}
	return err
}

// addPlainestWebhook serves it, and has pods sent to it. It reads of a request no more than what it has to repeat.
func (w *podsWorld) addPlainestWebhook(ctx context.Context) (stop func() error, err error) {
	certificate, pair, err := selfsigned.Pair("127.0.0.1")
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: http.HandlerFunc(answerPlainly), ReadHeaderTimeout: hang}
	served := make(chan error, 1)
	go func() {
		served <- server.Serve(tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13}))
	}()
	stop = func() error {
		err := server.Close()
		if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
			err = errors.Join(err, ended)
		}
		return err
	}
	configuration := &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: plainest},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name:                    plainest + ".example.com",
			AdmissionReviewVersions: []string{"v1"},
			ClientConfig:            admissionregistrationv1.WebhookClientConfig{URL: new("https://" + listener.Addr().String()), CABundle: certificate},
			Rules:                   []admissionregistrationv1.RuleWithOperations{ofPods},
			NamespaceSelector:       plainestSelector,
			MatchConditions:         plainestCondition,
			FailurePolicy:           new(admissionregistrationv1.Ignore),
			SideEffects:             new(admissionregistrationv1.SideEffectClassNone),
		}},
	}
	_, err = w.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(ctx, configuration, metav1.CreateOptions{})
	if err != nil {
		err = errors.Join(err, stop())
	}
	return stop, err
}

var (
	uidOfReview   = regexp.MustCompile(`"uid":"([^"]*)"`) // the first one is the request's
	plainestPatch = base64.StdEncoding.EncodeToString(fmt.Appendf(nil, `[{"op":"add","path":"/spec/imagePullSecrets/-","value":{"name":%q}}]`, plainestEntry))
)

func answerPlainly(answer http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	uid := uidOfReview.FindSubmatch(body)
	if err != nil || uid == nil {
		http.Error(answer, "no review", http.StatusBadRequest)
		return
	}
	answer.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(answer, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":%q,"allowed":true,"patchType":"JSONPatch","patch":%q}}`,
		uid[1], plainestPatch)
}
