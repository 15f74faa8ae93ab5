//go:build linux

package hostsd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A rewriter is another program that adds one line to the hosts file, in its own way.
type rewriter struct {
	name string
	add  func(path, line string) error
}

var rewriters = []rewriter{
	{"appends", func(path, line string) error {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(line)
		return errors.Join(err, f.Close())
	}},
	{"truncates and writes all anew", func(path, line string) error {
		old, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			return err
		}
		time.Sleep(2 * time.Millisecond) // the file is empty for as long
		_, err = f.Write(append(old, line...))
		return errors.Join(err, f.Close())
	}},
	{"renames a new file onto it", func(path, line string) error {
		old, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path+".other", append(old, line...), 0o644); err != nil {
			return err
		}
		return os.Rename(path+".other", path)
	}},
}

// rewrite adds a line every period for as long as goOn says so, which is told how many there are, and returns the lines.
func rewrite(r rewriter, path string, period time.Duration, goOn func(lines int) bool) (lines []string, err error) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for i := 0; goOn(i); i++ {
		<-tick.C
		line := fmt.Sprintf("10.%d.%d.%d other-%d\n", i>>16&255, i>>8&255, i&255, i)
		if err := r.add(path, line); err != nil {
			return lines, fmt.Errorf("adding line %d: %w", i, err)
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// hang is how long two writers may take to meet often enough, on a machine that hardly lets them run.
const hang = time.Minute

// noLineLost runs the rewriter beside change, which is to change the file as often as it can: for three seconds, and on until
// each has had its turns.
func noLineLost(t *testing.T, path string, r rewriter, period time.Duration, change func(i int) error) {
	t.Helper()
	const during, changesAtLeast = 3 * time.Second, 20
	linesAtLeast := int(during / (4 * period))
	var added atomic.Int64
	var stopped atomic.Bool
	type result struct {
		lines []string
		err   error
	}
	done := make(chan result, 1)
	go func() {
		lines, err := rewrite(r, path, period, func(lines int) bool {
			added.Store(int64(lines))
			return !stopped.Load()
		})
		done <- result{lines, err}
	}()
	changes := 0
	met := func() bool { return changes > changesAtLeast && int(added.Load()) > linesAtLeast }
	for start := time.Now(); time.Since(start) < during || !met() && time.Since(start) < hang; changes++ {
		if err := change(changes); errors.Is(err, ErrBusy) {
			changes--
		} else if err != nil {
			stopped.Store(true)
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
	}
	stopped.Store(true)
	other := <-done
	require.NoError(t, other.err)
	assert.Greater(t, len(other.lines), linesAtLeast, "the other writer hardly ran")
	assert.Greater(t, changes, changesAtLeast, "ours hardly ran")
	assert.Equal(t, ubuntuFile+strings.Join(other.lines, ""), string(Edit([]byte(read(t, path)), nil)), "foreign lines, all and in order")
	t.Logf("%d foreign lines beside %d changes of ours", len(other.lines), changes)
}

func TestUpdateBesideOtherWriters(t *testing.T) {
	t.Parallel()
	demo, vpc := entry(t, "demo.tencentcloudcr.com", "10.0.0.5"), entry(t, "demo-vpc.tencentcloudcr.com", "10.0.0.5")
	wishes := [][]Entry{{demo}, {demo, vpc}, {}}
	for _, r := range rewriters {
		t.Run("one that "+r.name+" every 10 ms loses no line", func(t *testing.T) {
			path := write(t, ubuntuFile)
			noLineLost(t, path, r, 10*time.Millisecond, func(i int) error {
				_, err := set(t, path, wishes[i%len(wishes)]...)
				return err
			})
			_, err := set(t, path, demo)
			require.NoError(t, err)
			assert.True(t, strings.HasPrefix(read(t, path), demoLine+ubuntuFile))
			assert.Equal(t, []string{"hosts"}, names(t, filepath.Dir(path)))
		})
	}
	t.Run("without leases, one that truncates and writes all anew every 100 ms loses no line", func(t *testing.T) {
		if !isChild(t) {
			path := write(t, ubuntuFile) // of another owner, so that a lease needs CAP_LEASE
			runWithout(t, child(t, "HOSTS="+path), "lease")
			return
		}
		path := os.Getenv("HOSTS")
		f, err := os.Open(path)
		require.NoError(t, err)
		leased, err := lease(f, unix.F_RDLCK)
		require.NoError(t, errors.Join(err, f.Close()))
		require.False(t, leased)
		noLineLost(t, path, rewriters[1], 100*time.Millisecond, func(i int) error {
			_, err := set(t, path, wishes[i%len(wishes)]...)
			return err
		})
	})
}

func TestWithoutLeasesWhoHasEmptiedTheFileGetsTheTimeToFillIt(t *testing.T) {
	t.Parallel()
	for name, times := range map[string]int{"once": 1, "and again, by the time that it is looked at anew": 2} {
		t.Run(name, func(t *testing.T) {
			if !isChild(t) {
				path := write(t, ubuntuFile) // of another owner, so that a lease needs CAP_LEASE
				runWithout(t, child(t, "HOSTS="+path), "lease")
				return
			}
			path := os.Getenv("HOSTS")
			other, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_TRUNC, 0)
			require.NoError(t, err)
			var filling sync.WaitGroup
			looks := 0
			_, err = Update(t.Context(), path, func(file []byte) []byte {
				if looks++; looks <= times {
					assert.Empty(t, file)
					again := looks < times
					filling.Add(1)
					time.AfterFunc(5*quietFor, func() { // as where many programs want the processor
						defer filling.Done()
						_, err := other.WriteString(ubuntuFile)
						if again {
							err = errors.Join(err, other.Truncate(0))
						}
						assert.NoError(t, err)
					})
				}
				return Edit(file, []Entry{entry(t, "demo.tencentcloudcr.com", "10.0.0.5")})
			})
			require.NoError(t, err)
			filling.Wait()
			require.NoError(t, other.Close())
			assert.Equal(t, demoLine+ubuntuFile, read(t, path))
		})
	}
}

// TestWithoutLeasesWhoHasTheFileOpenLosesNothing has a writer find out only once it has written that the file was replaced meanwhile. On a
// busy machine it may write too late: once in ten times it has to be in time.
func TestWithoutLeasesWhoHasTheFileOpenLosesNothing(t *testing.T) {
	t.Parallel()
	if !isChild(t) {
		path := write(t, ubuntuFile) // of another owner, so that a lease needs CAP_LEASE
		runWithout(t, child(t, "HOSTS="+path), "lease")
		return
	}
	path := os.Getenv("HOSTS")
	kept := false
	for i := 0; i < 10 && !kept; i++ {
		require.NoError(t, os.WriteFile(path, []byte(ubuntuFile), 0))
		wrote := writeOnceReplaced(t, path)
		_, err := set(t, path, entry(t, "demo.tencentcloudcr.com", "10.0.0.5"))
		require.NoError(t, err)
		require.NoError(t, <-wrote)
		kept = read(t, path) == demoLine+ubuntuFile+"10.0.0.1 other\n"
	}
	assert.True(t, kept, "the line is lost each time")
}

// writeOnceReplaced opens the file, and adds a line to what it has opened a moment after that was replaced.
func writeOnceReplaced(t *testing.T, path string) <-chan error {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	before, err := file.Stat()
	require.NoError(t, err)
	wrote := make(chan error, 1)
	go func() {
		for began := time.Now(); time.Since(began) < hang; time.Sleep(100 * time.Microsecond) {
			if now, err := os.Stat(path); err == nil && !os.SameFile(now, before) {
				time.Sleep(quietFor / 10)
				_, err := file.WriteString("10.0.0.1 other\n")
				wrote <- errors.Join(err, file.Close())
				return
			}
		}
		wrote <- errors.New("it was never replaced")
	}()
	return wrote
}

// TestUpdateKilled kills a process that writes without pause, 200 times, at random moments.
func TestUpdateKilled(t *testing.T) {
	t.Parallel()
	var many []Entry
	for i := range 40 {
		many = append(many, entry(t, fmt.Sprintf("r%d.tencentcloudcr.com", i), "10.0.0.5"))
	}
	one, other := Edit([]byte(ubuntuFile), many[:20]), Edit([]byte(ubuntuFile), many)
	writeForever := func(path string) {
		for i := 0; ; i++ {
			wish := many[:20+20*(i%2)]
			if _, err := Update(context.Background(), path, func(file []byte) []byte { return Edit(file, wish) }); err != nil {
				fmt.Println("error:", err)
			}
			if i == 0 {
				fmt.Println("ready")
			}
		}
	}
	// kill starts the writer, kills it, and calls check, 200 times.
	kill := func(t *testing.T, path string, check func(t *testing.T)) {
		t.Helper()
		for range 200 {
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestUpdateKilled$")
			cmd.Env = append(os.Environ(), reexecVar+"="+path)
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			line := make([]byte, len("ready\n"))
			_, err = out.Read(line)
			require.NoError(t, err)
			require.Equal(t, "ready\n", string(line))
			time.Sleep(time.Duration(rand.IntN(15_000)) * time.Microsecond)
			require.NoError(t, cmd.Process.Kill())
			require.ErrorContains(t, cmd.Wait(), "signal: killed")
			check(t)
			if t.Failed() {
				return
			}
		}
	}
	if path := os.Getenv(reexecVar); filepath.IsAbs(path) {
		writeForever(path)
	}

	t.Run("the file is the old or the new one, complete, with its mode and owner", func(t *testing.T) {
		path := write(t, ubuntuFile)
		kill(t, path, func(t *testing.T) {
			content := []byte(read(t, path))
			assert.True(t, bytes.Equal(content, one) || bytes.Equal(content, other), "%s", content)
			var st unix.Stat_t
			require.NoError(t, unix.Stat(path, &st))
			assert.Equal(t, [3]uint32{unix.S_IFREG | 0o664, 1234, 4321}, [3]uint32{st.Mode, st.Uid, st.Gid}, "mode and owner")
			assert.LessOrEqual(t, len(names(t, filepath.Dir(path))), 2, "nothing piles up")
		})
		_, err := set(t, path)
		require.NoError(t, err)
		assert.Equal(t, ubuntuFile, read(t, path))
		alone(t, path)
	})
	t.Run("in place, the file is one of the two but for blank lines, and mended by the next run", func(t *testing.T) {
		inMountNamespace(t, func(t *testing.T) {
			path := write(t, ubuntuFile)
			mount(t, path, path, "", unix.MS_BIND, "")
			kill(t, path, func(t *testing.T) {
				content := []byte(read(t, path))
				whole := bytes.TrimRight(content, "\n")
				assert.True(t, slices.ContainsFunc([][]byte{one, other}, func(want []byte) bool {
					return bytes.Equal(whole, bytes.TrimRight(want, "\n"))
				}), "%s", content)
				_, err := Update(t.Context(), path, func(file []byte) []byte { return file })
				require.NoError(t, err)
				content = []byte(read(t, path))
				assert.True(t, bytes.Equal(content, one) || bytes.Equal(content, other), "%s", content)
				alone(t, path)
			})
		})
	})
}
