//go:build linux

package hostsd

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// stuck is how long a pass may take before the process counts as stuck, as on a file system
// that no longer answers. A pass waits for other writers for seconds at most.
const stuck = time.Minute

// Handler serves /metrics; /healthz, which fails only if a pass does not come to its end; and
// /readyz, which tells why the hosts file is not as configured, and fails where the configuration
// is to blame: it is the same on all nodes, and an update that cannot read it must not go on. A
// hosts file that cannot be written is the node's own affair, and must not keep the other nodes
// from an update. A restart helps with neither, so both leave /healthz alone.
func (d *Daemon) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.metrics.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: 4,
		DisableCompression:  true, // a compressor needs more memory than all the rest
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, d.healthy(time.Now())) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		degraded, err := d.ready()
		if answer(w, err); err == nil && degraded != nil {
			fmt.Fprintln(w, degraded)
		}
	})
	return mux
}

func answer(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (d *Daemon) healthy(now time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.began.IsZero() && now.Sub(d.began) > stuck {
		return fmt.Errorf("a pass has not ended since %s", d.began.UTC().Format(time.RFC3339))
	}
	return nil
}

// ready returns what is wrong with the hosts file, and why the daemon is not ready.
func (d *Daemon) ready() (degraded, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.passes == 0 {
		return nil, errors.New("no pass has ended yet")
	}
	return d.errs[partFile], d.errs[partConfig]
}
