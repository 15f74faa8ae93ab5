package reconcile

import (
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// logFailure logs one failure. What fails alike in many namespaces is one line, which counts those that were not written.
func (c *Controller) logFailure(namespace string, err error) {
	if apierrors.IsConflict(err) {
		// Someone wrote first: what is planned next is planned from what they wrote.
		c.Log.Debug("namespace was changed meanwhile", "namespace", namespace, "error", err)
		return
	}
	period := passingLogPeriod
	if plan.Lasting(plan.ReasonOf(err)) {
		period = lastingLogPeriod
	}
	alike, admitted := c.logged.admit(plan.LogKey(err), period, time.Now())
	if !admitted {
		c.Log.Debug("namespace was not brought in line", "namespace", namespace, "error", err)
		return
	}
	c.Log.Warn("namespace was not brought in line", "namespace", namespace, "error", err, "alikeBefore", alike)
}

// The least time between two lines of the log that say the same: of what stays until someone acts, and of what may pass.
const (
	lastingLogPeriod = 10 * time.Minute
	passingLogPeriod = time.Minute
)

// logLimiter knows what was logged lately.
type logLimiter struct {
	mu    sync.Mutex
	lines map[string]logLine // by plan.LogKey, of which there are few
}

type logLine struct {
	at    time.Time
	alike int // how many were not written since
}

func newLogLimiter() *logLimiter { return &logLimiter{lines: map[string]logLine{}} }

// admit reports whether it is time for a line on what has the same key, a period after the last one, and for how many that were
// not written it stands.
func (l *logLimiter) admit(key string, period time.Duration, now time.Time) (alike int, admitted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last, found := l.lines[key]
	if found && now.Sub(last.at) < period {
		last.alike++
		l.lines[key] = last
		return 0, false
	}
	l.lines[key] = logLine{at: now}
	return last.alike, true
}
