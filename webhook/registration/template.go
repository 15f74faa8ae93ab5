package registration

import (
	"strconv"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/webhook"
)

// The names of the two webhook configurations and of the Service they point at.
const (
	MutatingConfiguration   = "tcr-assistant-mutating-webhook-configuration"
	ValidatingConfiguration = "tcr-assistant-validating-webhook-configuration"
	ServiceName             = "tcr-assistant-webhook-service"
)

// The names of the webhooks in them.
const (
	mutatingWebhook   = "serviceaccounts.tcr.tencentcloudcr.com"
	podsWebhook       = "pods.tcr.tencentcloudcr.com"
	validatingWebhook = "imagepullsecrets.tcr.tencentcloudcr.com"
)

// serviceAccountPrefix begins the user names of ServiceAccounts, and no others.
const serviceAccountPrefix = "system:serviceaccount:"

// Template is what the webhook configurations say, without the certificates to trust.
type Template struct {
	// Namespace is the Service's namespace.
	Namespace string
	// URL, where set, is called instead of the Service: "https://host:port", for a manager outside the cluster.
	URL string
	// FailurePolicy of the mutating webhook. Under Ignore, reconciliation repairs what admission missed; under Fail, no
	// ServiceAccount is created or changed while no replica answers.
	FailurePolicy admissionregistrationv1.FailurePolicyType
	// ValidatingOnly leaves out the mutating configuration: an admission policy does its work, inside the API server.
	ValidatingOnly bool
	// Pods adds a webhook for pods that list pull secrets of their own.
	Pods bool
	// Self is the user name of this process. If it is a ServiceAccount's, API servers do not call the webhook for what this process
	// writes: it has planned that by the same rules. A human's name, as in the kubeconfig of a manager outside of the cluster, exempts
	// nobody, since what that user writes by hand follows no rules. It takes an API server that knows matchConditions, from 1.28 on.
	Self string
	// Owner, where set, is the object that owns the configuration. Without it, an uninstall, or an update that drops the webhook,
	// could leave behind a configuration that nobody answers.
	Owner *metav1.OwnerReference
}

// Mutating returns the configuration of the webhooks that attach Secrets: to ServiceAccounts and, with Pods, to pods.
func (t Template) Mutating(bundle []byte) *admissionregistrationv1.MutatingWebhookConfiguration {
	configuration := &admissionregistrationv1.MutatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "MutatingWebhookConfiguration"},
		ObjectMeta: t.meta(MutatingConfiguration),
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name:                    mutatingWebhook,
			AdmissionReviewVersions: []string{"v1"},
			ClientConfig:            t.clientConfig(webhook.MutatePath, bundle),
			Rules:                   rules("", "v1", "serviceaccounts", admissionregistrationv1.NamespacedScope, written...),
			FailurePolicy:           &t.FailurePolicy,
			ReinvocationPolicy:      new(admissionregistrationv1.IfNeededReinvocationPolicy),
			SideEffects:             new(admissionregistrationv1.SideEffectClassNone),
			TimeoutSeconds:          new(int32(3)),
			MatchConditions:         t.matchConditions(),
			NamespaceSelector:       notOptedOut(),
			// An update matches if either the old or the new account is not opted out. The webhook then looks at the new one.
			ObjectSelector: notOptedOut(),
		}},
	}
	if t.Pods {
		configuration.Webhooks = append(configuration.Webhooks, t.pods(bundle))
	}
	return configuration
}

// pods returns the webhook for pods that are being created and list pull secrets of their own. No pod waits for it for long, and none
// is refused because of it.
func (t Template) pods(bundle []byte) admissionregistrationv1.MutatingWebhook {
	return admissionregistrationv1.MutatingWebhook{
		Name:                    podsWebhook,
		AdmissionReviewVersions: []string{"v1"},
		ClientConfig:            t.clientConfig(webhook.MutatePodsPath, bundle),
		Rules:                   rules("", "v1", "pods", admissionregistrationv1.NamespacedScope, admissionregistrationv1.Create),
		FailurePolicy:           new(admissionregistrationv1.Ignore),
		ReinvocationPolicy:      new(admissionregistrationv1.NeverReinvocationPolicy),
		SideEffects:             new(admissionregistrationv1.SideEffectClassNone),
		TimeoutSeconds:          new(int32(1)),
		NamespaceSelector:       notOptedOut(),
		ObjectSelector:          notOptedOut(),
		// It is a single condition, since the API server evaluates all of them, whatever the first ones say; and most pods list nothing
		// of their own.
		MatchConditions: []admissionregistrationv1.MatchCondition{{
			Name: "lists-pull-secrets-of-its-own-and-mirrors-no-static-pod",
			// By now, a pod that listed none has got what its account lists. If that includes one of ours, it includes all of ours.
			Expression: `has(object.spec.imagePullSecrets) && size(object.spec.imagePullSecrets) > 0 && ` +
				`object.spec.imagePullSecrets.all(s, !has(s.name) || !s.name.startsWith("tcr.ips")) && ` +
				`!(has(object.metadata.annotations) && "kubernetes.io/config.mirror" in object.metadata.annotations)`,
		}},
	}
}

// notOptedOut selects what is not kept out by its label.
func notOptedOut() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
		Key: v1.OptOutLabel, Operator: metav1.LabelSelectorOpNotIn, Values: []string{v1.OptOutValue},
	}}}
}

// matchConditions exclude what this process writes itself.
func (t Template) matchConditions() []admissionregistrationv1.MatchCondition {
	if !strings.HasPrefix(t.Self, serviceAccountPrefix) {
		return nil
	}
	return []admissionregistrationv1.MatchCondition{{
		Name:       "not-written-by-the-manager-itself",
		Expression: "request.userInfo.username != " + strconv.Quote(t.Self),
	}}
}

// Validating returns the configuration of the webhook that refuses bad ImagePullSecrets.
func (t Template) Validating(bundle []byte) *admissionregistrationv1.ValidatingWebhookConfiguration {
	return &admissionregistrationv1.ValidatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "ValidatingWebhookConfiguration"},
		ObjectMeta: t.meta(ValidatingConfiguration),
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name:                    validatingWebhook,
			AdmissionReviewVersions: []string{"v1"},
			ClientConfig:            t.clientConfig(webhook.ValidatePath, bundle),
			Rules: rules(v1.GroupVersion.Group, v1.GroupVersion.Version, "imagepullsecrets",
				admissionregistrationv1.ClusterScope, written...),
			FailurePolicy:  new(admissionregistrationv1.Fail),
			SideEffects:    new(admissionregistrationv1.SideEffectClassNone),
			TimeoutSeconds: new(int32(5)),
		}},
	}
}

func (t Template) meta(name string) metav1.ObjectMeta {
	meta := metav1.ObjectMeta{Name: name, Labels: v1.ManagedLabels()}
	if t.Owner != nil {
		meta.OwnerReferences = []metav1.OwnerReference{*t.Owner}
	}
	return meta
}

func (t Template) clientConfig(path string, bundle []byte) admissionregistrationv1.WebhookClientConfig {
	if t.URL != "" {
		url := strings.TrimSuffix(t.URL, "/") + path
		return admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: bundle}
	}
	return admissionregistrationv1.WebhookClientConfig{
		Service:  &admissionregistrationv1.ServiceReference{Namespace: t.Namespace, Name: ServiceName, Path: &path, Port: new(int32(443))},
		CABundle: bundle,
	}
}

// written are the operations that write an object.
var written = []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update}

func rules(
	group, version, resource string, scope admissionregistrationv1.ScopeType, operations ...admissionregistrationv1.OperationType,
) []admissionregistrationv1.RuleWithOperations {
	return []admissionregistrationv1.RuleWithOperations{{
		Operations: operations,
		Rule: admissionregistrationv1.Rule{
			APIGroups: []string{group}, APIVersions: []string{version}, Resources: []string{resource}, Scope: &scope,
		},
	}}
}
