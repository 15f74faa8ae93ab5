package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/election"
)

// leaseName is the Lease that replicas compete for.
const leaseName = "tcr-assistant-leader-election"

// elect runs lead whenever this replica is elected, until ctx ends. Losing the Lease is no reason to exit: this replica still serves
// admission requests, and is a candidate again.
func elect(
	ctx context.Context, log *slog.Logger, client *clientset.Clientset, o *options, owner ownerLookup, lead func(context.Context),
) error {
	if !o.leaderElect {
		lead(ctx)
		return nil
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("reading the host's name: %w", err)
	}
	identity := host + "_" + string(uuid.NewUUID())
	election.NewCandidate(log, client, o.namespace, leaseName, identity, owner).Run(ctx, lead)
	return nil
}
