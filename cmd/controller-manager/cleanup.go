package main

import (
	"context"
	"log/slog"
	"sync"

	"github.com/tcr-assistant/tcr-assistant/secretsrole"
	"github.com/tcr-assistant/tcr-assistant/uninstall"
)

// cleanUp removes what an uninstall would leave behind, and returns once there is nothing of it left.
func cleanUp(ctx context.Context, log *slog.Logger, o *options) error {
	client, imagePullSecrets, attachments, err := connect(o)
	if err != nil {
		return err
	}
	remover := uninstall.Remover{Log: log, Clients: client, ImagePullSecrets: imagePullSecrets, Attachments: attachments}
	if o.keepSecrets {
		granted := secretsrole.NewKeeper(log, client, secretsrole.Uninstall)
		granted.Want()
		ctx, cancel := context.WithCancel(ctx)
		var keeping sync.WaitGroup
		keeping.Go(func() { granted.Run(ctx) })
		defer keeping.Wait()
		defer cancel()
		remover.Grants = granted
	}
	return remover.Run(ctx)
}
