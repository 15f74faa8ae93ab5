package gather

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/diagnose"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Target is what the question is about: a pod, the pods of a workload or, if Name is blank, those of a namespace.
type Target struct {
	Kind      string
	Namespace string
	Name      string
}

// String names the target the way that findings name objects.
func (t Target) String() string {
	if t.Name == "" {
		return "namespace " + t.Namespace
	}
	return t.Kind + " " + t.Namespace + "/" + t.Name
}

// workloads are the kinds that have pods, by every name that kubectl has for them.
var workloads = map[string]schema.GroupVersionResource{
	"deployment": deployments, "deployments": deployments, "deploy": deployments,
	"daemonset": daemonSets, "daemonsets": daemonSets, "ds": daemonSets,
	"statefulset": apps("statefulsets"), "statefulsets": apps("statefulsets"), "sts": apps("statefulsets"),
	"replicaset": apps("replicasets"), "replicasets": apps("replicasets"), "rs": apps("replicasets"),
	"job": batch("jobs"), "jobs": batch("jobs"),
}

func apps(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: resource}
}

func batch(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: resource}
}

// ParseTarget reads what a user asks about: nothing, POD, pod/POD, KIND/NAME or namespace/NAME.
func ParseTarget(argument, namespace string) (Target, error) {
	kind, name, found := strings.Cut(argument, "/")
	if argument != "" && !found {
		kind, name = "pod", argument
	}
	kind, _, _ = strings.Cut(strings.ToLower(kind), ".")
	switch {
	case argument == "":
		return Target{Kind: "namespace", Namespace: namespace}, nil
	case name == "":
		return Target{}, fmt.Errorf("reading %q: write KIND/NAME, such as deployment/web", argument)
	case slices.Contains([]string{"namespace", "namespaces", "ns"}, kind):
		return Target{Kind: "namespace", Namespace: name}, nil
	case slices.Contains([]string{"pod", "pods", "po"}, kind):
		return Target{Kind: "pod", Namespace: namespace, Name: name}, nil
	}
	workload, known := workloads[kind]
	if !known {
		return Target{}, fmt.Errorf("reading %q: %s is not a kind that is supported: write pod, deployment, statefulset, daemonset, "+
			"replicaset, job or namespace", argument, kind)
	}
	return Target{Kind: strings.TrimSuffix(workload.Resource, "s"), Namespace: namespace, Name: name}, nil
}

// Evidence reads everything that concerns the pods of a target.
func (c *Cluster) Evidence(ctx context.Context, target Target, now time.Time) ([]diagnose.Evidence, error) {
	found, err := c.podsOf(ctx, target)
	if err != nil {
		return nil, err
	}
	g := &gatherer{Cluster: c, now: now, target: target, referred: c.noneSeen(),
		accounts: map[string]lookup[corev1.ServiceAccount]{}, secrets: map[string]lookup[corev1.Secret]{},
		lines: map[string]lookup[[]diagnose.HostsLine]{}}
	var all []diagnose.Evidence
	for i := range found {
		all = append(all, g.of(ctx, &found[i]))
	}
	return all, stopped(ctx)
}

func (c *Cluster) podsOf(ctx context.Context, target Target) ([]corev1.Pod, error) {
	switch {
	case target.Name == "":
		if _, err := get[corev1.Namespace](ctx, c, namespaces, "", target.Namespace); apierrors.IsNotFound(err) {
			return nil, err
		}
		return list[corev1.Pod](ctx, c, pods, target.Namespace, metav1.ListOptions{})
	case target.Kind == "pod":
		pod, err := get[corev1.Pod](ctx, c, pods, target.Namespace, target.Name)
		if err != nil {
			return nil, err
		}
		return []corev1.Pod{*pod}, nil
	}
	type workload struct {
		Spec struct {
			Selector metav1.LabelSelector `json:"selector"`
			Replicas *int32               `json:"replicas"`
		} `json:"spec"`
	}
	found, err := get[workload](ctx, c, workloads[target.Kind], target.Namespace, target.Name)
	if err != nil {
		return nil, err
	}
	selector, err := metav1.LabelSelectorAsSelector(&found.Spec.Selector)
	if err != nil || selector.Empty() {
		return nil, fmt.Errorf("looking at the pods of %s: its selector is empty or invalid", target)
	}
	selected, err := list[corev1.Pod](ctx, c, pods, target.Namespace, metav1.ListOptions{LabelSelector: selector.String()})
	if err == nil && len(selected) == 0 && (found.Spec.Replicas == nil || *found.Spec.Replicas > 0) {
		err = fmt.Errorf("looking at the pods of %s: there are none; kubectl describe says why", target)
	}
	return selected, err
}

// gatherer reads what several pods have in common only once, and what only a failing pod needs only when there is one.
type gatherer struct {
	*Cluster
	now      time.Time
	target   Target
	accounts map[string]lookup[corev1.ServiceAccount]
	secrets  map[string]lookup[corev1.Secret]
	lines    map[string]lookup[[]diagnose.HostsLine] // by node
	// unanswered counts the nodes whose lines could not be read. noLines is the last error of these.
	unanswered int
	noLines    error
	referred   *referred

	common *common
	hidden unseen // of the namespace
}

// common is what is the same for all pods.
type common struct {
	events    []corev1.Event
	namespace diagnose.Namespace
	objects   []v1.ImagePullSecret
	manager   diagnose.Manager
	hosts     hosts
}

func (g *gatherer) of(ctx context.Context, pod *corev1.Pod) diagnose.Evidence {
	evidence := diagnose.Evidence{Now: g.now, Product: g.product, Pod: diagnose.ReadPod(pod, nil)}
	if !slices.ContainsFunc(evidence.Pod.Pulls, func(p diagnose.Pull) bool { return p.Waiting != "" }) {
		return evidence // nothing else matters
	}
	if g.common == nil {
		g.common = g.inCommon(ctx)
	}
	about := slices.DeleteFunc(slices.Clone(g.common.events), func(event corev1.Event) bool { return event.InvolvedObject.UID != pod.UID })
	evidence.Pod = diagnose.ReadPod(pod, about)
	evidence.Namespace, evidence.Manager = g.common.namespace, g.common.manager
	evidence.Node = g.common.hosts.on(pod.Spec.NodeName)

	hidden := slices.Clone(g.hidden)
	g.addLines(ctx, &evidence, &hidden)
	account, err := g.account(ctx, pod.Namespace, evidence.Pod.Account)
	if err != nil {
		hidden.note(diagnose.PartAccount, err)
	}
	evidence.Account = diagnose.ReadAccount(account)
	for i := range g.common.objects {
		object := &g.common.objects[i]
		// If the pod does not list its Secret, it does not matter what that should hold.
		if slices.Contains(evidence.Pod.Entries, pullsecret.SecretName(object.Name)) {
			if err := g.referred.look(ctx, object); err != nil {
				hidden.note(diagnose.PartCredentials, err)
			}
		}
		evidence.Issuers = append(evidence.Issuers, diagnose.ReadIssuer(object, g.referred.seen, evidence.Pod, evidence.Namespace.Labels))
	}
	for _, name := range evidence.Pod.Entries {
		secret, err := g.secret(ctx, pod.Namespace, name)
		if err != nil {
			hidden.note(diagnose.PartSecrets, err)
			continue
		}
		if secret != nil {
			evidence.Secrets = append(evidence.Secrets, diagnose.ReadSecret(secret))
		}
	}
	evidence.Unseen = hidden
	return evidence
}

func (g *gatherer) inCommon(ctx context.Context) *common {
	found := &common{}
	var err error
	selector := fields.Set{"involvedObject.kind": "Pod"}
	if g.target.Kind == "pod" {
		selector["involvedObject.name"] = g.target.Name
	}
	if found.events, err = list[corev1.Event](ctx, g.Cluster, events, g.target.Namespace,
		metav1.ListOptions{FieldSelector: selector.String()}); err != nil {
		g.hidden.note(diagnose.PartEvents, err)
	}
	if namespace, err := get[corev1.Namespace](ctx, g.Cluster, namespaces, "", g.target.Namespace); err != nil {
		g.hidden.note(diagnose.PartNamespace, err)
	} else {
		found.namespace = diagnose.ReadNamespace(namespace)
	}
	if found.objects, err = g.Objects(ctx); err != nil {
		g.hidden.note(diagnose.PartImagePullSecrets, err)
	}
	if g.referred.seen.Domains, err = g.domains(ctx, found.objects); err != nil {
		g.hidden.note(diagnose.PartDomains, err)
	}
	manager, more := g.manager(ctx)
	found.manager, g.hidden = manager, append(g.hidden, more...)
	if found.hosts, err = g.hosts(ctx); err != nil {
		g.hidden.note(diagnose.PartNode, err)
	}
	return found
}

// account returns an account; nil if it does not exist.
func (g *gatherer) account(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	return once(g.accounts, name, func() (*corev1.ServiceAccount, error) {
		return get[corev1.ServiceAccount](ctx, g.Cluster, serviceAccounts, namespace, name)
	})
}

// secret returns a Secret; nil if it does not exist.
func (g *gatherer) secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return once(g.secrets, name, func() (*corev1.Secret, error) {
		return get[corev1.Secret](ctx, g.Cluster, secrets, namespace, name)
	})
}
