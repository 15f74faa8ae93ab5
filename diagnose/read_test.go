package diagnose

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// referred are the Secrets of the manager's namespace, of which nobody has looked at the others.
var referred = credential.Seen{Namespace: "system", Secrets: map[string]*corev1.Secret{
	"good": {Type: corev1.SecretTypeBasicAuth, Data: map[string][]byte{"username": []byte("robot"), "password": []byte("hush")}},
	"bad":  {Type: corev1.SecretTypeBasicAuth, Data: map[string][]byte{"username": []byte("robot:hush"), "password": []byte("hush")}},
	"gone": nil,
}}

func tells(name, reason, message string) v1.Failure {
	return v1.Failure{NamespacedName: name, Reason: reason, Message: message}
}

func refersTo(secret string) func(*v1.ImagePullSecret) {
	return func(o *v1.ImagePullSecret) {
		o.Spec.Docker.Username, o.Spec.Docker.Password, o.Spec.Docker.SecretRef = "", "", &v1.SecretReference{Name: secret}
	}
}

func TestReadIssuer(t *testing.T) {
	labelled := pullsecret.PackLabels(map[string]string{"team": "a"})
	byTeam := func(o *v1.ImagePullSecret) {
		o.Spec.Namespaces = ""
		o.Spec.NamespaceSelector = &v1.LabelSelector{MatchLabels: map[string]v1.LabelValue{"team": "a"},
			MatchExpressions: []v1.LabelRequirement{{Key: "stage", Operator: v1.OperatorNotIn, Values: []v1.LabelValue{"test"}},
				{Key: "sandbox", Operator: v1.OperatorDoesNotExist}}}
	}
	const selector = "!sandbox,stage notin (test),team=a"
	for name, c := range map[string]struct {
		edit   func(*v1.ImagePullSecret)
		labels pullsecret.Labels
		want   Issuer
	}{
		"by name":                     {want: Issuer{Namespace: true}},
		"another name":                {edit: func(o *v1.ImagePullSecret) { o.Spec.Namespaces = "other" }},
		"by labels":                   {edit: byTeam, labels: labelled, want: Issuer{Namespace: true, Selector: selector}},
		"other labels":                {edit: byTeam, labels: pullsecret.Unlabelled, want: Issuer{Selector: selector}},
		"labels that nobody has seen": {edit: byTeam, want: Issuer{LabelsUnseen: true, Selector: selector}},
		"by name, whatever labels":    {edit: func(o *v1.ImagePullSecret) { byTeam(o); o.Spec.Namespaces = "shop" }, want: Issuer{Namespace: true, Selector: selector}},
		"excluded, whatever labels":   {edit: func(o *v1.ImagePullSecret) { byTeam(o); o.Spec.ExcludedNamespaces = []v1.NamespaceName{"shop"} }, want: Issuer{Excluded: true, Selector: selector}},
		"every one but another": {edit: func(o *v1.ImagePullSecret) {
			o.Spec.Namespaces = "*"
			o.Spec.ExcludedNamespaces = []v1.NamespaceName{"other"}
		}, want: Issuer{Namespace: true}},
		"a Secret":                 {edit: refersTo("good"), want: Issuer{Namespace: true, Source: "secret system/good"}},
		"a Secret that is no good": {edit: refersTo("bad"), want: Issuer{Namespace: true, Source: "secret system/bad", Sum: "-", Unread: `secret system/bad holds a credential whose user name must not hold ":", which separates user name and password in HTTP basic authentication`}},
		"a Secret that nobody saw": {edit: refersTo("hidden"), want: Issuer{Namespace: true, Source: "secret system/hidden", Sum: "-"}},
		"one that the manager tells of": {edit: func(o *v1.ImagePullSecret) {
			refersTo("hidden")(o)
			o.Status.Failures = []v1.Failure{tells("system/hidden", "SecretMissing", "it is gone")}
		}, want: Issuer{Namespace: true, Source: "secret system/hidden", Sum: "-", Unread: "it is gone"}},
		"what it told is over": {edit: func(o *v1.ImagePullSecret) {
			refersTo("good")(o)
			o.Status.Failures = []v1.Failure{tells("system/good", "SecretMissing", "it is gone")}
		}, want: Issuer{Namespace: true, Source: "secret system/good"}},
		"the manager may not read it": {edit: func(o *v1.ImagePullSecret) {
			refersTo("good")(o)
			o.Status.Failures = []v1.Failure{tells("system/*", "Forbidden", "it may not")}
		}, want: Issuer{Namespace: true, Source: "secret system/good", Unread: "it may not"}},
	} {
		t.Run(name, func(t *testing.T) {
			object := &v1.ImagePullSecret{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Spec: v1.ImagePullSecretSpec{Namespaces: "shop",
				Docker: v1.DockerCredential{Username: "robot", Password: "hush", Server: "r.example.com", AdditionalServers: []string{"vpc.example.com"}}}}
			if c.edit != nil {
				c.edit(object)
			}
			have := ReadIssuer(object, referred, Pod{Namespace: "shop", Account: "default"}, c.labels)
			if c.want.Sum == "" {
				c.want.Sum = sum(pullsecret.Render(v1.DockerCredential{Username: "robot", Password: "hush", Server: "r.example.com",
					AdditionalServers: []string{"vpc.example.com"}}))
			} else {
				c.want.Sum = ""
			}
			c.want.Name, c.want.Secret, c.want.Account, c.want.Servers = "r", "tcr.ipsr", true, []string{"r.example.com", "vpc.example.com"}
			assert.Equal(t, c.want, have)
			printed, err := json.Marshal(have)
			require.NoError(t, err)
			assert.NotContains(t, string(printed), "hush")
		})
	}
}

func TestReadIssuerOfAnInvalidObjectTellsWhatItIsFor(t *testing.T) {
	object := &v1.ImagePullSecret{ObjectMeta: metav1.ObjectMeta{Name: "r"}}
	object.Spec.Docker.Server, object.Spec.Docker.AdditionalServers = "robot:hush@r.example.com", []string{"vpc.example.com"}
	have := ReadIssuer(object, referred, Pod{Namespace: "shop"}, pullsecret.Unlabelled)
	assert.Equal(t, []string{"vpc.example.com"}, have.Servers)
	assert.NotEmpty(t, have.Invalid)
	assert.NotContains(t, have.Invalid, "hush")
}

func TestOnlyOneValueOfTheLabelOptsOut(t *testing.T) {
	for value, want := range map[string]bool{"true": true, "false": false, "yes": false, "True": false} {
		meta := metav1.ObjectMeta{Labels: map[string]string{v1.OptOutLabel: value}}
		assert.Equal(t, want, ReadNamespace(&corev1.Namespace{ObjectMeta: meta}).OptedOut, value)
		assert.Equal(t, want, ReadAccount(&corev1.ServiceAccount{ObjectMeta: meta}).OptedOut, value)
	}
}

// waiting is a pod of one container that waits.
func waiting(image, reason, message string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image}}},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "app",
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}}},
	}
}

func TestWaitsThatAreNotForTheImage(t *testing.T) {
	for _, reason := range []string{"", "ContainerCreating", "PodInitializing", "CrashLoopBackOff", "CreateContainerConfigError",
		"CreateContainerError", "RunContainerError", "PreCreateHookError", "PreStartHookError", "PostStartHookError"} {
		assert.Empty(t, ReadPod(waiting("r.example.com/app", reason, "x"), nil).Pulls[0].Waiting, reason)
	}
	for _, reason := range []string{"ErrImagePull", "ImagePullBackOff", "ImageInspectError", "ErrImageNeverPull", "InvalidImageName",
		"RegistryUnavailable", "SignatureValidationFailed", "illegal base64 data at input byte 4"} {
		assert.Equal(t, reason, ReadPod(waiting("r.example.com/app", reason, "x"), nil).Pulls[0].Waiting)
	}
}

func TestAPodThatHasEndedWaitsForNothing(t *testing.T) {
	now := metav1.Now()
	for name, edit := range map[string]func(*corev1.Pod){
		"failed":        func(pod *corev1.Pod) { pod.Status.Phase = corev1.PodFailed },
		"succeeded":     func(pod *corev1.Pod) { pod.Status.Phase = corev1.PodSucceeded },
		"being deleted": func(pod *corev1.Pod) { pod.DeletionTimestamp = &now },
	} {
		pod := waiting("r.example.com/app", "ImagePullBackOff", "x")
		edit(pod)
		assert.Empty(t, ReadPod(pod, nil).Pulls[0].Waiting, name)
	}
}

func TestEventsTellOfThePull(t *testing.T) {
	at := metav1.Date(2026, 3, 1, 9, 59, 50, 0, time.UTC)
	failed := func(image string, count int32) corev1.Event {
		return corev1.Event{Reason: "Failed", Count: count, LastTimestamp: at, Message: `Failed to pull image "` + image + `": no such host`}
	}
	series := failed("r.example.com/app:v1", 0)
	series.LastTimestamp, series.Series = metav1.Time{}, &corev1.EventSeries{Count: 3, LastObservedTime: metav1.NewMicroTime(at.Time)}
	combined := failed("r.example.com/app:v1", 3)
	combined.Message = "(combined from similar events): " + combined.Message
	for name, c := range map[string]struct {
		image string
		event corev1.Event
		want  int
	}{
		"as it is written": {"r.example.com/app:v1", failed("r.example.com/app:v1", 3), 3},
		"of another tag":   {"r.example.com/app", failed("r.example.com/app:v1", 3), 0},
		"of a series":      {"r.example.com/app:v1", series, 3},
		"combined":         {"r.example.com/app:v1", combined, 3},
	} {
		pull := ReadPod(waiting(c.image, "ErrImagePull", "x"), []corev1.Event{c.event}).Pulls[0]
		assert.Equal(t, c.want, pull.Failures, name)
		if c.want > 0 {
			assert.Equal(t, at.UTC(), pull.FailedAt, name)
			assert.Equal(t, "no such host", pull.Error, name)
		}
	}
}

func TestEventsTellWhenAPullBegan(t *testing.T) {
	at := metav1.Date(2026, 3, 1, 9, 59, 50, 0, time.UTC)
	pulling := func(image string, seconds time.Duration) corev1.Event {
		return corev1.Event{Reason: "Pulling", LastTimestamp: metav1.NewTime(at.Add(seconds * time.Second)), Message: `Pulling image "` + image + `"`}
	}
	events := []corev1.Event{pulling("r.example.com/app:v1", 0), pulling("r.example.com/app:v1", -9), pulling("r.example.com/app", 5)}
	assert.Equal(t, at.UTC(), ReadPod(waiting("r.example.com/app:v1", "ErrImagePull", "x"), events).Pulls[0].BeganAt)
	assert.Zero(t, ReadPod(waiting("r.example.com/other", "ErrImagePull", "x"), events).Pulls[0].BeganAt)
}

func TestAVolumesImageFailsUnderTheNameOfTheContainer(t *testing.T) {
	pod := waiting("r.example.com/app:v1", "ErrImagePull", `failed to pull and unpack image "models.example.com/llm:v1": 401 Unauthorized`)
	pod.Spec.Volumes = []corev1.Volume{
		{Name: "other", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "other.example.com/x:v1"}}},
		{Name: "model", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "models.example.com/llm:v1"}}},
	}
	assert.Equal(t, "models.example.com/llm:v1", ReadPod(pod, nil).Pulls[0].Image)
	pod.Status.ContainerStatuses[0].State.Waiting.Message = `failed to pull and unpack image "r.example.com/app:v1": 401 Unauthorized`
	assert.Equal(t, "r.example.com/app:v1", ReadPod(pod, nil).Pulls[0].Image)
	pod.Status.ContainerStatuses[0].State.Waiting.Message = "401 Unauthorized"
	assert.Equal(t, "r.example.com/app:v1", ReadPod(pod, nil).Pulls[0].Image)
	told := []corev1.Event{{Reason: "Failed", Message: `Failed to pull image "models.example.com/llm:v1": 401 Unauthorized`}}
	assert.Equal(t, "models.example.com/llm:v1", ReadPod(pod, told).Pulls[0].Image, "an event says of which image it is")
}
