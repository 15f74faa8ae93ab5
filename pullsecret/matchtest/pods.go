package matchtest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// PodCase is one pod, the ImagePullSecrets that exist, and what the pod lists once it is created.
type PodCase struct {
	Name string
	// Rules are the ImagePullSecrets.
	Rules []*v1.ImagePullSecret
	// Labels are the namespace's.
	Labels map[string]string
	// Account is the pod's.
	Account *corev1.ServiceAccount
	Pod     *corev1.Pod
	// Has is what the pod lists when it is created, Want what it lists afterwards, in order.
	Has, Want []string
}

// podCase is a PodCase in the form of the table.
type podCase struct {
	Name           string
	Rules          map[string]string
	Servers        map[string][]string
	Selectors      map[string]*v1.LabelSelector
	Excluded       map[string][]v1.NamespaceName
	Pod            string
	Labels         map[string]string
	Account        map[string]string
	Annotations    map[string]string
	PodLabels      map[string]string
	PodAnnotations map[string]string
	Images         []string
	Init           []string
	Volumes        []string
	Has            []string
	Want           []string
}

// PodCases returns the cases of test/cases/pods.yaml. The names of their ImagePullSecrets begin with prefix and the number of the case,
// so that all of them can exist side by side. Several cases may use the same names of namespaces.
func PodCases(prefix string) ([]PodCase, error) {
	var file struct{ Cases []podCase }
	if err := read("pods.yaml", &file); err != nil {
		return nil, err
	}
	cases := make([]PodCase, len(file.Cases))
	for i, read := range file.Cases {
		named := func(rule string) string { return fmt.Sprintf("%s%02d-%s", prefix, i, rule) }
		c, err := read.made(named)
		if err != nil {
			return nil, fmt.Errorf("reading the pod case %q: %w", read.Name, err)
		}
		cases[i] = c
	}
	return cases, nil
}

func (read *podCase) made(named func(rule string) string) (PodCase, error) {
	c := PodCase{Name: read.Name}
	for name, text := range read.Rules {
		fields := strings.Split(text, "|")
		if len(fields) != 3 {
			return c, fmt.Errorf("rule %s must be \"namespaces | serviceAccounts | pods\"", name)
		}
		docker := v1.DockerCredential{Username: "robot", Password: "password", Server: named(name) + ".example.com"}
		if servers := read.Servers[name]; len(servers) > 0 {
			docker.Server = servers[0]
			docker.AdditionalServers = servers[1:]
		}
		c.Rules = append(c.Rules, &v1.ImagePullSecret{
			ObjectMeta: metav1.ObjectMeta{Name: named(name)},
			Spec: v1.ImagePullSecretSpec{
				Namespaces: list(fields[0]), ServiceAccounts: list(fields[1]), Pods: strings.TrimSpace(list(fields[2])),
				NamespaceSelector: read.Selectors[name], ExcludedNamespaces: read.Excluded[name], Docker: docker,
			},
		})
	}
	namespace, account, found := strings.Cut(read.Pod, "/")
	if !found {
		return c, fmt.Errorf("pod must be \"namespace/account\"")
	}
	c.Labels = map[string]string{corev1.LabelMetadataName: namespace} // as every namespace has it
	maps.Copy(c.Labels, read.Labels)
	c.Account = &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: account, Labels: read.Account,
		Annotations: read.Annotations}}
	c.Pod = read.pod(namespace, account, named)
	for _, reference := range c.Pod.Spec.ImagePullSecrets {
		c.Has = append(c.Has, reference.Name)
	}
	if read.Annotations != nil { // otherwise the API server would refuse the pod because of what it lists itself
		c.Account.ImagePullSecrets = c.Pod.Spec.ImagePullSecrets
	}
	c.Want = slices.Clone(c.Has)
	for _, rule := range read.Want {
		c.Want = append(c.Want, pullsecret.SecretName(named(rule)))
	}
	return c, nil
}

func (read *podCase) pod(namespace, account string, named func(rule string) string) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "pod-", Labels: read.PodLabels, Annotations: read.PodAnnotations},
		Spec:       corev1.PodSpec{ServiceAccountName: account},
	}
	image := func(text string) string {
		for name := range read.Rules {
			text = strings.Replace(text, "rule:"+name, named(name)+".example.com", 1)
		}
		return text
	}
	for i, text := range read.Images {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: fmt.Sprint("c", i), Image: image(text)})
	}
	for i, text := range read.Init {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: fmt.Sprint("i", i), Image: image(text)})
	}
	for i, text := range read.Volumes {
		source := corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: image(text)}}
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: fmt.Sprint("v", i), VolumeSource: source})
	}
	for _, entry := range read.Has {
		if rule, ours := strings.CutPrefix(entry, "rule:"); ours {
			entry = pullsecret.SecretName(named(rule))
		}
		pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: entry})
	}
	return pod
}
