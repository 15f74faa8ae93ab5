package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
)

func TestSpan(t *testing.T) {
	at := func(second int) time.Time { return time.Unix(int64(second), 0) }
	request := func(verb, resource, name string, code, received, answered int) cluster.Request {
		return cluster.Request{Verb: verb, Resource: resource, Name: name, Code: code, Received: at(received), Answered: at(answered)}
	}
	requests := []cluster.Request{ // in the order in which they were answered
		request("list", "secrets", "", 200, 1, 2),
		request("create", "secrets", "tcr.ipsbench", 201, 4, 5),
		request("patch", "serviceaccounts", "default", 409, 3, 6),
		request("patch", "imagepullsecrets", "bench", 200, 7, 8),
		request("patch", "secrets", servingSecret, 200, 9, 10),
		request("get", "secrets", "some-token", 404, 11, 12),
	}
	assert.Equal(t, span{count: 2, refused: 1, first: at(3), last: at(6)}, spanOf(requests, issues),
		"what brings a namespace in line is counted, and neither reads nor the webhook's own Secret")
	assert.Equal(t, span{count: 6, refused: 2, first: at(1), last: at(12)}, spanOfAll(requests, func(cluster.Request) bool { return true }),
		"silence is over with any call")
}
