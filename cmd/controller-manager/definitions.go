package main

import (
	"context"
	"log/slog"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/crd"
)

// definitionsFit returns an error if the cluster's CustomResourceDefinitions lack fields of this release.
func definitionsFit(ctx context.Context, log *slog.Logger, client *typed.Client) error {
	return crd.NewChecker(log, client.GetClient()).Check(ctx, v1.GroupVersion,
		crd.Of("ImagePullSecret", "imagepullsecrets", v1.ImagePullSecret{}),
		crd.Of("DerivedAttachments", "derivedattachments", v1.DerivedAttachments{}))
}
