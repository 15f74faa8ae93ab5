package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestReadyWithoutAWebhook asks a manager that has neither configurations nor a certificate, and knows of no attachments: whoever
// looked for them would panic.
func TestReadyWithoutAWebhook(t *testing.T) {
	m := &manager{options: &options{}, complete: make(chan struct{})}
	const unchecked, ending = "whether the cluster has all that is needed", "this replica is shutting down"

	err := m.ready()
	require.ErrorContains(t, err, unchecked, "an update must not go on with replicas that will end")
	assert.NotContains(t, err.Error(), ending)

	close(m.complete)
	require.NoError(t, m.ready())

	m.draining.begin()
	require.ErrorContains(t, m.ready(), ending)
}
