//go:build linux

package hostsd

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// write makes a hosts file in a folder of its own, with a mode and an owner that no umask and
// no default would give it.
func write(t *testing.T, content string) (path string) {
	t.Helper()
	requireRoot(t)
	path = filepath.Join(t.TempDir(), "hosts")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	require.NoError(t, os.Chown(path, 1234, 4321))
	require.NoError(t, os.Chmod(path, 0o664))
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(content)
}

func set(t *testing.T, path string, entries ...Entry) (Change, error) {
	t.Helper()
	return Update(t.Context(), path, func(file []byte) []byte { return Edit(file, entries) })
}

// alone asserts that path is the only file in its folder, with the mode and owner of write.
func alone(t *testing.T, path string) {
	t.Helper()
	assert.Equal(t, []string{filepath.Base(path)}, names(t, filepath.Dir(path)))
	var st unix.Stat_t
	require.NoError(t, unix.Stat(path, &st))
	assert.Equal(t, [3]uint32{unix.S_IFREG | 0o664, 1234, 4321}, [3]uint32{st.Mode, st.Uid, st.Gid}, "mode and owner")
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	require.NoError(t, unix.Stat(path, &st))
	return st.Ino
}

func xattrsOf(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return xattrs(int(f.Fd()))
}

func chattr(t *testing.T, path string, flags int) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags))
	if flags != 0 {
		t.Cleanup(func() { chattr(t, path, 0) })
	}
}
