package main

import (
	"bytes"
	"io"
	golog "log"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestClientSideLimitsAreSetTogether(t *testing.T) {
	const rule = ": must be 1 or more if --kube-api-qps is set, or 0 if it is not"
	for _, c := range []struct {
		name    string
		flags   []string
		refused string // the flag that is; blank for none
	}{
		{"neither", nil, ""},
		{"both", []string{"--kube-api-qps=10", "--kube-api-burst=20"}, ""},
		{"only a rate", []string{"--kube-api-qps=10"}, "--kube-api-burst=0"},
		{"only a burst, which would have no effect", []string{"--kube-api-burst=20"}, "--kube-api-burst=20"},
		{"a negative burst", []string{"--kube-api-qps=10", "--kube-api-burst=-1"}, "--kube-api-burst=-1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parseFlags(c.flags, io.Discard)
			if c.refused == "" {
				assert.NoError(t, err)
			} else {
				assert.EqualError(t, err, c.refused+rule)
			}
		})
	}
}

func TestAFlagThatNobodyHasWrittenIsNotRefused(t *testing.T) {
	_, err := parseFlags([]string{"--namespace=A"}, io.Discard) // hosts-updater's is the same by default
	assert.EqualError(t, err, "--namespace=A: must be the name of a namespace")
	_, err = parseFlags([]string{"--hosts-updater-namespace=B"}, io.Discard)
	assert.EqualError(t, err, "--hosts-updater-namespace=B: must be the name of a namespace")
}

func TestTheLogHoldsNothingThatARegistrySendsUnasked(t *testing.T) {
	var out bytes.Buffer
	(&options{logLevel: "debug"}).logger(&out).Info("this is logged")
	golog.Printf("Unsolicited response received on idle HTTP channel starting with %q", "hush") // as net/http does
	assert.Contains(t, out.String(), "this is logged")
	assert.NotContains(t, out.String(), "hush")
}
