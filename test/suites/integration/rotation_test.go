package integration

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/registry"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
	standin "github.com/tcr-assistant/tcr-assistant/test/harness/tencentcloud"
)

// image is what is pulled.
const image = vpcDomain + "/team/app:1"

// rotation is some ImagePullSecrets whose tokens are rotated, and somebody who pulls with every Secret of them.
type rotation struct {
	*world
	cloud    *suite.Cloud
	registry *registry.Registry
	objects  []*v1.ImagePullSecret

	mu     sync.Mutex
	seen   map[string]map[suite.Login]bool // what the Secrets of an object have held
	pulled int
	wrong  []string
}

// startRegistry starts the registry of a cloud with an image in it.
func (w *world) startRegistry(cloud *suite.Cloud) *registry.Registry {
	w.T.Helper()
	var filled atomic.Bool
	r, err := registry.Start(w.Ctx, registry.Options{
		Dir: w.T.TempDir(), Hosts: []string{suite.RegistryDomain, vpcDomain},
		Grants: func(user, password string) (registry.Grant, bool) {
			return registry.Grant{User: user, Repositories: []string{registry.Everything}},
				cloud.Check(user, password) || user == "filler" && !filled.Load()
		},
	})
	require.NoError(w.T, err)
	w.T.Cleanup(func() { assert.NoError(w.T, r.Stop()) })
	content, err := random.Image(1000, 2)
	require.NoError(w.T, err)
	require.NoError(w.T, r.Push(w.Ctx, image, content, "filler", "x"))
	filled.Store(true)
	return r
}

// pull pulls with each Secret in turn until ctx ends.
func (r *rotation) pull(ctx context.Context) {
	for ctx.Err() == nil {
		secrets, err := r.Client.CoreV1().Secrets("").List(ctx, metav1.ListOptions{
			FieldSelector: "type=" + string(corev1.SecretTypeDockerConfigJson),
		})
		if err != nil {
			r.note(ctx, "listing Secrets: %v", err)
			continue
		}
		for i := range secrets.Items {
			secret := &secrets.Items[i]
			login, err := suite.LoginOf(secret, vpcDomain)
			if err == nil {
				err = r.registry.Pull(ctx, image, login.Username, login.Password)
			}
			if err != nil {
				r.note(ctx, "%s/%s: %v", secret.Namespace, secret.Name, err)
			}
			r.mu.Lock()
			r.pulled++
			if r.seen[secret.Name] == nil {
				r.seen[secret.Name] = map[suite.Login]bool{}
			}
			r.seen[secret.Name][login] = true
			r.mu.Unlock()
		}
		for _, object := range r.objects {
			if live := r.cloud.Live(object); live > 2 {
				r.note(ctx, "%s has %d tokens that let somebody in", object.Name, live)
			}
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// note keeps what is wrong, unless it is that the test ends.
func (r *rotation) note(ctx context.Context, format string, values ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() == nil {
		r.wrong = append(r.wrong, fmt.Sprintf(format, values...))
	}
}

// rotated returns how often a token was replaced by another, of all objects, and of the one with the fewest.
func (r *rotation) rotated() (all, least int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	least = 1 << 10
	for _, object := range r.objects {
		rotations := len(r.seen["tcr.ips"+object.Name]) - 1
		all, least = all+rotations, min(least, rotations)
	}
	return all, least
}

// until waits until every object has been through so many rotations.
func (r *rotation) until(rotations int) {
	r.T.Helper()
	r.Within(10*time.Minute, fmt.Sprintf("each object has been through %d rotations", rotations), func() error {
		if _, least := r.rotated(); least < rotations {
			return fmt.Errorf("one has been through %d", least)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		require.Empty(r.T, r.wrong)
		return nil
	})
}

// midway returns once some Secret has a token that others do not have yet.
func (r *rotation) midway() {
	r.T.Helper()
	watcher, err := r.Client.CoreV1().Secrets("").Watch(r.Ctx, metav1.ListOptions{
		FieldSelector: "type=" + string(corev1.SecretTypeDockerConfigJson),
	})
	require.NoError(r.T, err)
	defer watcher.Stop()
	for {
		select {
		case event := <-watcher.ResultChan():
			if event.Type == watch.Modified {
				return
			}
		case <-time.After(r.Hang):
			require.Fail(r.T, "no Secret is written")
		}
	}
}

// createInVain kills whoever creates the next token before it hears of it, and returns that token.
func (r *rotation) createInVain(kill func()) standin.Token {
	r.T.Helper()
	killed := make(chan struct{})
	r.cloud.Fail("CreateInstanceToken", 1, standin.Failure{Lost: true, Then: func() { kill(); close(killed) }})
	select {
	case <-killed:
	case <-time.After(r.Hang):
		require.Fail(r.T, "no token was created anew")
	}
	tokens := r.cloud.Tokens(suite.RegistryID)
	return tokens[len(tokens)-1]
}

// TestNobodyIsRefusedWhileTokensAreRotated goes through twenty rotations, four of each of five objects side by side. The registry's
// tokens are good for 80 seconds, so that each is replaced after 40; the one before is disabled 15 seconds after that, and deleted 30
// seconds later. Two leaders are killed: between a token's creation and its storage, and while Secrets are written. A follower takes over
// once their Lease has run out.
func TestNobodyIsRefusedWhileTokensAreRotated(t *testing.T) {
	t.Parallel()
	const objects, rotations, namespaces = 5, 4, 6
	w := newWorld(t)
	cloud := w.StartCloud(func(registry *standin.Registry) { registry.Lifetime = 80 * time.Second })
	r := &rotation{world: w, cloud: cloud, registry: w.startRegistry(cloud), seen: map[string]map[suite.Login]bool{}}
	for i := range namespaces {
		w.Namespace(fmt.Sprintf("team-%d", i))
	}
	leader := w.run(cloud.Args...)
	follower := w.StartManager(manager.Options{Binary: binary, Args: cloud.Args})
	for i := range objects {
		r.objects = append(r.objects, w.Create(fmt.Sprintf("rotated-%d", i), suite.OfRegistry(func(instance *v1.RegistryInstance) {
			instance.RotateAfter = "1m"
		})))
	}
	for _, object := range r.objects {
		w.ready(object.Name, "Complete")
	}
	ctx, stop := context.WithCancel(w.Ctx)
	var pulling sync.WaitGroup
	pulling.Go(func() { r.pull(ctx) })
	defer pulling.Wait()
	defer stop()
	kill := func() {
		assert.NoError(t, leader.Kill())
		leader = follower
	}

	orphan := r.createInVain(kill)
	follower = w.StartManager(manager.Options{Binary: binary, Args: cloud.Args})
	w.Eventually("what was created and not stored is deleted", func() error {
		for _, token := range cloud.Tokens(suite.RegistryID) {
			if token.ID == orphan.ID {
				return fmt.Errorf("it is there, enabled: %t", token.Enabled)
			}
		}
		return nil
	})
	r.until(rotations / 2)
	r.midway()
	kill()
	follower = w.StartManager(manager.Options{Binary: binary, Args: cloud.Args})
	r.until(rotations)
	stop()
	pulling.Wait()
	all, _ := r.rotated()
	t.Logf("%d pulls during %d rotations", r.pulled, all)
	assert.GreaterOrEqual(t, all, objects*rotations)
	assert.Empty(t, r.wrong)

	last, err := w.Login("default", r.objects[0].Name, vpcDomain)
	require.NoError(t, err)
	require.NoError(t, r.registry.Pull(w.Ctx, image, last.Username, last.Password))
	w.Kubectl("delete", "ipss", "--all")
	w.noTokens(cloud)
	assert.True(t, registry.Refused(r.registry.Pull(w.Ctx, image, last.Username, last.Password)), "what the object had is refused")
}
