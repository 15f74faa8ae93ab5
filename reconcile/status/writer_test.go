package status

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/informer"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

func TestAStatusGivesWayToSecretsForAWhile(t *testing.T) {
	busy := true
	w := NewWriter(Config{Busy: func() bool { return busy }})
	t.Cleanup(w.Stop)
	since := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	w.pending["r"] = since
	assert.False(t, w.yields("r", since), "a few cost little")
	for i := range unyielding {
		w.pending[fmt.Sprint(i)] = since
	}
	w.pending["r"] = since
	assert.True(t, w.yields("r", since.Add(maxYield-time.Second)))
	assert.Contains(t, w.pending, "r", "it is not enqueued anew meanwhile")
	assert.False(t, w.yields("r", since.Add(maxYield)), "not for ever")
	assert.NotContains(t, w.pending, "r")
	w.pending["r"] = since
	busy = false
	assert.False(t, w.yields("r", since))
}

func TestThoseThatGiveWayAreNotGoneThroughMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, gone, began := 0, 0, time.Now()
		w := NewWriter(Config{
			Index: pullsecret.NewIndex(), Informer: informer.New(slog.New(slog.DiscardHandler), nil, pullsecret.NewIndex()),
			Busy: func() bool { asked++; return time.Now().Before(began.Add(10 * time.Second)) }, Gone: func(string) { gone++ },
		})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { w.Run(ctx) })
		for i := range 1000 {
			w.Enqueue(fmt.Sprint("r", i))
		}
		time.Sleep(9 * time.Second)
		synctest.Wait()
		assert.Zero(t, gone)
		assert.LessOrEqual(t, asked, int(9*time.Second/yieldDelay))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		assert.Equal(t, 1000, gone, "none is left out")
		cancel()
		w.Stop()
		running.Wait()
	})
}

func TestWhatIsRefusedOfOneNameCostsNoLookAtTheOthers(t *testing.T) {
	index := pullsecret.NewIndex()
	objects := make([]*v1.ImagePullSecret, 1000)
	for i := range objects {
		objects[i] = &v1.ImagePullSecret{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("r", i)}}
	}
	index.Replace(objects)
	w := NewWriter(Config{Index: index})
	t.Cleanup(w.Stop)
	refusal := errors.New("no")
	cost := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w.Withheld("tcr.ipsr7", refusal)
			w.Withheld("tcr.ipsr7", nil)
		}
	})
	assert.Less(t, cost.AllocedBytesPerOp(), int64(8<<10), "thousands are refused at once")
	w.Withheld("tcr.ipsgone", refusal)
	assert.Contains(t, w.pending, "r7")
	assert.Len(t, w.pending, 1)
	w.Answered(plan.WatchRequest{Verb: "list", Resource: "namespaces"}, apierrors.NewForbidden(corev1.Resource("namespaces"), "", nil))
	assert.Len(t, w.pending, 1000, "what all need concerns all")
}
