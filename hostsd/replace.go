//go:build linux

package hostsd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// writeTemp creates f.temp, complete and on disk, with the attributes of old. With errAttributes the file is left there; with any other
// error it is not.
func (f file) writeTemp(content []byte, old snapshot) error {
	err := writeNew(f.temp, content, func(temp *os.File) error {
		if old.missing() {
			return temp.Chmod(0o644)
		}
		return copyAttributes(temp, old)
	})
	if err != nil && !errors.Is(err, errAttributes) {
		_ = os.Remove(f.temp)
	}
	return err
}

// writeNew writes a file that did not exist, and returns once it is on disk.
func writeNew(path string, content []byte, prepare func(*os.File) error) error {
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) { // left by a process that died, since we hold the lock
		if err = os.Remove(path); err == nil {
			w, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		}
	}
	if err != nil {
		return err
	}
	_, err = w.Write(content)
	var prepareErr error
	if err == nil {
		prepareErr = prepare(w)
		err = w.Sync()
	}
	if closeErr := w.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = prepareErr
	}
	return err
}

// copyAttributes gives temp the owner, mode and extended attributes of old. POSIX ACLs and
// SELinux labels are extended attributes.
func copyAttributes(temp *os.File, old snapshot) error {
	var want, have unix.Stat_t
	if err := unix.Fstat(int(old.file.Fd()), &want); err != nil {
		return err
	}
	if err := unix.Fstat(int(temp.Fd()), &have); err != nil {
		return err
	}
	if want.Uid != have.Uid || want.Gid != have.Gid {
		if err := temp.Chown(int(want.Uid), int(want.Gid)); err != nil {
			return fmt.Errorf("%w: owner: %w", errAttributes, err)
		}
	}
	// A change of owner clears the set-id bits, and an ACL is bound to the mode: hence the order.
	if err := unix.Fchmod(int(temp.Fd()), want.Mode&0o7777); err != nil {
		return fmt.Errorf("%w: mode: %w", errAttributes, err)
	}
	if err := copyXattrs(int(temp.Fd()), int(old.file.Fd())); err != nil {
		return fmt.Errorf("%w: %w", errAttributes, err)
	}
	return nil
}

func copyXattrs(temp, old int) error {
	want, err := xattrs(old)
	if err != nil {
		return err
	}
	have, err := xattrs(temp)
	if err != nil {
		return err
	}
	for name, value := range want {
		if had, ok := have[name]; !ok || had != value {
			if err := unix.Fsetxattr(temp, name, []byte(value), 0); err != nil {
				return fmt.Errorf("extended attribute %s: %w", name, err)
			}
		}
	}
	for name := range have { // such as an ACL that the folder gives to new files
		if _, ok := want[name]; !ok {
			if err := unix.Fremovexattr(temp, name); err != nil {
				return fmt.Errorf("extended attribute %s: %w", name, err)
			}
		}
	}
	return nil
}

func xattrs(fd int) (map[string]string, error) {
	list := make([]byte, 64<<10) // the kernel's limit for a list, and for one value
	n, err := unix.Flistxattr(fd, list)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("listing extended attributes: %w", err)
	}
	attrs := map[string]string{}
	value := make([]byte, 64<<10)
	for name := range strings.SplitSeq(string(list[:n]), "\x00") {
		if name == "" {
			continue
		}
		m, err := unix.Fgetxattr(fd, name, value)
		if err != nil {
			return nil, fmt.Errorf("extended attribute %s: %w", name, err)
		}
		attrs[name] = string(value[:m])
	}
	return attrs, nil
}

// quiet returns how long to wait for another writer of the file to show: not at all with a lease, which reports it.
func (s snapshot) quiet(leased bool) time.Duration {
	switch {
	case leased:
		return 0
	case len(s.content) == 0:
		return quietForEmpty
	default:
		return quietFor
	}
}

// replace puts f.temp in the place of old, as one compare-and-swap: the two names exchange their files, and if the displaced one is not
// exactly old, or is open for writing, it goes back. f.temp is left there with errNoRename, and if the displaced file could not be put
// back.
func (f file) replace(old snapshot) (err error) {
	stay := false
	defer func() {
		if err != nil && !stay {
			_ = os.Remove(f.temp)
		}
	}()
	if old.missing() {
		err := rename(f.temp, f.path, unix.RENAME_NOREPLACE)
		if errors.Is(err, fs.ErrExist) {
			return ErrBusy
		} else if err != nil {
			return err
		}
		return syncDir(filepath.Dir(f.path))
	}

	leased, err := lease(old.file, unix.F_RDLCK)
	if err != nil {
		return err
	}
	defer release(old.file)
	time.Sleep(old.quiet(leased))
	if !old.at(f.path) {
		return ErrBusy
	}
	ours, err := os.Lstat(f.temp)
	if err != nil {
		return err
	}
	switch err := unix.Renameat2(unix.AT_FDCWD, f.temp, unix.AT_FDCWD, f.path, unix.RENAME_EXCHANGE); {
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EXDEV):
		stay = true
		return fmt.Errorf("%w: %w", errNoRename, err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS): // no exchange on this file system
		if err := rename(f.temp, f.path, 0); err != nil {
			return err
		}
		return syncDir(filepath.Dir(f.path))
	case errors.Is(err, unix.ENOENT): // removed since it was read
		return ErrBusy
	case err != nil:
		return &os.LinkError{Op: "exchange", Old: f.temp, New: f.path, Err: err}
	}

	if f.displacedAWriter(old, ours, leased) {
		if err := f.putBack(ours); err != nil {
			stay = true
			return fmt.Errorf("putting back the file of another writer: %w", err)
		}
		return ErrBusy
	}
	if err := os.Remove(f.temp); err != nil {
		return err
	}
	return syncDir(filepath.Dir(f.path))
}

// displacedAWriter reports whether another program was writing the file that ours replaced. Without a lease, it may have opened that file
// before the exchange and write only now. If the new file has been written by then, too, the exchange is not undone.
func (f file) displacedAWriter(old snapshot, ours fs.FileInfo, leased bool) bool {
	if !old.at(f.temp) {
		return true
	}
	if leased {
		return leaseBroken(old.file)
	}
	time.Sleep(quietFor)
	now, err := os.Lstat(f.path)
	untouched := err == nil && os.SameFile(now, ours) && now.Size() == ours.Size() && now.ModTime().Equal(ours.ModTime())
	return untouched && !old.at(f.temp)
}

// putBack undoes an exchange that displaced another program's newer file. Programs that write meanwhile displace files in turn, so it goes
// on until the file it gets back is ours.
func (f file) putBack(ours fs.FileInfo) error {
	expected := ours
	for range 100 {
		displaced, err := os.Lstat(f.temp)
		if err != nil {
			return err
		}
		err = unix.Renameat2(unix.AT_FDCWD, f.temp, unix.AT_FDCWD, f.path, unix.RENAME_EXCHANGE)
		if errors.Is(err, unix.ENOENT) { // removed meanwhile; losing nothing comes first
			return rename(f.temp, f.path, unix.RENAME_NOREPLACE)
		} else if err != nil {
			return &os.LinkError{Op: "exchange", Old: f.temp, New: f.path, Err: err}
		}
		inHand, err := os.Lstat(f.temp)
		if err != nil {
			return err
		}
		if os.SameFile(inHand, expected) {
			return nil
		}
		expected = displaced
	}
	return errors.New("it changed 100 times meanwhile")
}

func rename(from, to string, flags uint) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, flags)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // the flag is unknown here
		return os.Rename(from, to)
	} else if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// lease asks the kernel (fcntl(2), F_SETLEASE) to hold back every program that opens the file in a way that conflicts with the lease, until
// release or until the file is closed. It returns errHeldOpen if a program already has it open, and false if the file system has no leases.
func lease(f *os.File, kind int) (bool, error) {
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, kind)
	if errors.Is(err, unix.EAGAIN) {
		return false, errHeldOpen
	}
	return err == nil, nil
}

// release ends the lease, and lets waiting programs go on.
func release(f *os.File) {
	_, _ = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK) // an error says that there is none
}

// leaseBroken reports whether a program waits for the leased file.
func leaseBroken(f *os.File) bool {
	kind, err := unix.FcntlInt(f.Fd(), unix.F_GETLEASE, 0)
	return err != nil || kind == unix.F_UNLCK
}
