package clientset

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

func TestNoMoreOfAnAnswerIsReadThanIsSaid(t *testing.T) {
	const body = `{"apiVersion":"v1","kind":"EventList","metadata":{"resourceVersion":"7"},"items":[]}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.Copy(w, strings.NewReader(body))
	}))
	defer server.Close()
	clients, err := New(&rest.Config{Host: server.URL}, server.Client())
	require.NoError(t, err)
	for _, c := range []struct {
		most int64
		fits bool
	}{{1, false}, {int64(len(body)) - 1, false}, {int64(len(body)), true}, {1 << 20, true}} {
		t.Run(fmt.Sprint(c.most), func(t *testing.T) {
			list, err := clients.Events("team").List(AtMost(t.Context(), c.most), metav1.ListOptions{})
			if !c.fits {
				require.ErrorIs(t, err, ErrTooLarge)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, "7", list.ResourceVersion)
		})
	}
	_, err = clients.Events("team").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err, "where nothing is said, all is read")
}
