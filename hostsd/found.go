//go:build linux

package hostsd

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Tell makes the daemon use data, nil for nothing, as what was found, instead of the mounted file, which is updated later.
func (d *Daemon) Tell(data []byte) { d.tell(&data, false) }

// Lose says that there will be no more calls of Tell for now: what was told last counts until the mounted file changes.
func (d *Daemon) Lose() {
	d.mu.Lock()
	told := d.told
	d.mu.Unlock()
	d.tell(told, true)
}

// Forget makes the daemon use the mounted file again.
func (d *Daemon) Forget() { d.tell(nil, false) }

func (d *Daemon) tell(told *[]byte, lost bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told, d.lost, d.left = told, lost, nil
	select {
	case d.wake <- struct{}{}:
	default: // a wake-up is pending
	}
}

// Finds reports whether a file of what was found is mounted.
func (d *Daemon) Finds() bool {
	_, err := os.Stat(filepath.Join(d.opts.Config, DiscoveredFile))
	return err == nil
}

// readFound reads what was found, if anything. There is nothing if the configuration is a plain file.
func (d *Daemon) readFound() (changed bool, err error) {
	path := filepath.Join(d.opts.Config, DiscoveredFile)
	data, err := d.foundNow(path)
	if err != nil {
		return false, fmt.Errorf("reading what was found: %w", err)
	}
	if d.foundOnce && (data == nil) == (d.foundData == nil) && bytes.Equal(data, d.foundData) {
		return false, nil
	}
	found := Config{}
	if data != nil {
		if found, err = ParseDiscovered(data, d.opts.NodeNames...); err != nil {
			return false, fmt.Errorf("parsing what was found: %s %w", path, err)
		}
	}
	if !d.foundOnce && data == nil {
		d.foundOnce = true // not logged: there may be nothing
		return true, nil
	}
	d.found, d.foundData, d.foundOnce = found, data, true
	d.opts.Log.Info("read what was found", "config", path, "entries", len(found.Entries), "refused", len(found.Refused))
	d.logRefused(path, found.Refused)
	return true, nil
}

// desired returns the entries that file should hold. Until what was found was read once, file's own entries stay for domains that the
// configuration does not mention: the manager may have found them.
func (d *Daemon) desired(file []byte) []Entry {
	config := d.effective
	if !d.foundOnce {
		config = config.Keeping(file)
	}
	return config.Desired(file)
}

// foundNow returns what was found; nil if nothing was.
func (d *Daemon) foundNow(path string) ([]byte, error) {
	mounted, err := readMounted(path)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.told == nil:
		return mounted, err
	case !d.lost || err != nil:
		return *d.told, nil
	case d.left == nil:
		d.left = &mounted
	case !bytes.Equal(mounted, *d.left):
		d.told = nil
		return mounted, nil
	}
	return *d.told, nil
}

// readMounted returns the mounted file of what was found; nil if there is none.
func readMounted(path string) ([]byte, error) {
	if !isDir(filepath.Dir(path)) {
		return nil, nil
	}
	data, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// noteOverruled keeps the found entries that the configuration overrules, and logs new ones.
func (d *Daemon) noteOverruled(overruled []Entry) {
	for _, e := range overruled {
		if !slices.Contains(d.overruled, e) {
			d.opts.Log.Warn("configuration overruled what was found", "domain", e.domain, "found", e.addr)
		}
	}
	d.overruled = overruled
	d.metrics.overruled.Set(float64(len(overruled)))
}
