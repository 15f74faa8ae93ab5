package derived

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// TestNothingIsStoredBeforeItIsKnownWhoIsBarred holds that what is stored does not cease to serve pods at the beginning of a term.
func TestNothingIsStoredBeforeItIsKnownWhoIsBarred(t *testing.T) {
	awaiting := func(t *testing.T, pods string) (index *pullsecret.Index, ended func() bool) {
		index = pullsecret.NewIndex()
		index.Put(&v1.ImagePullSecret{
			ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "1", Generation: 1},
			Spec:       v1.ImagePullSecretSpec{Pods: pods, Docker: v1.DockerCredential{Username: "u", Password: "p", Server: "s"}},
		})
		k := NewKeeper(slog.New(slog.DiscardHandler), nil, index, nil, nil)
		stop, done := index.ObserveBarred(k.poke), make(chan struct{})
		go func() {
			defer close(done)
			defer stop()
			k.awaitBarred(t.Context())
		}()
		return index, func() bool {
			synctest.Wait()
			select {
			case <-done:
				return true
			default:
				return false
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		index, ended := awaiting(t, v1.PodsAll)
		assert.False(t, ended())
		index.BarExactly(nil)
		assert.True(t, ended(), "nobody is barred, and that is known")
	})
	synctest.Test(t, func(t *testing.T) {
		_, ended := awaiting(t, v1.PodsAll)
		time.Sleep(patience - time.Second)
		assert.False(t, ended())
		time.Sleep(time.Second)
		assert.True(t, ended(), "accounts may not be listed: the rest is not held up for long")
	})
	synctest.Test(t, func(t *testing.T) {
		_, ended := awaiting(t, v1.PodsNever)
		assert.True(t, ended(), "nobody asks for it")
	})
}
