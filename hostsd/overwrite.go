//go:build linux

package hostsd

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// overwrite writes next over the content of the file, if that still is old. f.temp must hold next. From the first byte written until the
// last is on disk and read back, f.backup holds old and f.temp next, so that recover can finish what a crash interrupts.
func (f file) overwrite(old, next []byte) error {
	if err := writeNew(f.backup, old, func(*os.File) error { return nil }); err != nil {
		f.discard()
		return err
	}
	if err := syncDir(filepath.Dir(f.path)); err != nil {
		f.discard()
		return err
	}
	w, err := openExclusive(f.path)
	if err != nil {
		f.discard()
		return err
	}
	defer w.Close()
	if now, err := (snapshot{file: w}).read(); err != nil || !bytes.Equal(now, old) {
		f.discard()
		return errors.Join(err, ErrBusy)
	}
	// Reserves the blocks, so that a full disk shows before the first byte is written. If the file system cannot reserve, the write below
	// fails instead.
	err = unix.Fallocate(int(w.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, int64(len(next)))
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		f.discard()
		return err
	}
	if err := setContent(w, next); err != nil {
		if now, read := (snapshot{file: w}).read(); read == nil && !bytes.Equal(now, next) && !torn(now, old, next) {
			f.discard()
			return ErrBusy // another program has written it since: that stays
		}
		if undo := setContent(w, old); undo != nil {
			return errors.Join(err, fmt.Errorf("restoring the content: %w", undo)) // both copies stay for recover
		}
		f.discard()
		return err
	}
	f.discard()
	return syncDir(filepath.Dir(f.path))
}

// openExclusive opens the file for reading and writing. Programs that have it open get a moment to close it. Those that open it later wait
// until it is closed here, and so never read half a file. A program that keeps it open does not prevent the write: it may only read. (A
// file that is a mount is never held exclusively: the mount itself holds it.)
func openExclusive(path string) (*os.File, error) {
	for range 20 {
		w, err := openToWrite(path)
		if err != nil {
			return nil, err
		}
		if _, err := lease(w, unix.F_WRLCK); err == nil {
			return w, nil
		}
		_ = w.Close() // nothing was written
		time.Sleep(5 * time.Millisecond)
	}
	return openToWrite(path)
}

func openToWrite(path string) (*os.File, error) {
	w, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, ErrBusy // another program has a lease on it
	}
	return w, err
}

// setContent writes content over the whole file and reads it back. It is one write: shorter content is padded with newlines, which are then
// cut off, so that in between the file is content and blank lines.
func setContent(w *os.File, content []byte) error {
	info, err := w.Stat()
	if err != nil {
		return err
	}
	if _, err := w.WriteAt(pad(content, int(info.Size())), 0); err != nil {
		return err
	}
	if err := w.Truncate(int64(len(content))); err != nil {
		return err
	}
	if err := w.Sync(); err != nil {
		return err
	}
	if now, err := (snapshot{file: w}).read(); err != nil || !bytes.Equal(now, content) {
		return errors.Join(err, errors.New("what was read back is not what was written"))
	}
	return nil
}

func pad(content []byte, size int) []byte {
	if len(content) >= size {
		return content
	}
	return append(bytes.Clone(content), bytes.Repeat([]byte("\n"), size-len(content))...)
}

// discard removes what a write needs beside the file.
func (f file) discard() {
	_ = os.Remove(f.backup) // first: without it recover does nothing
	_ = os.Remove(f.temp)
}

// recover finishes a write that a crash interrupted, and removes what it left. The caller holds the folder's lock, so no write is under
// way.
func (f file) recover() error {
	old, err := os.ReadFile(f.backup)
	if errors.Is(err, fs.ErrNotExist) {
		err = os.Remove(f.temp)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EROFS) {
			return nil
		}
		return err
	} else if err != nil {
		return err
	}
	next, err := os.ReadFile(f.temp)
	if errors.Is(err, fs.ErrNotExist) {
		return os.Remove(f.backup) // the write had not begun
	} else if err != nil {
		return err
	}
	now, err := os.ReadFile(f.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !bytes.Equal(now, old) && !bytes.Equal(now, next) && torn(now, old, next) {
		w, err := openExclusive(f.path)
		if err != nil {
			return err
		}
		defer w.Close()
		if err := setContent(w, next); err != nil {
			return err
		}
	}
	f.discard()
	return nil
}

// torn reports whether now may be what a crash left of writing next over old: each byte is from one of the two. Anything else was written
// by another program since.
func torn(now, old, next []byte) bool {
	if len(now) < min(len(old), len(next)) || len(now) > max(len(old), len(next)) {
		return false
	}
	next = pad(next, len(old))
	for i, b := range now {
		if next[i] != b && (i >= len(old) || old[i] != b) {
			return false
		}
	}
	return true
}
