package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCompletionWaitsForNoCluster(t *testing.T) {
	s := serveAPI(t, broken())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done, free := context.WithCancel(ctx)
	s.before = func() { <-done.Done() }
	out, code := s.ask(t, ctx, "", "__complete", "why", "-n", "shop", "")
	require.NoError(t, ctx.Err(), "it waited")
	free()
	assert.Equal(t, 0, code)
	assert.True(t, strings.HasPrefix(out, ":4\n"), "it offers nothing, and no files: %q", out)
}

func TestCompletionOffersNames(t *testing.T) {
	objects := broken()
	objects[shop+"/pods"] = []object{failing("web-2", refused), failing("web-1", refused)}
	s := serveAPI(t, objects)
	out, code := s.ask(t, t.Context(), "", "__complete", "why", "--namespace=shop", "")
	assert.Equal(t, 0, code)
	assert.True(t, strings.HasPrefix(out, "web-1\nweb-2\n:4\n"), out)
}
