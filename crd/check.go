package crd

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

// Checker asks the API server for the OpenAPI document of a group, which every account may read.
type Checker struct {
	Log    *slog.Logger
	Client rest.Interface // any
	// Timeout is how long a definition that was just applied may take to be published.
	Timeout time.Duration
	// Pause is the time between two requests.
	Pause time.Duration
}

// NewChecker returns a Checker with the times that suit a real cluster.
func NewChecker(log *slog.Logger, client rest.Interface) *Checker {
	return &Checker{Log: log, Client: client, Timeout: 10 * time.Second, Pause: 500 * time.Millisecond}
}

// Check returns an *Error if the definitions of the kinds still lack something after the timeout. If the API server cannot answer, it
// waits for as long as it takes. If the request is forbidden, it returns nil: whoever took that permission away has to look after the
// definitions.
func (c *Checker) Check(ctx context.Context, version schema.GroupVersion, kinds ...Kind) error {
	deadline, pause := time.Now().Add(c.Timeout), time.NewTicker(c.Pause)
	defer pause.Stop()
	told := false
	for {
		lacks, err := c.ask(ctx, version, kinds)
		switch {
		case err == nil && len(lacks) == 0:
			return nil
		case err == nil && time.Now().After(deadline):
			return &Error{Group: version.Group, Lacks: lacks}
		case apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err):
			c.Log.Warn("custom resource definitions were not checked", "error", err)
			return nil
		case err != nil && !told && ctx.Err() == nil:
			told = true
			c.Log.Warn("custom resource definitions were not published, trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil // nobody waits for the result any more
		case <-pause.C:
		}
	}
}

func (c *Checker) ask(ctx context.Context, version schema.GroupVersion, kinds []Kind) ([]Lack, error) {
	document, err := c.Client.Get().AbsPath("/openapi/v3/apis/"+version.String()).SetHeader("Accept", "application/json").DoRaw(ctx)
	var status *apierrors.StatusError
	if errors.As(err, &status) && status.ErrStatus.Code == http.StatusNotFound {
		document, err = nil, nil
	}
	if err != nil {
		return nil, err
	}
	return Lacks(document, version, kinds)
}
