//go:build linux

package hostsd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// stuck is how long a pass may take before the process counts as stuck, as on a file system
// that no longer answers. A pass waits for other writers for seconds at most.
const stuck = time.Minute

// Handler serves /metrics; LinesPath; /healthz, which fails only if a pass hangs; and /readyz, which says why the hosts file is not as
// configured, and fails if that is because of the configuration: it is the same on all nodes, and a rollout that cannot read it must not go
// on. A hosts file that cannot be written concerns one node alone, and must not stop the rollout to the others. A restart helps with
// neither, so neither affects /healthz.
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
	mux.HandleFunc("GET "+LinesPath, d.serveLines)
	return mux
}

// serveLines serves what a resolver takes from the hosts file now. It answers one request at a time, since callers are not authenticated.
func (d *Daemon) serveLines(w http.ResponseWriter, _ *http.Request) {
	if !d.reading.TryLock() {
		http.Error(w, "another request is being answered: try again", http.StatusServiceUnavailable)
		return
	}
	lines, err := d.lines()
	d.reading.Unlock()
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(lines) // on an error the caller is gone
}

// want records what the hosts file should hold.
func (d *Daemon) want(entries []Entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wanted = entries
}

// lines reads the hosts file as it is now. A missing file has no lines.
func (d *Daemon) lines() (Lines, error) {
	d.mu.Lock()
	wanted, passes := d.wanted, d.passes
	d.mu.Unlock()
	if passes == 0 {
		return Lines{}, errNoPass
	}
	path, err := followLinks(d.opts.HostsFile)
	if err != nil {
		return Lines{}, err
	}
	file, _, err := openHosts(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Lines{Lines: []Line{}}, nil
	} else if err != nil {
		return Lines{}, fmt.Errorf("reading %s: %w", path, err)
	}
	defer file.Close()
	return ReadLines(io.LimitReader(file, maxFile), wanted)
}

var errNoPass = errors.New("no pass has ended yet")

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

// ready returns what is wrong with the hosts file, and the error that makes the daemon not ready.
func (d *Daemon) ready() (degraded, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.passes == 0 {
		return nil, errNoPass
	}
	return d.errs[partFile], d.errs[partConfig]
}
