//go:build linux

package hostsd

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A smallDisk holds a hosts file, to be written in one of the two ways, and a file that takes the space.
type smallDisk struct {
	t      *testing.T
	mode   Mode
	path   string // the hosts file
	filler *os.File
	many   []Entry // too many for a disk that is nearly full
}

func newSmallDisk(t *testing.T, mode Mode) *smallDisk {
	t.Helper()
	requireRoot(t)
	dir := t.TempDir()
	mount(t, "none", dir, "tmpfs", 0, "size=256k")
	d := &smallDisk{t: t, mode: mode, path: filepath.Join(dir, "hosts")}
	require.NoError(t, os.WriteFile(d.path, []byte(ubuntuFile), 0o644))
	if mode == InPlace {
		mount(t, d.path, d.path, "", unix.MS_BIND, "")
	}
	var err error
	d.filler, err = os.Create(filepath.Join(dir, "filler"))
	require.NoError(t, err)
	for i := range 400 {
		d.many = append(d.many, entry(t, fmt.Sprintf("r%d.tencentcloudcr.com", i), "10.0.0.5"))
	}
	return d
}

// leave fills the disk up to so many bytes.
func (d *smallDisk) leave(free int64) {
	d.t.Helper()
	require.NoError(d.t, d.filler.Truncate(0))
	chunk := make([]byte, 4096)
	var err error
	for err == nil {
		_, err = d.filler.Write(chunk)
	}
	require.ErrorIs(d.t, err, unix.ENOSPC)
	size, err := d.filler.Seek(0, 1)
	require.NoError(d.t, err)
	require.NoError(d.t, d.filler.Truncate(size-free))
}

// leaveAll gives all of the space back.
func (d *smallDisk) leaveAll() {
	d.t.Helper()
	require.NoError(d.t, d.filler.Truncate(0))
	_, err := d.filler.Seek(0, 0)
	require.NoError(d.t, err)
}

// grows writes many entries, and says whether there was space for them. Where there was not, nothing has changed.
func (d *smallDisk) grows() bool {
	d.t.Helper()
	if _, err := set(d.t, d.path, d.many...); err != nil {
		require.ErrorIs(d.t, err, unix.ENOSPC)
		require.ErrorContains(d.t, err, "free space on the node's root file system")
		require.Equal(d.t, ubuntuFile, read(d.t, d.path))
		require.Equal(d.t, []string{"filler", "hosts"}, names(d.t, filepath.Dir(d.path)))
		return false
	}
	require.Equal(d.t, string(Edit([]byte(ubuntuFile), d.many)), read(d.t, d.path))
	return true
}

// shrinks removes the entries again.
func (d *smallDisk) shrinks() {
	d.t.Helper()
	change, err := set(d.t, d.path)
	require.NoError(d.t, err, "heals once there is space")
	if change.Mode != "" {
		require.Equal(d.t, d.mode, change.Mode)
	}
	require.Equal(d.t, ubuntuFile, read(d.t, d.path))
}

func TestUpdateOnAFullDisk(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{Rename, InPlace} {
		t.Run("full disk, "+string(mode), func(t *testing.T) {
			inMountNamespace(t, func(t *testing.T) {
				d := newSmallDisk(t, mode)
				// Leaves from none to some pages free, so that each step of a write is the one that fails.
				failed, wrote := 0, 0
				for free := int64(0); free < 100<<10; free += 4096 {
					d.leave(free)
					if d.grows() {
						wrote++
					} else {
						failed++
					}
					d.leaveAll()
					d.shrinks()
				}
				require.Positive(t, failed)
				require.Positive(t, wrote)
			})
		})
	}
}

func TestUpdateOnAReadOnlyMount(t *testing.T) {
	t.Parallel()
	demo := entry(t, "demo.tencentcloudcr.com", "10.0.0.5")

	t.Run("read-only mount", func(t *testing.T) {
		inMountNamespace(t, func(t *testing.T) {
			path := write(t, ubuntuFile)
			dir := filepath.Dir(path)
			mount(t, dir, dir, "", unix.MS_BIND, "")
			mount(t, "", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
			_, err := set(t, path, demo)
			require.ErrorIs(t, err, unix.EROFS)
			require.ErrorContains(t, err, "mount the node's /etc without readOnly")
			assert.Equal(t, ubuntuFile, read(t, path))
			mount(t, "", dir, "", unix.MS_BIND|unix.MS_REMOUNT, "")
			_, err = set(t, path, demo)
			require.NoError(t, err)
			assert.Equal(t, demoLine+ubuntuFile, read(t, path))
		})
	})
}

func TestUpdateOfAFileThatIsAMount(t *testing.T) {
	t.Parallel()
	demo, vpc := entry(t, "demo.tencentcloudcr.com", "10.0.0.5"), entry(t, "demo-vpc.tencentcloudcr.com", "10.0.0.5")

	t.Run("the file is itself a mount", func(t *testing.T) {
		inMountNamespace(t, func(t *testing.T) {
			path := write(t, ubuntuFile)
			mount(t, path, path, "", unix.MS_BIND, "")
			before := inode(t, path)
			for _, entries := range [][]Entry{{demo}, {demo, vpc}, {vpc}, {}} {
				change, err := set(t, path, entries...)
				require.NoError(t, err)
				assert.Equal(t, InPlace, change.Mode)
				assert.Equal(t, string(Edit([]byte(ubuntuFile), entries)), read(t, path))
				alone(t, path)
			}
			assert.Equal(t, before, inode(t, path))
		})
	})
	t.Run("a file that is a mount is never shorter than the old or the new one", func(t *testing.T) {
		inMountNamespace(t, func(t *testing.T) {
			path := write(t, ubuntuFile+demoLine)
			mount(t, path, path, "", unix.MS_BIND, "")
			shortest := watchLength(t, path)
			for i := range 20 {
				_, err := set(t, path, []Entry{demo, vpc}[:1+i%2]...)
				require.NoError(t, err)
			}
			assert.Equal(t, int64(len(ubuntuFile+demoLine)), shortest())
		})
	})
	t.Run("the file is a mount in a folder that cannot be written to", func(t *testing.T) {
		inMountNamespace(t, func(t *testing.T) {
			path := write(t, ubuntuFile)
			dir := filepath.Dir(path)
			mount(t, dir, dir, "", unix.MS_BIND, "")
			mount(t, path, path, "", unix.MS_BIND, "")
			mount(t, "", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
			_, err := set(t, path, demo)
			require.ErrorIs(t, err, unix.EROFS, "without a place for a backup nothing is overwritten")
			assert.Equal(t, ubuntuFile, read(t, path))
		})
	})
}

// watchLength looks at a file all the time, until shortest is called, which returns the least length that it had.
func watchLength(t *testing.T, path string) (shortest func() int64) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	stop, found := make(chan struct{}), make(chan int64)
	go func() {
		defer f.Close()
		least := int64(1 << 40)
		for {
			select {
			case <-stop:
				found <- least
				return
			default:
			}
			var st unix.Stat_t
			if unix.Fstat(int(f.Fd()), &st) == nil {
				least = min(least, st.Size)
			}
		}
	}()
	return func() int64 {
		close(stop)
		return <-found
	}
}

func TestUpdateWithoutCapabilities(t *testing.T) {
	t.Parallel()
	demo := entry(t, "demo.tencentcloudcr.com", "10.0.0.5")

	t.Run("without any capability a file of root is replaced", func(t *testing.T) {
		if !isChild(t) {
			path := write(t, ubuntuFile)
			require.NoError(t, os.Chown(path, 0, 0))
			runWithout(t, child(t, "HOSTS="+path), "all")
			assert.Equal(t, demoLine+ubuntuFile, read(t, path))
			return
		}
		change, err := set(t, os.Getenv("HOSTS"), demo)
		require.NoError(t, err)
		assert.Equal(t, Rename, change.Mode)
	})
	t.Run("an owner that may not be given is kept by writing in place", func(t *testing.T) {
		if !isChild(t) {
			path := write(t, ubuntuFile)
			runWithout(t, child(t, "HOSTS="+path), "chown")
			assert.Equal(t, demoLine+ubuntuFile, read(t, path))
			alone(t, path)
			return
		}
		change, err := set(t, os.Getenv("HOSTS"), demo)
		require.NoError(t, err)
		assert.Equal(t, InPlace, change.Mode)
	})
}
