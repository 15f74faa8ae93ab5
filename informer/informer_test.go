package informer

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// named returns a good ImagePullSecret of that name.
func named(name string) *v1.ImagePullSecret {
	return &v1.ImagePullSecret{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name), Generation: 1},
		Spec: v1.ImagePullSecretSpec{
			Namespaces: "x", Docker: v1.DockerCredential{Username: "robot", Password: "hidden", Server: "registry.example.com"},
		},
	}
}

func TestARelistTakesNoLiveObjectForGone(t *testing.T) {
	informer := New(slog.New(slog.DiscardHandler), nil, pullsecret.NewIndex())
	informer.replace([]*v1.ImagePullSecret{named("r")})
	missed := make(chan bool)
	done := make(chan struct{})
	go func() {
		defer close(missed)
		for {
			select {
			case <-done:
				return
			default:
				if _, found := informer.Get("r"); !found {
					missed <- true
					return
				}
			}
		}
	}()
	many := []*v1.ImagePullSecret{}
	for i := range 50 {
		many = append(many, named(fmt.Sprintf("before-%02d", i)))
	}
	many = append(many, named("r"))
	for range 300 {
		informer.replace(many)
	}
	close(done)
	require.False(t, <-missed)
}
