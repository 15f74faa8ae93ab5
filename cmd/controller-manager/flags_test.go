package main

import (
	"bytes"
	golog "log"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestTheLogHoldsNothingThatARegistrySendsUnasked(t *testing.T) {
	var out bytes.Buffer
	(&options{logLevel: "debug"}).logger(&out).Info("this is logged")
	golog.Printf("Unsolicited response received on idle HTTP channel starting with %q", "hush") // as net/http does
	assert.Contains(t, out.String(), "this is logged")
	assert.NotContains(t, out.String(), "hush")
}
