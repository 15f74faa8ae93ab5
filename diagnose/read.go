package diagnose

import (
	"cmp"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// running are the reasons for waiting that have nothing to do with the image: it is there by then.
var running = []string{"ContainerCreating", "PodInitializing", "CrashLoopBackOff", "CreateContainerConfigError", "CreateContainerError",
	"RunContainerError", "PreCreateHookError", "PreStartHookError", "PostStartHookError"}

// ended reports whether no containers of a pod are started any more, whatever its status says about them.
func ended(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// ReadPod reads a pod and the events about it.
func ReadPod(pod *corev1.Pod, events []corev1.Event) Pod {
	read := Pod{
		Namespace: pod.Namespace, Name: pod.Name, Node: pod.Spec.NodeName,
		Account: cmp.Or(pod.Spec.ServiceAccountName, "default"),
		Entries: names(pod.Spec.ImagePullSecrets),
	}
	if owner := metav1.GetControllerOf(pod); owner != nil {
		read.Owner = owner.Kind + " " + owner.Name
	}
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses,
		pod.Status.EphemeralContainerStatuses) {
		pull := Pull{Container: status.Name, Image: imageOf(pod, status)}
		waiting := status.State.Waiting
		if waiting != nil && waiting.Reason != "" && !slices.Contains(running, waiting.Reason) && !ended(pod) {
			pull.Waiting, pull.Error = waiting.Reason, waiting.Message
			pull.Image = failedOf(pod, pull, events)
			pull.take(events)
		}
		read.Pulls = append(read.Pulls, pull)
	}
	return read
}

// pulling matches how kubelets name the image in messages about a pull.
var pulling = regexp.MustCompile(`(?:Back-off pulling image|Failed to pull image) "([^"]+)"`)

// failedOf returns the image that could not be pulled: an image that is mounted as a volume is reported with the container's status.
func failedOf(pod *corev1.Pod, pull Pull, events []corev1.Event) string {
	if named := pulling.FindStringSubmatch(pull.Error); named != nil {
		return named[1]
	}
	if strings.Contains(pull.Error, quote(pull.Image)) {
		return pull.Image
	}
	for _, volume := range pod.Spec.Volumes {
		if volume.Image == nil {
			continue
		}
		told := func(event corev1.Event) bool {
			return pull.Error != "" && strings.HasSuffix(event.Message, "Failed to pull image "+quote(volume.Image.Reference)+": "+pull.Error)
		}
		if strings.Contains(pull.Error, quote(volume.Image.Reference)) || slices.ContainsFunc(events, told) {
			return volume.Image.Reference
		}
	}
	return pull.Image
}

func quote(image string) string { return `"` + image + `"` }

// imageOf returns the image as the pod's author wrote it: a status has the runtime's name for it.
func imageOf(pod *corev1.Pod, status corev1.ContainerStatus) string {
	for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if container.Name == status.Name {
			return container.Image
		}
	}
	for _, container := range pod.Spec.EphemeralContainers {
		if container.Name == status.Name {
			return container.Image
		}
	}
	return status.Image
}

// take adds what events tell about the pull. Kubelets before 1.30 report a waiting container's error nowhere else.
func (p *Pull) take(events []corev1.Event) {
	prefix := "Failed to pull image " + quote(p.Image) + ": "
	for _, event := range events {
		begins := event.Reason == "Pulling" && strings.HasSuffix(event.Message, "Pulling image "+quote(p.Image))
		if at := lastSeen(event); begins && at.After(p.BeganAt) {
			p.BeganAt = at
		}
		if event.Reason != "Failed" || !strings.Contains(event.Message, prefix) {
			continue
		}
		p.Failures += seen(event)
		if at := lastSeen(event); at.After(p.FailedAt) {
			p.FailedAt = at
			_, message, _ := strings.Cut(event.Message, prefix)
			if classify(Pull{Image: p.Image, Error: p.Error, Waiting: p.Waiting}) == unknown {
				p.Error = message
			}
		}
	}
}

// seen returns how often the event has happened.
func seen(event corev1.Event) int {
	if event.Series != nil {
		return int(max(event.Series.Count, event.Count, 1))
	}
	return int(max(event.Count, 1))
}

func lastSeen(event corev1.Event) time.Time {
	switch {
	case event.Series != nil && !event.Series.LastObservedTime.IsZero():
		return event.Series.LastObservedTime.UTC()
	case !event.LastTimestamp.IsZero():
		return event.LastTimestamp.UTC()
	default:
		return event.EventTime.UTC()
	}
}

// ReadNamespace reads a Namespace.
func ReadNamespace(namespace *corev1.Namespace) Namespace {
	return Namespace{OptedOut: optedOut(namespace.Labels), Labels: pullsecret.PackLabels(namespace.Labels)}
}

// ReadAccount reads a ServiceAccount; nil if it does not exist.
func ReadAccount(account *corev1.ServiceAccount) Account {
	if account == nil {
		return Account{}
	}
	return Account{Found: true, OptedOut: optedOut(account.Labels), Entries: names(account.ImagePullSecrets)}
}

func optedOut(labels map[string]string) bool {
	return pullsecret.OptOutOf(labels) == pullsecret.OptedOut
}

func names(entries []corev1.LocalObjectReference) (names []string) {
	for _, entry := range entries {
		names = append(names, entry.Name)
	}
	return names
}

// ReadSecret reads a Secret. Of its credentials only a checksum is kept.
func ReadSecret(secret *corev1.Secret) Secret {
	read := Secret{Name: secret.Name, Type: string(secret.Type)}
	var err error
	switch {
	case secret.Type == corev1.SecretTypeDockerConfigJson && len(secret.Data[corev1.DockerConfigJsonKey]) > 0:
		read.Sum = sum(secret.Data[corev1.DockerConfigJsonKey])
		read.Servers, err = Read(secret.Data[corev1.DockerConfigJsonKey])
	case secret.Type == corev1.SecretTypeDockercfg && len(secret.Data[corev1.DockerConfigKey]) > 0:
		read.Servers, err = ReadLegacy(secret.Data[corev1.DockerConfigKey])
	}
	if err != nil {
		read.Problem = err.Error()
	}
	read.Updated = secret.CreationTimestamp.UTC()
	for _, managed := range secret.ManagedFields {
		if managed.Time != nil && managed.Time.After(read.Updated) {
			read.Updated = managed.Time.UTC()
		}
	}
	return read
}

// ReadIssuer reads an ImagePullSecret from the point of view of a pod, in a namespace with these labels. The Secret that it refers
// to is in seen, if it was read. Of its credential only a checksum is kept.
func ReadIssuer(object *v1.ImagePullSecret, seen credential.Seen, pod Pod, labels pullsecret.Labels) Issuer {
	read := Issuer{Name: object.Name, Secret: pullsecret.SecretName(object.Name)}
	for _, failure := range object.Status.Failures {
		if strings.HasPrefix(failure.NamespacedName, pod.Namespace+"/") {
			read.Failures = append(read.Failures, failure)
		}
	}
	rule, errs := pullsecret.Parse(object)
	if len(errs) > 0 {
		read.Invalid = errs.ToAggregate().Error()
		for _, server := range append([]string{object.Spec.Docker.Server}, object.Spec.Docker.AdditionalServers...) {
			if server != "" && !strings.Contains(server, "@") {
				read.Servers = append(read.Servers, server)
			}
		}
		return read
	}
	if rule = seen.Supply(rule); rule.Known() {
		read.Sum = hex.EncodeToString(rule.Sum[:])
	}
	if rule.Reference != "" {
		source := seen.Name(rule.Reference)
		read.Source = "secret " + source.String()
		if read.Unread = told(object, source, rule.Known()); rule.Unread != nil {
			read.Unread = rule.Unread.Message
		}
	}
	read.Servers, read.Pods = rule.Servers, rule.Pods
	if rule.Registry != nil {
		read.Registry, read.NotIssued = rule.Registry.ID, NotIssued(object)
		if read.DomainUnknown = !rule.Reachable(); read.DomainUnknown {
			read.Servers = rule.Registry.Additional
		}
	}
	read.Refused, read.ExpiresAt = refusedOf(object), endOf(object, rule)
	selected, known := rule.Namespaces.Selects(pod.Namespace, labels)
	read.Namespace, read.LabelsUnseen = selected, !known
	read.Excluded = slices.Contains(object.Spec.ExcludedNamespaces, v1.NamespaceName(pod.Namespace))
	read.Selector = selectorText(object.Spec.NamespaceSelector)
	read.Account = rule.ServiceAccounts.Matches(pod.Account)
	return read
}

// refusedOf returns what a registry answered the manager, if it refused the credential that is issued now.
func refusedOf(object *v1.ImagePullSecret) string {
	condition := meta.FindStatusCondition(object.Status.Conditions, v1.ConditionCredentialValid)
	if condition == nil || condition.Status != metav1.ConditionFalse || !credential.Stands(object.Status, object.Generation) {
		return ""
	}
	return condition.Message
}

// endOf returns when the credential of an object expires: according to the credential itself, or else
// according to the manager.
func endOf(object *v1.ImagePullSecret, rule *pullsecret.Rule) time.Time {
	known := object.Status.Credential
	if ends := rule.Ends(); !ends.IsZero() || known == nil || known.ExpiresAt == nil || object.Status.ObservedGeneration != object.Generation {
		return ends
	}
	return known.ExpiresAt.UTC()
}

// NotIssued returns why the cloud does not issue or renew the credential of an object, according to the manager; blank if it does.
func NotIssued(object *v1.ImagePullSecret) string {
	issued := meta.FindStatusCondition(object.Status.Conditions, v1.ConditionCredentialIssued)
	if object.Spec.TCR == nil || issued == nil || issued.Status != metav1.ConditionFalse || issued.ObservedGeneration != object.Generation {
		return ""
	}
	return issued.Message
}

// told returns why the manager cannot read the Secret that an object refers to, according to its status. If the Secret could be read
// here, only a missing permission of the manager counts.
func told(object *v1.ImagePullSecret, source types.NamespacedName, read bool) string {
	for _, failure := range object.Status.Failures {
		if failure.NamespacedName == source.Namespace+"/*" || !read && failure.NamespacedName == source.String() {
			return failure.Message
		}
	}
	return ""
}

// selectorText writes a selector as kubectl does.
func selectorText(selector *v1.LabelSelector) string {
	if selector == nil {
		return ""
	}
	written := metav1.LabelSelector{MatchLabels: map[string]string{}}
	for key, value := range selector.MatchLabels {
		written.MatchLabels[key] = string(value)
	}
	for _, one := range selector.MatchExpressions {
		requirement := metav1.LabelSelectorRequirement{Key: string(one.Key), Operator: metav1.LabelSelectorOperator(one.Operator)}
		for _, value := range one.Values {
			requirement.Values = append(requirement.Values, string(value))
		}
		written.MatchExpressions = append(written.MatchExpressions, requirement)
	}
	return metav1.FormatLabelSelector(&written)
}
