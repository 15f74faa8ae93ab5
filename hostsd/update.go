//go:build linux

package hostsd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Mode is the way a hosts file was written.
type Mode string

const (
	// Rename replaces the old file with a complete new one, atomically.
	Rename Mode = "rename"
	// InPlace overwrites the file's content. It is used if the file itself is a mount, which nothing can be renamed onto, or has attributes
	// that a new file cannot be given.
	InPlace Mode = "in_place"
)

// Change is what Update found and what it wrote.
type Change struct {
	Old, New []byte
	Mode     Mode // empty if Old and New are equal, and nothing was written
	// LostLinks counts the other hard links of the replaced file. They still have the old content.
	LostLinks uint64
}

// ErrBusy says that other writers left no moment in which the file could be replaced without
// losing what they write. Nothing was changed; try again later.
var ErrBusy = errors.New("other programs keep writing to the file")

// maxFile is the maximum size of a hosts file, in bytes. Resolvers read the whole file for every name, so a file beyond this is a fault,
// not a configuration.
const maxFile = 16 << 20

// busyFor is how long Update waits for other writers and for another instance of itself.
const busyFor = 3 * time.Second

// quietFor is how long a file must be unchanged before it is replaced, if the file system cannot tell whether it is open.
const quietFor = 20 * time.Millisecond

// quietForEmpty is the same for an empty file. A program that rewrites a file truncates it first, and on a busy machine may be descheduled
// in between: what it then wrote into the replaced file would be lost.
const quietForEmpty = time.Second

// Update replaces the content of the hosts file at path with edit(content), unless they are equal. A missing file counts as empty, and is
// created with mode 0644 if there is anything to write.
//
// At every moment the file holds either the old or the new content, even if the process or the machine dies. It keeps its mode, owner and
// extended attributes. What other programs write meanwhile is not lost: the new file takes the old one's place only while the old one is
// what edit saw and nobody has it open for writing. Several processes may call Update on one file. On an error the file is as it was.
//
// If the file has to be written in place (see InPlace), a reader may see a half-written file for an instant, and a crash in that instant is
// repaired by the next Update.
//
// A symbolic link is followed, and stays, if it leads to a file below the folder of path.
func Update(ctx context.Context, path string, edit func([]byte) []byte) (Change, error) {
	target, err := followLinks(path)
	if err != nil {
		return Change{}, err
	}
	unlock, err := lockDir(ctx, filepath.Dir(target))
	if err != nil {
		return Change{}, fmt.Errorf("locking %s: %w", filepath.Dir(target), err)
	}
	defer unlock()

	f := newFile(target)
	if err := f.recover(); err != nil {
		return Change{}, fmt.Errorf("repairing %s after an interrupted write: %w", target, err)
	}
	change, err := f.updateWhenQuiet(ctx, edit)
	if err != nil {
		return Change{}, fmt.Errorf("updating %s: %w", target, explain(target, err))
	}
	return change, nil
}

// file is a hosts file and the two names beside it that a write may need. The holder of the folder's lock owns both names, so no leftovers
// can pile up.
type file struct {
	path   string
	temp   string // the complete new content
	backup string // the complete old content, while the file is written in place
}

func newFile(path string) file {
	hidden := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	return file{path: path, temp: hidden + ".tcr-new", backup: hidden + ".tcr-backup"}
}

var (
	errHeldOpen   = fmt.Errorf("%w: one has it open", ErrBusy)
	errNoRename   = errors.New("nothing can be renamed onto the file")
	errAttributes = errors.New("a new file cannot be given the old one's attributes")
)

func (f file) updateWhenQuiet(ctx context.Context, edit func([]byte) []byte) (Change, error) {
	var first []byte
	quiet := true // every attempt so far saw the same content
	start := time.Now()
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		change, err := f.update(edit, false)
		if !errors.Is(err, ErrBusy) {
			return change, err
		}
		if first == nil {
			first = change.Old
		}
		quiet = quiet && errors.Is(err, errHeldOpen) && bytes.Equal(first, change.Old)
		if time.Since(start) > busyFor {
			if quiet { // held open by a program that does not write: it must keep the same file
				return f.update(edit, true)
			}
			return Change{}, err
		}
		select {
		case <-ctx.Done():
			return Change{}, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// update tries once. Its Change has Old even with an error.
func (f file) update(edit func([]byte) []byte, inPlace bool) (Change, error) {
	old, err := openSnapshot(f.path)
	if err != nil {
		return Change{}, err
	}
	defer old.close()
	change := Change{Old: old.content, New: edit(old.content)}
	if bytes.Equal(change.Old, change.New) {
		return change, nil
	}
	change.Mode = Rename
	err = f.writeTemp(change.New, old)
	if err == nil && !inPlace {
		err = f.replace(old)
	}
	if inPlace || errors.Is(err, errNoRename) || errors.Is(err, errAttributes) {
		change.Mode = InPlace
		err = f.overwrite(old.content, change.New)
	}
	if err == nil && change.Mode == Rename && !old.missing() {
		change.LostLinks = old.otherNames()
	}
	return change, err
}

// snapshot is a file as it was read. A missing file has no handle.
type snapshot struct {
	file    *os.File
	info    fs.FileInfo
	content []byte
}

func openSnapshot(path string) (snapshot, error) {
	f, info, err := openHosts(path)
	if errors.Is(err, fs.ErrNotExist) {
		return snapshot{}, nil
	} else if err != nil {
		return snapshot{}, err
	}
	s := snapshot{file: f, info: info}
	if s.content, err = s.read(); err != nil {
		s.close()
		return snapshot{}, err
	}
	return s, nil
}

// openHosts opens a hosts file for reading. It refuses anything but a regular file of at most maxFile bytes.
func openHosts(path string) (*os.File, fs.FileInfo, error) {
	// Not blocking: to open a FIFO would block until a program writes to it.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil {
		switch {
		case !info.Mode().IsRegular():
			err = fmt.Errorf("it is not a regular file but %s: check the path of the hosts file", info.Mode().Type())
		case info.Size() > maxFile:
			err = fmt.Errorf("it has %d bytes, but a hosts file has at most %d: find out what wrote it", info.Size(), maxFile)
		}
	}
	if err != nil {
		_ = f.Close() // nothing was read from it
		return nil, nil, err
	}
	return f, info, nil
}

func (s snapshot) missing() bool { return s.file == nil }

// otherNames returns how many hard links the file still has after its own name was taken by another file.
func (s snapshot) otherNames() uint64 {
	var st unix.Stat_t
	if unix.Fstat(int(s.file.Fd()), &st) != nil {
		return 0
	}
	return uint64(st.Nlink) //nolint:unconvert // it is narrower on arm64
}

func (s snapshot) close() {
	if s.file != nil {
		_ = s.file.Close() // only read from; this also ends a lease
	}
}

func (s snapshot) read() ([]byte, error) {
	return io.ReadAll(io.NewSectionReader(s.file, 0, maxFile+1))
}

// at reports whether the snapshot's file is still at path and was not written since it was read. To compare the content alone is not
// enough: a program may have truncated it once more.
func (s snapshot) at(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || !os.SameFile(info, s.info) || !info.ModTime().Equal(s.info.ModTime()) {
		return false
	}
	now, err := s.read()
	return err == nil && bytes.Equal(now, s.content)
}

// explain adds what to do about errors that are common on nodes.
func explain(path string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, unix.EROFS):
		hint = "mount the node's /etc without readOnly, or check why its file system is read-only"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		hint = "free space on the node's root file system"
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		hint = "run as root and let the security policy write to the node's /etc"
		var st unix.Statx_t
		if unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, 0, &st) == nil {
			if st.Attributes&unix.STATX_ATTR_IMMUTABLE != 0 {
				hint = "it is immutable: run chattr -i on the node"
			} else if st.Attributes&unix.STATX_ATTR_APPEND != 0 {
				hint = "it is append-only: run chattr -a on the node"
			}
		}
	default:
		return err
	}
	return fmt.Errorf("%w (%s)", err, hint)
}

// followLinks returns the file that path leads to. Links are resolved as on the node: if path is <root>/etc/hosts, an absolute link starts
// at <root>, not at this container's root.
func followLinks(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("resolving %s: %w", path, err)
	}
	root := ""
	if r, ok := strings.CutSuffix(path, "/etc/hosts"); ok {
		root = r
	}
	folder := filepath.Dir(path)
	target := path
	for range 10 {
		link, err := os.Readlink(target)
		if err != nil { // not a link, or missing: the caller reads it
			return target, insideFolder(folder, target)
		}
		if filepath.IsAbs(link) {
			target = filepath.Join(root, link)
		} else {
			target = filepath.Join(filepath.Dir(target), link)
		}
		if !strings.HasPrefix(target, strings.TrimSuffix(folder, "/")+"/") {
			return "", fmt.Errorf("following the symbolic link %s: it leads to %s, outside of %s: make it a file, or point --hosts-file at the "+
				"file itself", path, link, folder)
		}
	}
	return "", fmt.Errorf("following the symbolic link %s: it leads to more than 10 others", path)
}

// insideFolder returns an error if the target's own folder, once links are resolved, is outside of folder.
func insideFolder(folder, target string) error {
	if filepath.Dir(target) == folder {
		return nil
	}
	real, err := filepath.EvalSymlinks(filepath.Dir(target))
	if err != nil {
		return fmt.Errorf("following a symbolic link to %s: %w", target, err)
	}
	if base, err := filepath.EvalSymlinks(folder); err != nil || !strings.HasPrefix(real+"/", base+"/") {
		return fmt.Errorf("following a symbolic link to %s: its folder is %s, outside of %s: make it a file, or point --hosts-file at the file "+
			"itself", target, real, folder)
	}
	return nil
}

// lockDir locks the folder against other calls of Update. The lock is on the folder itself, so it leaves no file behind and ends with the
// process.
func lockDir(ctx context.Context, dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	unlock = func() { _ = d.Close() }
	for start := time.Now(); ; {
		err = unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil, errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EBADF), errors.Is(err, unix.ENOLCK), errors.Is(err, unix.ENOSYS):
			return unlock, nil // some network file systems cannot lock a folder
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			unlock()
			return nil, err
		case time.Since(start) > busyFor:
			unlock()
			return nil, fmt.Errorf("another program has held the lock for %s: %w", busyFor, ErrBusy)
		}
		select {
		case <-ctx.Done():
			unlock()
			return nil, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Cleanup removes all our lines from the hosts file at path, and returns how many there were.
func Cleanup(ctx context.Context, path string) (removed int, err error) {
	change, err := Update(ctx, path, func(file []byte) []byte { return Edit(file, nil) })
	return len(Owned(change.Old)), err
}
