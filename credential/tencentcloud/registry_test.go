package tencentcloud

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pages answers with pages of two tokens, and changes what there is after each.
type pages struct {
	ids    []string
	change func(call int, ids []string) []string
	calls  int
}

func (p *pages) RoundTrip(r *http.Request) (*http.Response, error) {
	var asked struct{ Offset int }
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		return nil, err
	}
	listed := []map[string]string{}
	for _, id := range p.ids[min(asked.Offset, len(p.ids)):min(asked.Offset+2, len(p.ids))] {
		listed = append(listed, map[string]string{"Id": id, "RegistryId": "tcr-demo0001"})
	}
	body, err := json.Marshal(map[string]any{"Response": map[string]any{"TotalCount": len(p.ids), "Tokens": listed}})
	p.calls++
	p.ids = p.change(p.calls, p.ids)
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(string(body)))}, err
}

// TestATokenThatMovesBetweenPages has one go and another come while a list is read, so that there are as many as before.
func TestATokenThatMovesBetweenPages(t *testing.T) {
	t.Parallel()
	client, err := New(Options{})
	require.NoError(t, err)
	list := &pages{ids: []string{"a", "b", "c"}, change: func(call int, ids []string) []string {
		if call == 1 {
			return append(slices.Clone(ids[1:]), "d")
		}
		return ids
	}}
	client.api = list
	tokens, err := client.Registry(client.GivenCaller("id", "key", "Secret x"), "ap-guangzhou", "tcr-demo0001").Tokens(t.Context())
	require.NoError(t, err)
	var ids []string
	for _, token := range tokens {
		ids = append(ids, token.ID)
	}
	assert.Equal(t, []string{"b", "c", "d"}, ids)
}
