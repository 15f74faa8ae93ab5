package cluster

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// hang bounds waits for what takes a second: it ends a hang and measures nothing.
const hang = time.Minute

func TestCluster(t *testing.T) {
	c := StartT(t, Options{Dir: t.TempDir(), CRDs: []string{"../../../deploy/chart/crds"}})

	t.Run("kinds are served before the controller manager's first request", func(t *testing.T) { testCRDs(t, c) })
	t.Run("a namespace gets its default service account", func(t *testing.T) {
		createNamespace(t, c, "born")
		eventually(t, hasDefaultServiceAccount(c, "born"))
	})
	t.Run("what an owner owns goes with it", func(t *testing.T) { testGarbageCollection(t, c) })
	t.Run("kubectl meets the version that was asked for", func(t *testing.T) { testKubectl(t, c) })
	t.Run("kubectl's refusals are in its error", func(t *testing.T) {
		_, stderr, err := c.Kubectl(t.Context(), "get", "namespace", "nowhere")
		require.ErrorContains(t, err, `running kubectl get namespace nowhere: exit status 1`)
		require.ErrorContains(t, err, `namespaces "nowhere" not found`)
		assert.Contains(t, stderr, "NotFound")
	})
	t.Run("another identity is who its kubeconfig says, and may do less", func(t *testing.T) { testIdentity(t, c) })
	t.Run("the audit log shows a request once it is answered", func(t *testing.T) { testAudit(t, c) })
	t.Run("a watch is one request, running until it ends", func(t *testing.T) { testAuditOfWatch(t, c) })
	t.Run("the API server comes back with its address and its data", func(t *testing.T) { testOutage(t, c) })
	t.Run("the controller manager restarts with other flags", func(t *testing.T) { testControllerManager(t, c) })
	t.Run("a second cluster runs beside it and ends without a trace", func(t *testing.T) { testSecondCluster(t, c) })
	t.Run("a cluster stops with its context", testContext)
	t.Run("logs of a failed test are kept, and a component's own end fails it", testKeepLogs)
}

func testCRDs(t *testing.T, c *Cluster) {
	first, err := c.Requests(func(r Request) bool { return r.User == "system:kube-controller-manager" })
	require.NoError(t, err)
	require.NotEmpty(t, first)
	created, err := c.Requests(func(r Request) bool { return r.Resource == "customresourcedefinitions" && r.Verb == "create" })
	require.NoError(t, err)
	require.NotEmpty(t, created)
	for _, request := range created {
		assert.True(t, request.Answered.Before(first[0].Received), "%s came later", request.Name)
	}
	_, stderr, err := c.Kubectl(t.Context(), "get", "imagepullsecrets")
	require.NoError(t, err)
	assert.Contains(t, stderr, "No resources found")
}

func testGarbageCollection(t *testing.T, c *Cluster) {
	maps := clientOf(t, c).CoreV1().ConfigMaps("default")
	owner, err := maps.Create(t.Context(), configMap("owner"), metav1.CreateOptions{})
	require.NoError(t, err)
	owned := configMap("owned")
	owned.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID}}
	_, err = maps.Create(t.Context(), owned, metav1.CreateOptions{})
	require.NoError(t, err)

	require.NoError(t, maps.Delete(t.Context(), owner.Name, metav1.DeleteOptions{}))
	eventually(t, func() bool {
		_, err := maps.Get(context.Background(), owned.Name, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}

func testKubectl(t *testing.T, c *Cluster) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	stdout, stderr, err := c.Kubectl(t.Context(), "version", "--output=json")
	require.NoError(t, err)
	assert.Empty(t, stderr)
	var answer struct{ ClientVersion, ServerVersion struct{ GitVersion string } }
	require.NoError(t, json.Unmarshal([]byte(stdout), &answer))
	assert.Equal(t, "v1.36.3", answer.ServerVersion.GitVersion)
	assert.Equal(t, "v1.36.3", answer.ClientVersion.GitVersion)
	assert.Equal(t, "v1.36.3", c.Version())

	_, _, err = c.Kubectl(t.Context(), "get", "namespaces")
	require.NoError(t, err)
	left, err := os.ReadDir(home)
	require.NoError(t, err)
	assert.Empty(t, left, "what kubectl wrote to the user's home")
}

func testIdentity(t *testing.T, c *Cluster) {
	path, err := c.KubeconfigFor("jane", "developers", "testers")
	require.NoError(t, err)
	stdout, _, err := c.Kubectl(t.Context(), "--kubeconfig="+path, "auth", "whoami", "--output=json")
	require.NoError(t, err)
	var review struct {
		Status struct {
			UserInfo struct {
				Username string
				Groups   []string
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &review))
	assert.Equal(t, "jane", review.Status.UserInfo.Username)
	assert.ElementsMatch(t, []string{"developers", "testers", "system:authenticated"}, review.Status.UserInfo.Groups)

	_, _, err = c.Kubectl(t.Context(), "--kubeconfig="+path, "get", "secrets")
	require.ErrorContains(t, err, `User "jane" cannot list resource "secrets"`)
}

func testAudit(t *testing.T, c *Cluster) {
	began := time.Now().Add(-time.Second) // the log's times are cut to microseconds
	config := c.RESTConfig()
	config.UserAgent = "audit-test"
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	_, err = client.CoreV1().ServiceAccounts("default").CreateToken(t.Context(), "nobody", &authenticationv1.TokenRequest{},
		metav1.CreateOptions{})
	require.Error(t, err)
	_, err = client.CoreV1().ConfigMaps("default").Create(t.Context(), configMap("audited"), metav1.CreateOptions{})
	require.NoError(t, err)

	requests, err := c.Requests(func(r Request) bool { return r.UserAgent == "audit-test" })
	require.NoError(t, err)
	for i := range requests {
		assert.WithinRange(t, requests[i].Received, began, time.Now())
		assert.WithinRange(t, requests[i].Answered, requests[i].Received, time.Now())
		requests[i].Received, requests[i].Answered = time.Time{}, time.Time{}
	}
	assert.Equal(t, []Request{{
		User: "kubernetes-admin", UserAgent: "audit-test", Verb: "create", URI: "/api/v1/namespaces/default/serviceaccounts/nobody/token",
		Resource: "serviceaccounts", Subresource: "token", Namespace: "default", Name: "nobody", Code: 404,
	}, {
		User: "kubernetes-admin", UserAgent: "audit-test", Verb: "create", URI: "/api/v1/namespaces/default/configmaps",
		Resource: "configmaps", Namespace: "default", Name: "audited", Code: 201,
	}}, requests)
}

func testAuditOfWatch(t *testing.T, c *Cluster) {
	config := c.RESTConfig()
	config.UserAgent = "watch-test"
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	watches := func() []Request {
		requests, err := c.Requests(func(r Request) bool { return r.UserAgent == "watch-test" })
		require.NoError(t, err)
		return requests
	}
	watch, err := client.CoreV1().ConfigMaps("").Watch(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, watches(), 1)
	assert.Equal(t, "watch", watches()[0].Verb)
	assert.True(t, watches()[0].Running)

	watch.Stop()
	eventually(t, func() bool { all := watches(); return len(all) == 1 && !all[0].Running })
}

func testOutage(t *testing.T, c *Cluster) {
	client := clientOf(t, c)
	_, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), configMap("lasting"), metav1.CreateOptions{})
	require.NoError(t, err)
	require.NoError(t, c.StopAPIServer())
	_, err = client.CoreV1().ConfigMaps("default").Get(t.Context(), "lasting", metav1.GetOptions{})
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.NoError(t, c.StopAPIServer(), "stopping again")

	require.NoError(t, c.StartAPIServer(t.Context()))
	_, err = client.CoreV1().ConfigMaps("default").Get(t.Context(), "lasting", metav1.GetOptions{})
	require.NoError(t, err)
	require.ErrorContains(t, c.StartAPIServer(t.Context()), "starting kube-apiserver: it runs already")
	createNamespace(t, c, "born-after-the-outage")
	eventually(t, hasDefaultServiceAccount(c, "born-after-the-outage"))
}

func testControllerManager(t *testing.T, c *Cluster) {
	client := clientOf(t, c)
	require.NoError(t, c.RestartControllerManager(t.Context(), "--controllers=*,-serviceaccount-controller"))
	createNamespace(t, c, "unattended")
	eventually(t, func() bool { // then the others are at work
		_, err := client.CoreV1().ConfigMaps("unattended").Get(context.Background(), "kube-root-ca.crt", metav1.GetOptions{})
		return err == nil
	})
	assert.False(t, hasDefaultServiceAccount(c, "unattended")())

	require.NoError(t, c.RestartControllerManager(t.Context()))
	eventually(t, hasDefaultServiceAccount(c, "unattended"))
}

func testSecondCluster(t *testing.T, first *Cluster) {
	dir := t.TempDir()
	second, err := Start(t.Context(), Options{Dir: dir})
	require.NoError(t, err)
	t.Cleanup(func() { _ = second.Stop() })
	createNamespace(t, second, "only-in-the-second")
	eventually(t, hasDefaultServiceAccount(second, "only-in-the-second"))
	_, err = clientOf(t, first).CoreV1().Namespaces().Get(t.Context(), "only-in-the-second", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "the first cluster answered %v", err)

	pids := []int{second.etcd.Pid(), second.apiServer.Pid(), second.controllerManager.Pid()}
	require.NoError(t, second.Stop())
	for _, pid := range pids {
		assert.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH, "process %d", pid)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
	require.NoError(t, second.Stop(), "stopping again")
	require.ErrorIs(t, second.StartAPIServer(t.Context()), errStopped)
}

func testContext(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	c, err := Start(ctx, Options{Dir: dir})
	require.NoError(t, err)
	pid := c.etcd.Pid()
	cancel()
	eventually(t, func() bool {
		left, err := os.ReadDir(dir)
		return err == nil && len(left) == 0
	})
	assert.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
}

func TestStartNamesTheComponentThatFails(t *testing.T) {
	dir := t.TempDir()
	_, err := Start(t.Context(), Options{Dir: dir, APIServerArgs: []string{"--no-such-flag"}})
	require.ErrorContains(t, err, "starting a control plane: kube-apiserver ended by itself: exit status 1; ")
	require.ErrorContains(t, err, "unknown flag: --no-such-flag")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
}

// failing is a test that fails, as StartT sees it; it fails no real one.
type failing struct {
	testing.TB
	errors   []any
	logged   []any
	cleanups []func()
}

func (f *failing) Failed() bool               { return len(f.errors) > 0 }
func (f *failing) Error(args ...any)          { f.errors = append(f.errors, args...) }
func (f *failing) Logf(_ string, args ...any) { f.logged = append(f.logged, args...) }
func (f *failing) Cleanup(clean func())       { f.cleanups = append(f.cleanups, clean) }

func testKeepLogs(t *testing.T) {
	scratch := t.TempDir()
	t.Setenv("TMPDIR", t.TempDir()) // where logs are kept
	f := &failing{TB: t}
	c := StartT(f, Options{Dir: scratch})
	t.Cleanup(func() { _ = c.Stop() })
	require.NoError(t, syscall.Kill(c.controllerManager.Pid(), syscall.SIGTERM))
	<-c.controllerManager.Ended()
	require.Len(t, f.cleanups, 1)
	f.cleanups[0]()

	require.Len(t, f.errors, 1)
	assert.ErrorContains(t, f.errors[0].(error), "stopping kube-controller-manager: it had ended by itself: ")
	require.Len(t, f.logged, 1)
	for _, name := range []string{"etcd.log", "kube-apiserver.log", "kube-controller-manager.log", "audit.log"} {
		text, err := os.ReadFile(filepath.Join(f.logged[0].(string), name))
		require.NoError(t, err)
		assert.NotEmpty(t, text, name)
	}
	left, err := os.ReadDir(scratch)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func clientOf(t *testing.T, c *Cluster) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(c.RESTConfig())
	require.NoError(t, err)
	return client
}

func createNamespace(t *testing.T, c *Cluster, name string) {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err := clientOf(t, c).CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{})
	require.NoError(t, err)
}

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func hasDefaultServiceAccount(c *Cluster, namespace string) func() bool {
	return func() bool {
		client, err := kubernetes.NewForConfig(c.RESTConfig())
		if err != nil {
			return false
		}
		_, err = client.CoreV1().ServiceAccounts(namespace).Get(context.Background(), "default", metav1.GetOptions{})
		return err == nil
	}
}

func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, hang, 20*time.Millisecond)
}
