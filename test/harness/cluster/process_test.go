package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/test/harness/process"
)

// holdVariable makes the test binary start a cluster, say where, and hold it.
const holdVariable = "TCR_ASSISTANT_TEST_HOLD_CLUSTER_IN"

type held struct {
	Dir   string
	Ports []int
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(holdVariable); dir != "" {
		c, err := Start(context.Background(), Options{Dir: dir, Log: os.Stderr})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		_ = json.NewEncoder(os.Stdout).Encode(held{c.Dir(), []int{c.apiServerPort.number, c.controllerManagerPort.number}})
		select {}
	}
	os.Exit(m.Run())
}

func TestComponentsEndWithAKilledParent(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), holdVariable+"="+t.TempDir())
	parent.Stderr = os.Stderr
	stdout, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	var cluster held
	decoding := json.NewDecoder(stdout).Decode(&cluster)
	require.NoError(t, parent.Process.Kill())
	_ = parent.Wait()
	require.NoError(t, decoding)

	t.Chdir(cluster.Dir) // a socket's path is short, a test's folder need not be
	for network, addresses := range map[string][]string{
		"unix": {"etcd:2379"},
		"tcp":  {fmt.Sprintf("127.0.0.1:%d", cluster.Ports[0]), fmt.Sprintf("127.0.0.1:%d", cluster.Ports[1])},
	} {
		for _, address := range addresses {
			eventually(t, func() bool {
				connection, err := net.Dial(network, address)
				if err == nil {
					_ = connection.Close()
				}
				return errors.Is(err, syscall.ECONNREFUSED)
			})
		}
	}
}

func TestAwaitNamesTheComponentThatEnds(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "etcd.log")
	lines := strings.Repeat("echo early; ", 30) + "echo the disk is full >&2; exit 3"
	etcd, err := process.Start("/bin/sh", "etcd", dir, log, []string{"-c", lines})
	require.NoError(t, err)
	c := &Cluster{etcd: etcd}
	err = c.await(t.Context(), "nothing", func(context.Context) error { return errors.New("not yet") })
	require.EqualError(t, err, "etcd ended by itself: exit status 3; "+log+" ends with:\n"+
		strings.Repeat("early\n", 19)+"the disk is full")
	assert.EqualError(t, etcd.Stop(), "stopping etcd: it had ended by itself: exit status 3")
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	err := (&Cluster{}).await(ctx, "nothing", func(context.Context) error { return errors.New("not yet") })
	require.EqualError(t, err, "waiting for nothing: enough; the last answer was: not yet")
}

func TestPortsAreKept(t *testing.T) {
	p, err := reservePort()
	require.NoError(t, err)
	address := fmt.Sprintf("127.0.0.1:%d", p.number)
	_, err = net.Listen("tcp", address)
	require.ErrorIs(t, err, syscall.EADDRINUSE, "somebody else got the port")
	_, err = net.Dial("tcp", address)
	require.ErrorIs(t, err, syscall.ECONNREFUSED, "the reservation itself listens")
	require.NoError(t, p.release())
	listener, err := net.Listen("tcp", address)
	require.NoError(t, err)
	require.NoError(t, listener.Close())
}
