package integration

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

// credentials are those of so many ImagePullSecrets that are told apart from whatever else a process holds.
func credentials(prefix string, number int) map[string]v1.DockerCredential {
	all := map[string]v1.DockerCredential{}
	for i := range number {
		name := fmt.Sprintf("%s-%02d", prefix, i)
		all[name] = v1.DockerCredential{Username: "robot", Password: "kept-by-the-leader-alone/" + name, Server: name + ".example.com"}
	}
	return all
}

// remembers returns the names of the credentials that are anywhere in a process' memory, as they are or encoded for a Secret.
func (w *world) remembers(m *manager.Manager, all map[string]v1.DockerCredential) map[string]bool {
	w.T.Helper()
	found := map[string]bool{}
	w.eachRegion(m, func(region []byte) {
		for name, credential := range all {
			config := pullsecret.Render(credential)
			for _, needle := range [][]byte{
				[]byte(credential.Password),
				[]byte(base64.StdEncoding.EncodeToString([]byte(credential.Username + ":" + credential.Password))),
				[]byte(base64.StdEncoding.EncodeToString(config)),
			} {
				if bytes.Contains(region, needle) {
					found[name] = true
				}
			}
		}
	})
	return found
}

// eachRegion passes on what a process may write to of its memory, region by region.
func (w *world) eachRegion(m *manager.Manager, look func(region []byte)) {
	w.T.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", m.Pid()))
	require.NoError(w.T, err)
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", m.Pid()))
	require.NoError(w.T, err)
	defer memory.Close()
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		var access string
		_, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &access)
		require.NoError(w.T, err, line)
		if !strings.HasPrefix(access, "rw") {
			continue
		}
		region := make([]byte, to-from)
		n, err := memory.ReadAt(region, int64(from))
		if err != nil && !errors.Is(err, io.EOF) && n == 0 {
			continue // it was given back meanwhile
		}
		look(region[:n])
	}
}

// TestAFollowerIsSentNoCredential reads the memory of two managers: the leader's, and that of one that does not lead.
func TestAFollowerIsSentNoCredential(t *testing.T) {
	// What is garbage stays as it is in memory until something else is written there. This has it overwritten when it is collected, so
	// that what is found is in use.
	t.Setenv("GODEBUG", "clobberfree=1")
	w := newWorld(t)
	b := newBalancer(t)
	leader := w.replica(b)
	w.behind(b, leader)
	began := time.Now()
	follower := w.replica(b)
	w.Eventually("it is ready", func() error {
		_, err := follower.Get(w.Ctx, "/readyz")
		return err
	})

	all := credentials("secret", 40)
	var entries []string
	for name, credential := range all { // the leader is asked
		w.Create(name, func(spec *v1.ImagePullSecretSpec) { spec.Docker = credential })
		entries = append(entries, pullsecret.SecretName(name))
	}
	w.derivedHolds(names(all)...)
	for name := range all {
		w.Holds("default", name)
	}
	w.behind(b, follower)
	w.Eventually("the follower has heard of them", func() error { return w.bornWith(entries) })

	t.Run("it holds no credential, and the leader holds all", func(t *testing.T) {
		assert.Empty(t, w.remembers(follower, all))
		assert.Len(t, w.remembers(leader, all), len(all), "what is looked for would be found")
	})
	t.Run("it has asked for no ImagePullSecret", func(t *testing.T) {
		asked, err := w.Requests(func(r cluster.Request) bool {
			return r.User == manager.User && r.Resource == "imagepullsecrets" && r.Verb != "patch" && !r.Received.Before(began)
		})
		require.NoError(t, err)
		assert.Empty(t, asked)
	})
	t.Run("it warns of two credentials for one server, too", func(t *testing.T) {
		encoded := `{"apiVersion":"tcr.tencentcloudcr.com/v1","kind":"ImagePullSecret","metadata":{"name":"rival"},
			"spec":{"docker":{"server":"secret-07.example.com","username":"u","password":"p"}}}`
		assert.Contains(t, w.Apply(encoded, "--dry-run=server"), `"secret-07" gives secret-07.example.com a credential too`)
	})
	t.Run("it refuses what the leader would refuse", func(t *testing.T) {
		_, err := w.IPS.Create(w.Ctx, suite.Sample("bad", suite.InNamespaces("a,A")), metav1.CreateOptions{})
		require.Error(t, err)
	})
	w.takesOver(t, leader, follower, all, entries)
}

// takesOver ends the leader, has the follower lead, and then lose that again.
func (w *world) takesOver(t *testing.T, leader, follower *manager.Manager, all map[string]v1.DockerCredential, entries []string) {
	t.Helper()
	t.Run("the first part of what is derived may be gone for a moment", func(t *testing.T) {
		require.NoError(t, leader.Kill()) // nobody restores it for now
		w.Kubectl("delete", "derivedattachments", "--all")
		require.NoError(t, w.bornWith(entries))
	})
	t.Run("admission has no gap while it becomes the leader, which then holds them", func(t *testing.T) {
		w.Eventually("it leads", func() error {
			require.NoError(t, w.bornWith(entries))
			if !strings.Contains(follower.Log(), "watches were synced") {
				return errors.New("it does not")
			}
			return nil
		})
		require.NoError(t, w.bornWith(entries))
		assert.Len(t, w.remembers(follower, all), len(all))
	})
	t.Run("one that leads no longer answers as before, and lets go of what it held", func(t *testing.T) {
		w.Kubectl("patch", "lease", "tcr-assistant-leader-election", "-n", manager.Namespace, "--type=merge", "-p",
			fmt.Sprintf(`{"spec":{"holderIdentity":"somebody","leaseDurationSeconds":3600,"renewTime":%q}}`,
				time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")))
		w.Eventually("it has lost leadership", func() error {
			require.NoError(t, w.bornWith(entries))
			if !strings.Contains(follower.Log(), "leadership ended") {
				return errors.New("it has not")
			}
			return nil
		})
		require.NoError(t, w.bornWith(entries))
		attempt := 0
		// The buffers of a connection keep what went through them last, such as the last Secrets, until something else does.
		w.Eventually("what is left is what fits into the buffers of a connection", func() error {
			attempt++
			w.Kubectl("patch", "derivedattachments", "written-by-tcr-assistant-0", "--type=merge", "-p",
				fmt.Sprintf(`{"metadata":{"annotations":{"filler":"%s%d"}}}`, strings.Repeat("x", 100_000), attempt))
			if left := w.remembers(follower, all); len(left) > len(all)/4 {
				return fmt.Errorf("%d of %d are left", len(left), len(all))
			}
			return nil
		})
	})
}

func names(all map[string]v1.DockerCredential) (names []string) {
	for name := range all {
		names = append(names, name)
	}
	return names
}

// bornWith creates an account, and returns an error where it is not born with these entries.
func (w *world) bornWith(entries []string) error {
	w.births++
	have := suite.Entries(w.account("default", fmt.Sprintf("born-%d", w.births)))
	for _, entry := range entries {
		if !pullsecret.Among(have)(entry) {
			return fmt.Errorf("it was born without %s, with %d entries of %d", entry, len(have), len(entries))
		}
	}
	return nil
}
