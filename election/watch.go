package election

import (
	"context"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"

	"github.com/tcr-assistant/tcr-assistant/clientset"
)

// watch takes in the Lease whenever it changes, until ctx ends.
func (c *Candidate) watch(ctx context.Context) {
	cache.NewReflectorWithOptions(clientset.Named(c.leases, c.meta.Name), &coordinationv1.Lease{}, store{c}, cache.ReflectorOptions{
		Name:    c.meta.Name,
		Backoff: &wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 6, Cap: period},
	}).RunWithContext(ctx)
}

// store is where the watch's news go.
type store struct{ *Candidate }

func (s store) Add(lease any) error    { s.see(lease.(*coordinationv1.Lease)); return nil }
func (s store) Update(lease any) error { return s.Add(lease) }
func (s store) Resync() error          { return nil }

// Delete is told of the version at which it was deleted.
func (s store) Delete(lease any) error {
	return s.Replace(nil, lease.(*coordinationv1.Lease).ResourceVersion)
}

// Replace takes in that this is all there is at that version.
func (s store) Replace(leases []any, version string) error {
	if len(leases) > 0 {
		return s.Add(leases[0])
	}
	s.put(func(seen sighting) sighting { return seen.without(parseVersion(version), time.Now()) })
	return nil
}
