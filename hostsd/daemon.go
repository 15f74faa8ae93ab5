//go:build linux

package hostsd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// maxConfig is the maximum size of the configuration, in bytes. A ConfigMap holds 1 MiB.
const maxConfig = 4 << 20

// Options configure a Daemon.
type Options struct {
	// Config is the configuration file, or the mounted folder that holds it as ConfigFile.
	Config string
	// HostsFile is the node's hosts file. Its whole folder must be mounted, not the file alone.
	HostsFile string
	// ResyncPeriod is the time between two passes if nothing changes. Each wait differs from it by up to a tenth.
	ResyncPeriod time.Duration
	// NodeNames are the names of this node, which no entry may have.
	NodeNames []string
	// Version is reported by a metric.
	Version string
	Log     *slog.Logger
}

// Daemon keeps one hosts file as one configuration asks. Create one with New.
type Daemon struct {
	opts    Options
	metrics *metrics

	config    *Config // the last good one, nil before it
	data      []byte  // what config was parsed from
	found     Config  // what the manager has found, in addition
	foundData []byte  // what found was parsed from
	foundOnce bool    // found was read, even if there was nothing
	effective Config  // both together
	inLine    bool    // the last pass left the file as config asks
	conflicts []Conflict
	overruled []Entry
	wake      chan struct{} // holds one element if told, or lost, has changed

	mu     sync.Mutex // guards what the probes read, and what is told
	told   *[]byte    // what was found, as passed to Tell; nil if the mounted file counts
	lost   bool       // told may be out of date
	left   *[]byte    // what was mounted at the first look after it was lost
	began  time.Time  // of the pass under way, else zero
	passes int
	errs   map[string]error // by part
	wanted []Entry          // what the hosts file should hold, as of the last pass

	reading sync.Mutex // is held while a request for the lines is answered
}

// New returns a daemon that has done nothing yet.
func New(opts Options) *Daemon {
	opts.Config, opts.HostsFile = filepath.Clean(opts.Config), filepath.Clean(opts.HostsFile)
	return &Daemon{opts: opts, metrics: newMetrics(opts.Version), errs: map[string]error{}, wake: make(chan struct{}, 1)}
}

// Report says what one pass did.
type Report struct {
	// Config is why the configuration could not be read, and the last good one stays in effect.
	Config error
	// File is why the hosts file could not be read or written, and is as it was.
	File error
	// Refused are the invalid entries of the configuration in effect.
	Refused []Refusal
	// Mode is how the hosts file was written, empty if it was not.
	Mode Mode
	// Repaired is true if the file was written although the configuration had not changed.
	Repaired bool
}

// Err joins the errors of the report.
func (r Report) Err() error { return errors.Join(r.Config, r.File) }

// Sync does one pass: it reads the configuration and brings the hosts file in line with it.
// It logs what it finds and does, each error once for as long as it lasts.
func (d *Daemon) Sync(ctx context.Context, now time.Time) Report {
	d.mu.Lock()
	d.began = now
	d.mu.Unlock()

	changed, err := d.readConfig()
	report := Report{Config: err}
	var desired []Entry
	change, err := Update(ctx, d.opts.HostsFile, func(file []byte) []byte {
		if d.config == nil { // never read: whatever lines there are stay
			desired = Owned(file)
			d.want(desired)
			return file
		}
		desired = d.desired(file)
		d.want(desired)
		return Edit(file, desired)
	})
	report.File = err
	if d.config != nil {
		report.Refused = d.effective.Refused
	}
	if err == nil {
		report.Mode = change.Mode
		report.Repaired = change.Mode != "" && d.inLine && !changed
		d.wrote(report, len(Owned(change.New)))
		if change.LostLinks > 0 {
			d.opts.Log.Warn("hosts file lost its hard links", "hostsFile", d.opts.HostsFile, "links", change.LostLinks)
		}
		d.note(Conflicts(change.New, desired))
	}
	d.inLine = err == nil && d.config != nil
	d.passed(report, now)
	return report
}

// readConfig reports whether the configuration, or what was found, has changed since the last pass.
func (d *Daemon) readConfig() (changed bool, err error) {
	changed, err = d.readFixed()
	other, wrong := d.readFound()
	if (changed || other) && d.config != nil {
		effective, overruled := d.config.With(d.found)
		d.effective = effective
		d.metrics.refused.Set(float64(len(effective.Refused)))
		d.noteOverruled(overruled)
	}
	return changed || other, errors.Join(err, wrong)
}

// readFixed reads the configuration that the user wrote.
func (d *Daemon) readFixed() (changed bool, err error) {
	path := d.opts.Config
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, ConfigFile)
	}
	data, err := readBounded(path)
	if err != nil {
		return false, fmt.Errorf("reading the configuration: %w", err)
	}
	if d.config != nil && bytes.Equal(data, d.data) {
		return false, nil
	}
	config, err := ParseConfig(data, d.opts.NodeNames...)
	if err != nil {
		return false, fmt.Errorf("parsing the configuration: %s %w", path, err)
	}
	d.config, d.data = &config, data
	d.opts.Log.Info("read configuration", "config", path, "entries", len(config.Entries), "refused", len(config.Refused))
	d.logRefused(path, config.Refused)
	return true, nil
}

func (d *Daemon) logRefused(path string, refused []Refusal) {
	for _, r := range refused {
		d.opts.Log.Warn("refused entry", "config", path, "field", r.Path, "domain", r.Domain, "line", r.Line, "reason", r.Reason)
	}
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(data) > maxConfig {
		err = fmt.Errorf("%s has more than %d bytes, and no ConfigMap does", path, maxConfig)
	}
	return data, err
}

func (d *Daemon) wrote(report Report, entries int) {
	d.metrics.entries.Set(float64(entries))
	if report.Mode == "" {
		return
	}
	d.metrics.wrote(report.Mode)
	if report.Repaired {
		d.metrics.repairs.Inc()
		d.opts.Log.Warn("repaired hosts file", "hostsFile", d.opts.HostsFile, "entries", entries, "mode", report.Mode)
		return
	}
	d.opts.Log.Info("wrote hosts file", "hostsFile", d.opts.HostsFile, "entries", entries, "mode", report.Mode)
}

// note keeps the conflicts, and logs only new ones, up to a limit: a file full of them must not flood the log.
func (d *Daemon) note(conflicts []Conflict) {
	const atMost = 20
	type key struct{ domain, addr string }
	known := map[key]bool{}
	for _, c := range d.conflicts {
		known[key{c.Domain, c.Addr.String()}] = true
	}
	logged := 0
	for _, c := range conflicts {
		if k := (key{c.Domain, c.Addr.String()}); !known[k] && logged < atMost {
			known[k] = true
			logged++
			d.opts.Log.Warn("found conflicting line", "hostsFile", d.opts.HostsFile, "line", c.Line, "domain", c.Domain, "ip", c.Addr)
		}
	}
	d.conflicts = conflicts
	d.metrics.conflicts.Set(float64(len(conflicts)))
}

// passed records the outcome of a pass. An error is logged when it appears, when it changes, and when it is gone.
func (d *Daemon) passed(report Report, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.began = time.Time{}
	d.passes++
	leftConfig := "kept last good configuration"
	if d.config == nil {
		leftConfig = "read no configuration"
	}
	for _, part := range []struct {
		name, left, healed string
		err                error
	}{
		{partConfig, leftConfig, "configuration is readable again", report.Config},
		{partFile, "left hosts file as it was", "hosts file is writable again", report.File},
	} {
		last := d.errs[part.name]
		switch {
		case errors.Is(part.err, context.Canceled): // the process ends
		case part.err != nil && (last == nil || last.Error() != part.err.Error()):
			d.opts.Log.Error(part.left, "error", part.err)
		case part.err == nil && last != nil:
			d.opts.Log.Info(part.healed)
		}
		d.errs[part.name] = part.err
		d.metrics.passed(part.name, part.err)
	}
	if report.Err() == nil {
		d.metrics.lastSuccess.Set(float64(now.UnixMilli()) / 1000)
	}
}

// Run does a pass at once, when the configuration or the hosts file changes, and every Options.ResyncPeriod, until the context ends. It
// leaves the lines in place, since an upgrade ends it, too. No fault of either file ends it.
func (d *Daemon) Run(ctx context.Context) {
	d.opts.Log.Info("started", "config", d.opts.Config, "hostsFile", d.opts.HostsFile, "version", d.opts.Version)
	w := newWatch(d.opts)
	defer w.close()
	p := repairBackoff{resync: d.opts.ResyncPeriod}
	for ctx.Err() == nil {
		w.refresh(d.opts.Log) // before the pass, so that no change falls between the two
		report := d.Sync(ctx, time.Now())
		due := p.passed(time.Now(), report.Err() != nil, report.Repaired, rand.Float64())
		if poll := time.Now().Add(pollPeriod); !w.complete() && poll.Before(due) {
			due = poll
		}
		w.wait(ctx, &p, due, d.wake)
	}
	d.opts.Log.Info("stopped", "hostsFile", d.opts.HostsFile)
}

// NodeNames returns the names of the node whose hosts file is given: the host name in the file "hostname" beside it, and those that this
// process knows from its environment. It may return none.
func NodeNames(hostsFile string) []string {
	var names []string
	if name, err := os.ReadFile(filepath.Join(filepath.Dir(hostsFile), "hostname")); err == nil {
		names = append(names, string(name))
	}
	if name, err := os.Hostname(); err == nil { // the pod's own, unless it shares the node's network
		names = append(names, name)
	}
	return append(names, os.Getenv("NODE_NAME"))
}
