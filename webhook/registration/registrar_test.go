package registration

import (
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/tcr-assistant/tcr-assistant/clientset"
)

// Rules change while requests are answered: what is registered is looked at before each.
func TestPodsAreAskedAboutWhileRequestsAreAnswered(t *testing.T) {
	client, err := clientset.New(&rest.Config{Host: "127.0.0.1:1"}, http.DefaultClient)
	require.NoError(t, err)
	r := NewRegistrar(slog.New(slog.DiscardHandler), client, Template{Namespace: "n"}, nil)
	var busy sync.WaitGroup
	for i := range 4 {
		busy.Go(func() {
			for range 1000 {
				_ = r.Registered(true)
				r.AskAboutPods(func() bool { return i%2 == 1 })
			}
		})
	}
	busy.Wait()
	assert.Error(t, r.Registered(true), "nothing is known of any configuration")

	last := make(chan struct{})
	r.AskAboutPods(func() bool {
		go func() {
			r.AskAboutPods(func() bool { return true })
			close(last)
		}()
		select {
		case <-last:
			t.Error("what is older was taken for the newest")
		case <-time.After(50 * time.Millisecond):
		}
		return false
	})
	<-last
	assert.Len(t, r.rendered().Mutating(nil).Webhooks, 2)
}
