package chaos

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

var (
	seeds    = flag.String("seeds", "1,2,3", "what to play: seeds, and ranges of them such as 10-20")
	duration = flag.Duration("duration", 30*time.Second, "how long there are faults, for each seed")
	built    = flag.String("binary", "", "the controller-manager to play with; empty builds it")
	keep     = flag.String("keep", "", "folder in which what led to a failure is kept")
)

func TestChaosEndsInTheExactStateAndSilence(t *testing.T) {
	numbers, err := parseSeeds(*seeds)
	require.NoError(t, err)
	binary := *built
	if binary == "" {
		binary, err = manager.Build(t.Context(), t.TempDir(), "controller-manager")
		require.NoError(t, err)
	}
	for _, seed := range numbers {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, binary) // what one seed leaves behind is not held against another
			o, err := play(context.WithoutCancel(t.Context()), *w, t.TempDir(), seed, *duration)
			t.Logf("seed %d: %d steps in %d rounds; %s; the end state stood after %s at most", seed, o.steps, o.rounds, o.hostility,
				o.slowest.Round(time.Millisecond))
			if err != nil || len(o.found) > 0 {
				report(t, w.cluster, seed, o, err)
			}
		})
	}
}

func report(t *testing.T, c *cluster.Cluster, seed uint64, o outcome, err error) {
	t.Helper()
	t.Logf("what was done last:\n%s", o.journal.tail(80))
	// At the end, where it is seen even by who sees only that.
	t.Errorf("seed %d (make chaos SEED=%d DURATION=%s) found:\n%s\n%v", seed, seed, *duration, strings.Join(o.found, "\n"), err)
	if *keep == "" {
		return
	}
	dir := filepath.Join(*keep, fmt.Sprint("seed-", seed))
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.CopyFS(dir, os.DirFS(c.LogDir())))
	o.logs["journal.log"] = o.journal.all()
	o.logs["found.txt"] = fmt.Sprintf("%s\n%s\n%v\n", o.hostility, strings.Join(o.found, "\n"), err)
	for name, text := range o.logs {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
}

// newWorld starts a control plane on which objects can become invalid: nothing asks the webhook about them, and the CRD does
// not check their spec. So it was while no manager ran, or before an upgrade of the CRD.
func newWorld(t *testing.T, binary string) *world {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	crds, err := manager.CRDs(ctx)
	require.NoError(t, err)
	c, err := cluster.Start(ctx, cluster.Options{
		Log: io.Discard, CRDs: []string{crds}, APIServerArgs: []string{"--disable-admission-plugins=ValidatingAdmissionWebhook"},
	})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Stop()) })
	w := &world{cluster: c, binary: binary}
	w.client, err = kubernetes.NewForConfig(c.RESTConfig())
	require.NoError(t, err)
	client, err := rest.HTTPClientFor(c.RESTConfig())
	require.NoError(t, err)
	w.objects, err = typed.NewClient(c.RESTConfig(), client)
	require.NoError(t, err)
	require.NoError(t, manager.Install(ctx, c))
	require.NoError(t, acceptAnySpec(ctx, w))
	return w
}

// acceptAnySpec takes the rules of the spec out of the CRD, and waits until the API server goes by that.
func acceptAnySpec(ctx context.Context, w *world) error {
	if err := manager.AcceptAnySpec(ctx, w.cluster); err != nil {
		return err
	}
	u := &user{client: w.client, objects: w.objects}
	name, spec := "trial", newScript(0).spec(source(0, "trial"), "trial")
	spec.Namespaces = unreadable
	if err := u.createObject(ctx, name, spec); err != nil {
		return err
	}
	return u.deleteObject(ctx, name)
}

// parseSeeds reads seeds and ranges of them, separated by commas.
func parseSeeds(text string) ([]uint64, error) {
	var seeds []uint64
	for _, part := range strings.Split(text, ",") {
		from, to, ranged := strings.Cut(part, "-")
		if !ranged {
			to = from
		}
		first, err := strconv.ParseUint(from, 10, 64)
		if err != nil {
			return nil, err
		}
		last, err := strconv.ParseUint(to, 10, 64)
		if err != nil {
			return nil, err
		}
		for seed := first; seed <= last; seed++ {
			seeds = append(seeds, seed)
		}
	}
	return seeds, nil
}

// The same seed must draw the same, or a failure could not be repeated.
func TestASeedDrawsTheSameAgain(t *testing.T) {
	first, second, other := newScript(7), newScript(7), newScript(8)
	differing := 0
	for range 500 {
		step := first.next()
		again := second.next()
		require.Equal(t, step.what, again.what)
		require.Equal(t, step.pause, again.pause)
		if other.next().what != step.what {
			differing++
		}
	}
	assert.Greater(t, differing, 250, "another seed draws something else")
	faults := map[fault]int{}
	for n := range 500 {
		asked := request{replica: "A", method: "PATCH", path: "/api/v1/namespaces/a/serviceaccounts/default", count: n}
		f := newHostility(7).fault(7, asked)
		require.Equal(t, f, newHostility(7).fault(7, asked))
		require.Equal(t, newHostility(7).reach(7, n), newHostility(7).reach(7, n))
		faults[f]++
	}
	assert.Greater(t, len(faults), 10, "there are faults of several kinds")
}
