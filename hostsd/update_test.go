//go:build linux

package hostsd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestUpdate(t *testing.T) {
	t.Parallel()
	demo := entry(t, "demo.tencentcloudcr.com", "10.0.0.5")

	t.Run("a change replaces the file and keeps mode and owner", func(t *testing.T) {
		path := write(t, ubuntuFile)
		before := inode(t, path)
		change, err := set(t, path, demo)
		require.NoError(t, err)
		assert.Equal(t, Change{Old: []byte(ubuntuFile), New: []byte(demoLine + ubuntuFile), Mode: Rename}, change)
		assert.Equal(t, demoLine+ubuntuFile, read(t, path))
		assert.NotEqual(t, before, inode(t, path))
		alone(t, path)
	})
	t.Run("second run changes nothing", func(t *testing.T) {
		path := write(t, demoLine+ubuntuFile)
		before := inode(t, path)
		change, err := set(t, path, demo)
		require.NoError(t, err)
		assert.Empty(t, change.Mode)
		assert.Equal(t, before, inode(t, path))
	})
	t.Run("a missing file is made, and not for nothing", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "hosts")
		change, err := set(t, path)
		require.NoError(t, err)
		assert.Empty(t, change.Mode)
		assert.Empty(t, names(t, filepath.Dir(path)))
		_, err = set(t, path, demo)
		require.NoError(t, err)
		assert.Equal(t, demoLine, read(t, path))
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o644), info.Mode())
	})
	t.Run("files of a dead process beside it are removed", func(t *testing.T) {
		path := write(t, ubuntuFile)
		f := newFile(path)
		require.NoError(t, os.WriteFile(f.temp, []byte("hal"), 0o600))
		_, err := set(t, path)
		require.NoError(t, err)
		alone(t, path)
	})
	t.Run("a program that keeps it open for writing keeps its file", func(t *testing.T) {
		path := write(t, ubuntuFile)
		before := inode(t, path)
		held, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
		require.NoError(t, err)
		defer held.Close()
		change, err := set(t, path, demo)
		require.NoError(t, err)
		assert.Equal(t, InPlace, change.Mode)
		assert.Equal(t, before, inode(t, path))
		_, err = held.WriteString("10.1.1.1 late\n")
		require.NoError(t, err)
		assert.Equal(t, demoLine+ubuntuFile+"10.1.1.1 late\n", read(t, path))
	})
}

func TestUpdateKeepsAttributesAndAccessControlLists(t *testing.T) {
	t.Parallel()
	demo := entry(t, "demo.tencentcloudcr.com", "10.0.0.5")

	t.Run("extended attributes and ACLs are kept, and none is added", func(t *testing.T) {
		path := write(t, ubuntuFile)
		acl := func(user uint32) []byte { // struct posix_acl_xattr_header and _entry, little endian
			b := []byte{2, 0, 0, 0}
			for _, e := range [][3]uint32{{1, 6, ^uint32(0)}, {2, 4, user}, {4, 6, ^uint32(0)}, {0x10, 6, ^uint32(0)}, {0x20, 4, ^uint32(0)}} {
				b = append(b, byte(e[0]), byte(e[0]>>8), byte(e[1]), byte(e[1]>>8), byte(e[2]), byte(e[2]>>8), byte(e[2]>>16), byte(e[2]>>24))
			}
			return b
		}
		require.NoError(t, unix.Setxattr(path, "user.note", []byte("kept"), 0))
		require.NoError(t, unix.Setxattr(path, "system.posix_acl_access", acl(77), 0))
		require.NoError(t, unix.Setxattr(path, "security.selinux", []byte("system_u:object_r:net_conf_t:s0\x00"), 0))
		want, err := xattrsOf(path)
		require.NoError(t, err)
		require.Len(t, want, 3)
		change, err := set(t, path, demo)
		require.NoError(t, err)
		assert.Equal(t, Rename, change.Mode)
		have, err := xattrsOf(path)
		require.NoError(t, err)
		assert.Equal(t, want, have)

		plain := filepath.Join(t.TempDir(), "hosts")
		require.NoError(t, os.WriteFile(plain, nil, 0o644))
		require.NoError(t, unix.Setxattr(filepath.Dir(plain), "system.posix_acl_default", acl(78), 0))
		_, err = set(t, plain, demo)
		require.NoError(t, err)
		have, err = xattrsOf(plain)
		require.NoError(t, err)
		assert.Empty(t, have, "the folder's default ACL is not the file's")
	})
}

func TestUpdateFollowsLinksWithinTheFolderAlone(t *testing.T) {
	t.Parallel()
	demo := entry(t, "demo.tencentcloudcr.com", "10.0.0.5")

	t.Run("a link within the folder is followed and stays", func(t *testing.T) {
		root := t.TempDir()
		path := filepath.Join(root, "etc/hosts")
		require.NoError(t, os.MkdirAll(filepath.Join(root, "etc/real"), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(root, "etc/real/hosts"), []byte(ubuntuFile), 0o644))
		require.NoError(t, os.Symlink("/etc/hosts.link", path)) // absolute: as the node sees it
		require.NoError(t, os.Symlink("real/../real/hosts", path+".link"))
		_, err := set(t, path, demo)
		require.NoError(t, err)
		assert.Equal(t, demoLine+ubuntuFile, read(t, filepath.Join(root, "etc/real/hosts")))
		assert.Equal(t, []string{"hosts"}, names(t, filepath.Join(root, "etc/real")))
		link, err := os.Readlink(path)
		require.NoError(t, err)
		assert.Equal(t, "/etc/hosts.link", link)
	})
	t.Run("a link out of the folder is refused", func(t *testing.T) {
		root := t.TempDir()
		outside := filepath.Join(root, "hosts")
		require.NoError(t, os.WriteFile(outside, []byte(ubuntuFile), 0o644))
		require.NoError(t, os.Mkdir(filepath.Join(root, "etc"), 0o755))
		require.NoError(t, os.Symlink("..", filepath.Join(root, "etc/up")))
		for _, link := range []string{"../hosts", outside, "/run/hosts", "up/hosts"} {
			path := filepath.Join(root, "etc/hosts")
			require.NoError(t, os.Symlink(link, path))
			_, err := set(t, path, demo)
			assert.ErrorContains(t, err, "outside of "+filepath.Join(root, "etc"), link)
			require.NoError(t, os.Remove(path))
		}
		assert.Equal(t, ubuntuFile, read(t, outside))
	})
	t.Run("a link to itself is refused", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "hosts")
		require.NoError(t, os.Symlink("hosts", path))
		_, err := set(t, path, demo)
		assert.ErrorContains(t, err, "more than 10 others")
	})
}

func TestUpdateRefuses(t *testing.T) {
	t.Parallel()
	demo := entry(t, "demo.tencentcloudcr.com", "10.0.0.5")

	t.Run("what is no file is refused without waiting for it", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "hosts")
		require.NoError(t, unix.Mkfifo(path, 0o644))
		_, err := set(t, path, demo)
		require.ErrorContains(t, err, "not a regular file")
		require.NoError(t, os.Remove(path))
		require.NoError(t, os.Mkdir(path, 0o755))
		_, err = set(t, path, demo)
		require.ErrorContains(t, err, "not a regular file")
	})
	t.Run("a file without end is refused", func(t *testing.T) {
		path := write(t, "")
		require.NoError(t, os.Truncate(path, maxFile+1))
		_, err := set(t, path, demo)
		require.ErrorContains(t, err, "but a hosts file has at most")
	})
	t.Run("a missing folder is named", func(t *testing.T) {
		_, err := set(t, "/nonexistent/etc/hosts", demo)
		require.ErrorContains(t, err, "locking /nonexistent/etc")
	})
	t.Run("an immutable file stays, and heals once it is mutable", func(t *testing.T) {
		path := write(t, ubuntuFile)
		chattr(t, path, 0x10) // FS_IMMUTABLE_FL
		_, err := set(t, path, demo)
		require.ErrorContains(t, err, "run chattr -i on the node")
		assert.Equal(t, ubuntuFile, read(t, path))
		alone(t, path)
		chattr(t, path, 0)
		_, err = set(t, path, demo)
		require.NoError(t, err)
		assert.Equal(t, demoLine+ubuntuFile, read(t, path))
	})
}

func TestUpdatesAtOnce(t *testing.T) {
	t.Parallel()
	demo, vpc := entry(t, "demo.tencentcloudcr.com", "10.0.0.5"), entry(t, "demo-vpc.tencentcloudcr.com", "10.0.0.5")

	t.Run("two at once, each with its own wish, leave one of the two", func(t *testing.T) {
		path := write(t, ubuntuFile)
		done := make(chan error, 2)
		for _, e := range []Entry{demo, vpc} {
			go func() {
				var err error
				for range 50 {
					_, one := Update(context.Background(), path, func(file []byte) []byte { return Edit(file, []Entry{e}) })
					err = errors.Join(err, one)
				}
				done <- err
			}()
		}
		require.NoError(t, errors.Join(<-done, <-done))
		assert.Contains(t, []string{demoLine + ubuntuFile, vpcLine + ubuntuFile}, read(t, path))
		alone(t, path)
	})
	t.Run("a lock that is held ends in an error, not in waiting", func(t *testing.T) {
		path := write(t, ubuntuFile)
		unlock, err := lockDir(t.Context(), filepath.Dir(path))
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err = Update(ctx, path, func([]byte) []byte { return nil })
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = set(t, path, demo)
		require.ErrorIs(t, err, ErrBusy)
		unlock()
		_, err = set(t, path, demo)
		require.NoError(t, err)
	})
}

func TestRecover(t *testing.T) {
	oldText, nextText := strings.Repeat("o", 10000), strings.Repeat("n", 12000)
	for _, test := range []struct {
		name           string
		now, old, next string
		want           string
		noNext, noBack bool
	}{
		{name: "not begun", now: oldText, old: oldText, next: nextText, want: oldText},
		{name: "done", now: nextText, old: oldText, next: nextText, want: nextText},
		{name: "torn while growing", now: nextText[:4096] + oldText[4096:], old: oldText, next: nextText, want: nextText},
		{name: "torn behind the old end", now: nextText[:11000], old: oldText, next: nextText, want: nextText},
		{name: "torn while shrinking", now: oldText[:4096] + nextText[4096:], old: nextText, next: oldText, want: oldText},
		{name: "shrunk but for the blank lines", now: oldText + strings.Repeat("\n", 2000), old: nextText, next: oldText, want: oldText},
		{name: "pages that reached the disk out of order", now: oldText[:4096] + nextText[4096:8192] + oldText[8192:], old: oldText,
			next: nextText, want: nextText},
		{name: "written by somebody since", now: ubuntuFile, old: oldText, next: nextText, want: ubuntuFile},
		{name: "appended to by somebody since", now: nextText + "x", old: oldText, next: nextText, want: nextText + "x"},
		{name: "died before the new content was complete", now: oldText, old: oldText, noNext: true, want: oldText},
		{name: "died after the write was complete", now: nextText, next: oldText, noBack: true, want: nextText},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := write(t, test.now)
			f := newFile(path)
			if !test.noBack {
				require.NoError(t, os.WriteFile(f.backup, []byte(test.old), 0o600))
			}
			if !test.noNext {
				require.NoError(t, os.WriteFile(f.temp, []byte(test.next), 0o600))
			}
			change, err := Update(t.Context(), path, func(file []byte) []byte { return file })
			require.NoError(t, err)
			assert.Empty(t, change.Mode)
			assert.Equal(t, test.want, read(t, path))
			alone(t, path)
		})
	}
}
