package main

import (
	"context"
	"log/slog"

	"github.com/tcr-assistant/tcr-assistant/uninstall"
)

// cleanUp removes what an uninstall would leave behind, and returns once there is nothing of it left.
func cleanUp(ctx context.Context, log *slog.Logger, o *options) error {
	client, imagePullSecrets, attachments, err := connect(o)
	if err != nil {
		return err
	}
	remover := uninstall.Remover{Log: log, Clients: client, ImagePullSecrets: imagePullSecrets, Attachments: attachments}
	return remover.Run(ctx)
}
