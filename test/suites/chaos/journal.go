package chaos

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// journal keeps what the proxies, the user and the replicas did, in the order in which they did it. It holds no credential:
// of a request it is told the path, of an object the name.
type journal struct {
	began time.Time

	mu    sync.Mutex
	lines []string
}

func newJournal() *journal { return &journal{began: time.Now()} }

// note takes in one line of what somebody did.
func (j *journal) note(who, format string, args ...any) {
	now := time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf("%s %+8.3fs %-8s %s",
		now.UTC().Format("15:04:05.000"), now.Sub(j.began).Seconds(), who, fmt.Sprintf(format, args...)))
}

// tail returns the last lines.
func (j *journal) tail(count int) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.lines[max(0, len(j.lines)-count):], "\n") + "\n"
}

// all returns every line.
func (j *journal) all() string { return j.tail(1 << 30) }
