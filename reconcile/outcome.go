package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

// Result is how an attempt has ended.
type Result string

// All results.
const (
	ResultSuccess  Result = "success"
	ResultConflict Result = "conflict" // someone else wrote first; it is planned again at once
	ResultGone     Result = "gone"     // the object or its namespace was deleted meanwhile, and needs nothing more
	ResultError    Result = "error"
)

// resultOf returns the result of an attempt that may have failed in several ways: the worst one.
func resultOf(failures []failure) Result {
	result := ResultSuccess
	for _, failed := range failures {
		switch one := resultOfWrite(failed.err); {
		case one == ResultError:
			return ResultError
		case result == ResultSuccess || one == ResultGone:
			result = one
		}
	}
	return result
}

// resultOfWrite returns the result of one write.
func resultOfWrite(err error) Result {
	switch {
	case err == nil:
		return ResultSuccess
	case errors.Is(err, errGone):
		return ResultGone
	case apierrors.IsConflict(err):
		return ResultConflict
	default:
		return ResultError
	}
}

// Observer receives what a Controller does. Either function may be nil. They are called from several goroutines and must not block.
type Observer struct {
	// Synced is called after each comparison of a namespace with the rules, writes included.
	Synced func(result Result, took time.Duration)
	// Wrote is called after each write, with the kind of object ("secret" or "serviceaccount") and the verb ("issue",
	// "reissue", "delete" or "edit").
	Wrote func(object, verb string, result Result)
}

func (o Observer) synced(result Result, took time.Duration) {
	if o.Synced != nil {
		o.Synced(result, took)
	}
}

func (o Observer) wrote(change plan.Change, result Result) {
	if o.Wrote == nil {
		return
	}
	switch change := change.(type) {
	case plan.IssueSecret:
		verb := "issue"
		if change.Exists {
			verb = "reissue"
		}
		o.Wrote("secret", verb, result)
	case plan.DeleteSecret:
		o.Wrote("secret", "delete", result)
	case plan.EditAccount:
		o.Wrote("serviceaccount", "edit", result)
	}
}

// write makes one change and informs the observer. A write that is no longer needed is neither a success nor an error.
func (c *Controller) write(ctx context.Context, change plan.Change) error {
	defer c.state.BeginWrite(plan.KeyOf(change))()
	err := c.writer.write(ctx, change)
	if c.Log.Enabled(ctx, slog.LevelDebug) { // formatting a change costs as much as encoding it
		c.Log.Debug("change was written", "change", change.String(), "error", err)
	}
	if err == nil || ctx.Err() == nil { // an error caused by the end of the term says nothing
		c.Observer.wrote(change, resultOfWrite(err))
	}
	now := time.Now()
	var undone *plan.UndoneError
	switch {
	case errors.Is(err, errGone):
		if account, ok := change.(plan.EditAccount); ok {
			c.repairs.ForgetAccount(account.Namespace, account.Name)
		}
		return nil
	case errors.As(err, &undone):
		undone.Repeated = c.repairs.Wrote(change, now, true) > 0
	case err == nil:
		c.status.Wrote(change, c.repairs.Wrote(change, now, false), now)
	}
	return err
}
