//go:build linux

package hostsd

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// pollPeriod is the time between two passes while the kernel cannot report changes, such as on a node that has run out of inotify
// instances.
const pollPeriod = 10 * time.Second

// watch watches the configuration and the hosts file for changes.
type watch struct {
	opts    Options
	watcher *fsnotify.Watcher // nil while there is none
	missing string            // why a change may go unnoticed, else empty
}

func newWatch(opts Options) *watch { return &watch{opts: opts} }

// refresh watches what exists now: files and folders come, go, and are replaced.
func (w *watch) refresh(log *slog.Logger) {
	missing := w.add()
	switch {
	case missing != "" && missing != w.missing:
		log.Warn("polling for changes", "period", pollPeriod, "reason", missing)
	case missing == "" && w.missing != "":
		log.Info("watching for changes again")
	}
	w.missing = missing
}

func (w *watch) add() (missing string) {
	if w.watcher == nil {
		watcher, err := fsnotify.NewWatcher()
		if err != nil {
			return fmt.Sprintf("creating an inotify instance: %v", err)
		}
		w.watcher = watcher
	}
	for _, path := range w.paths() {
		if err := w.watcher.Add(path); err != nil {
			missing = fmt.Sprintf("watching %s: %v", path, err)
		}
	}
	return missing
}

// paths returns the folders of both files, since a watch on a file does not report that it is replaced. If the hosts file is itself a
// mount, a watch on its folder does not report its changes, so the file is watched, too.
func (w *watch) paths() []string {
	paths := []string{w.configFolder(), filepath.Dir(w.opts.HostsFile)}
	target, err := followLinks(w.opts.HostsFile)
	if err != nil {
		return paths
	}
	if dir := filepath.Dir(target); dir != paths[1] {
		paths = append(paths, dir)
	}
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, target, unix.AT_SYMLINK_NOFOLLOW, 0, &st); err == nil &&
		st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		paths = append(paths, target)
	}
	return paths
}

func (w *watch) configFolder() string {
	if isDir(w.opts.Config) {
		return w.opts.Config
	}
	return filepath.Dir(w.opts.Config)
}

func isDir(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

func (w *watch) complete() bool { return w.missing == "" }

func (w *watch) close() {
	if w.watcher != nil {
		_ = w.watcher.Close() // nothing is lost with it
	}
}

// wait returns when the next pass is due: at the given time, or earlier if something changes, or something is told.
func (w *watch) wait(ctx context.Context, p *repairBackoff, due time.Time, told <-chan struct{}) {
	var events chan fsnotify.Event
	var errs chan error
	if w.watcher != nil {
		events, errs = w.watcher.Events, w.watcher.Errors
	}
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	earlier := func(t time.Time) {
		if t.Before(due) {
			due = t
			timer.Reset(time.Until(due))
		}
	}
	target, _ := followLinks(w.opts.HostsFile)
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-told:
			earlier(p.configChanged(time.Now()))
		case event := <-events:
			if w.isConfig(event.Name) {
				earlier(p.configChanged(time.Now()))
			}
			if event.Op != fsnotify.Chmod && (event.Name == w.opts.HostsFile || event.Name == target) {
				earlier(p.fileChanged(time.Now()))
			}
		case <-errs: //nolint:errcheck // such as an overflow: events are lost, so anything may have changed
			earlier(p.fileChanged(time.Now()))
		}
	}
}

// isConfig reports whether a change of the file may change the configuration. In a mounted ConfigMap, that is a swap of the link ..data.
func (w *watch) isConfig(name string) bool {
	folder := w.configFolder()
	return name == w.opts.Config || folder == w.opts.Config && filepath.Dir(name) == folder || name == filepath.Join(folder, "..data")
}
