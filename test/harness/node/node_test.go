//go:build linux

package node

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/test/harness/machine"
)

const (
	hang = 2 * time.Minute
	// holdVariable makes TestNode hold its node when all runs.
	holdVariable = "TCR_ASSISTANT_TEST_HOLD_NODE"
	held         = "held with a running pod"
)

func TestMain(m *testing.M) {
	machine.Main()
	os.Exit(m.Run())
}

func TestNode(t *testing.T) {
	machine.Run(t, func(t *testing.T) {
		n, err := Start(t.Context(), os.Stderr)
		require.NoError(t, err)
		t.Cleanup(func() {
			if t.Failed() {
				dir, err := n.KeepLogs("node")
				assert.NoError(t, err)
				t.Logf("logs are kept in %s", dir)
			}
			assert.NoError(t, n.Stop())
		})
		image, err := Workload(t.Context())
		require.NoError(t, err)

		t.Run("the registry lets in whom it knows", func(t *testing.T) {
			r, err := n.StartRegistry(t.Context(), "user", "first")
			require.NoError(t, err)
			require.NoError(t, r.Push(t.Context(), "docker/app:1", image, "user", "first"))
			require.Error(t, r.Push(t.Context(), "docker/app:2", image, "user", "second"))
			require.NoError(t, r.SetPassword("user", "second"))
			for password, want := range map[string]int{"first": http.StatusUnauthorized, "second": http.StatusOK} {
				status, err := r.Login(t.Context(), "user", password)
				require.NoError(t, err)
				assert.Equal(t, want, status)
			}
		})
		t.Run("a pod runs, and runs again after a crash", func(t *testing.T) {
			require.NoError(t, n.Import(t.Context(), "local.invalid/app:1", image))
			pods := n.client.CoreV1().Pods("default")
			var pod *corev1.Pod
			require.Eventually(t, func() bool { // once its service account is there
				pod, err = pods.Create(t.Context(), &corev1.Pod{
					ObjectMeta: metav1.ObjectMeta{Name: "local"},
					Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "local.invalid/app:1"}}},
				}, metav1.CreateOptions{})
				return err == nil
			}, hang, 100*time.Millisecond)
			running := func() bool {
				pod, err = pods.Get(t.Context(), "local", metav1.GetOptions{})
				return err == nil && pod.Status.Phase == corev1.PodRunning && pod.Status.ContainerStatuses[0].Ready
			}
			require.Eventually(t, running, hang, 100*time.Millisecond)
			first := pod.Status.ContainerStatuses[0].ContainerID
			used, err := UsageOf(first)
			require.NoError(t, err)
			assert.Positive(t, used.MemoryPeak)
			assert.Positive(t, used.CPU)
			if os.Getenv(holdVariable) != "" {
				fmt.Println(held)
				select {}
			}

			require.NoError(t, n.Crash())
			require.NoError(t, n.Boot(t.Context()))
			require.Eventually(t, func() bool {
				return running() && pod.Status.ContainerStatuses[0].ContainerID != first
			}, hang, 100*time.Millisecond)
		})
	})
}

func TestNothingIsLeftOfANodeWhoseTestIsKilled(t *testing.T) {
	machine.Alone(t)
	before, err := machine.Look()
	require.NoError(t, err)
	test := exec.Command(os.Args[0], "-test.run=^TestNode$", "-test.v")
	test.Env = append(os.Environ(), holdVariable+"=1")
	output, err := test.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, test.Start())
	lines := bufio.NewReader(output)
	for line := ""; line != held+"\n"; {
		line, err = lines.ReadString('\n')
		require.NoError(t, err)
	}
	during, err := machine.Look()
	require.NoError(t, err)
	assert.Greater(t, len(during.Since(before)), 10, "a node is seen while it is there")
	require.NoError(t, test.Process.Kill())
	_, err = io.ReadAll(lines) // until the last process is gone that has its output
	require.NoError(t, err)
	assert.Error(t, test.Wait())
	after, err := machine.Look()
	require.NoError(t, err)
	assert.Empty(t, after.Since(before))
}

func TestStartsOnlyOnAMachineOfItsOwn(t *testing.T) {
	_, err := Start(t.Context(), io.Discard)
	require.ErrorContains(t, err, "this is not a machine of its own")
}

func TestNoNameIsKnown(t *testing.T) {
	question := dnsmessage.Question{Name: dnsmessage.MustNewName(RegistryHost + "."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	query, err := (&dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{question}}).Pack()
	require.NoError(t, err)
	packed, err := nonexistent(query)
	require.NoError(t, err)
	var answer dnsmessage.Message
	require.NoError(t, answer.Unpack(packed))
	assert.Equal(t, dnsmessage.RCodeNameError, answer.RCode)
	assert.True(t, answer.Response)
	assert.Equal(t, uint16(7), answer.ID)
	assert.Equal(t, []dnsmessage.Question{question}, answer.Questions)
	_, err = nonexistent([]byte("no query"))
	require.Error(t, err)
}
