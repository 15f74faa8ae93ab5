package main

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/informer"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// TestReadyWithoutAWebhook asks a manager that has neither configurations nor a certificate: whoever looked for them would panic.
func TestReadyWithoutAWebhook(t *testing.T) {
	m := &manager{options: &options{}, complete: make(chan struct{}), informer: informer.New(slog.New(slog.DiscardHandler), nil, pullsecret.NewIndex())}
	const unchecked, unknown, ending = "whether the cluster has all that is needed", "the ImagePullSecrets are not yet known", "this replica is shutting down"

	err := m.ready()
	require.ErrorContains(t, err, unchecked, "an update must not go on with replicas that will end")
	require.ErrorContains(t, err, unknown)
	assert.NotContains(t, err.Error(), ending)

	close(m.complete)
	err = m.ready()
	require.ErrorContains(t, err, unknown)
	assert.NotContains(t, err.Error(), unchecked)

	m.draining.begin()
	require.ErrorContains(t, m.ready(), ending)
}
