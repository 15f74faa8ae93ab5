package reconcile

import (
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// logFailure logs one failure. The same failure in many namespaces is one line, which counts the lines that it replaces.
func (c *Controller) logFailure(namespace string, err error) {
	if apierrors.IsConflict(err) {
		// Someone else wrote first: the next plan starts from what they wrote.
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

// The minimum time between two log lines that say the same, for failures that last until someone acts and for those that may pass.
const (
	lastingLogPeriod = 10 * time.Minute
	passingLogPeriod = time.Minute
)

// logLimiter remembers what was logged recently.
type logLimiter struct {
	mu    sync.Mutex
	lines map[string]logLine // by plan.LogKey; there are few keys
}

type logLine struct {
	at    time.Time
	alike int // lines that were left out since
}

func newLogLimiter() *logLimiter { return &logLimiter{lines: map[string]logLine{}} }

// admit reports whether a line with this key may be logged, which is a period after the last one, and how many lines were left out in
// between.
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
