package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestResting(t *testing.T) {
	assert.True(t, resting(100<<10, 200<<20), "a burst is over")
	assert.False(t, resting(50<<20, 200<<20), "it is not over")
	assert.False(t, resting(100<<10, 10<<20), "there was none")
}
