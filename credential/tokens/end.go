package tokens

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/tcr-assistant/tcr-assistant/backoff"
	"github.com/tcr-assistant/tcr-assistant/credential/rotation"
)

// endPause is the pause between two attempts to revoke all tokens.
const endPause = 500 * time.Millisecond

// End revokes the tokens of every record, in an uninstall, once no ImagePullSecret is left. A manager that still runs does the same, and it
// may have the permissions that this process lacks. End returns an error that says what is left once ctx ends, or at once if the records
// may not be read.
func (c Config) End(ctx context.Context) error {
	for {
		records, err := c.Records(ctx)
		switch {
		case apierrors.IsForbidden(err):
			return err
		case err == nil && len(records) == 0:
			return nil
		}
		for _, record := range records {
			_, failed := c.Sync(ctx, record.UID, nil, func(rotation.Record) int { return 0 })
			err = errors.Join(err, failed)
		}
		if backoff.Sleep(ctx, endPause); ctx.Err() != nil {
			return errors.Join(fmt.Errorf("revoking the tokens of %d image pull secrets: %w", len(records), context.Cause(ctx)), err)
		}
	}
}
