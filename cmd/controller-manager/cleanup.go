package main

import (
	"context"
	"log/slog"
	"sync"

	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/credential/tokens"
	"github.com/tcr-assistant/tcr-assistant/secretsrole"
	"github.com/tcr-assistant/tcr-assistant/uninstall"
)

// cleanUp removes what an uninstall would leave behind, and returns once nothing of it is left.
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
	if err := remover.Run(ctx); err != nil {
		return err
	}
	revoke(ctx, log, client, o)
	return nil
}

// revoke revokes the tokens that the cloud has issued. If the cloud does not answer in time, or may not be asked, the uninstall goes on:
// the next installation revokes what is left.
func revoke(ctx context.Context, log *slog.Logger, client *clientset.Clientset, o *options) {
	ctx, cancel := context.WithTimeout(ctx, o.revokeTimeout)
	defer cancel()
	cloud, err := newCloud(client, o)
	if err == nil {
		err = (tokens.Config{Sync: cloud.sync, Records: cloud.store.All}).End(ctx)
	}
	if err != nil {
		log.Warn("tokens were not revoked: disable and delete those of this cluster in the registry's console", "error", err)
	}
}
