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

// answers answers every call with one text.
type answers string

func (a answers) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(`{"Response":` + string(a) + `}`))}, nil
}

// TestAnAnswerWithoutWhatWasAskedForIsNone holds apart what the API says of nothing, and what says nothing: lines go by the first alone.
func TestAnAnswerWithoutWhatWasAskedForIsNone(t *testing.T) {
	t.Parallel()
	links := func(r *Registry) error { _, err := r.Links(t.Context()); return err }
	names := func(r *Registry) error {
		_, err := r.NameStatus(t.Context(), Link{VPC: "vpc-a", Address: "10.0.0.5"}, true)
		return err
	}
	for _, test := range []struct {
		answer string
		ask    func(*Registry) error
		good   bool
	}{
		{`{"AccessVpcSet": null, "TotalCount": 0}`, links, true},
		{`{"AccessVpcSet": [{"VpcId": "vpc-a"}]}`, links, true},
		{`{}`, links, false},
		{`{"AccessVpcSet": null}`, links, false},
		{`{"AccessVpcSet": null, "TotalCount": 1}`, links, false},
		{`{"AccessVpcSet": "vpc-a", "TotalCount": 1}`, links, false},
		{`{"VpcSet": [{"VpcId": "vpc-a", "Status": "DISABLED"}]}`, names, true},
		{`{"VpcSet": null}`, names, false},
		{`{"VpcSet": []}`, names, false},
		{`{}`, names, false},
	} {
		client, err := New(Options{})
		require.NoError(t, err)
		client.api = answers(test.answer)
		err = test.ask(client.Registry(client.GivenCaller("id", "key", "Secret x"), "ap-guangzhou", "tcr-demo0001"))
		if test.good {
			require.NoError(t, err, test.answer)
			continue
		}
		var failure *Error
		require.ErrorAs(t, err, &failure, test.answer)
		assert.Equal(t, BadAnswer, failure.Reason, test.answer)
	}
}

// TestADomainIsInLowerCase holds the default domain to one spelling: credentials are found by it.
func TestADomainIsInLowerCase(t *testing.T) {
	t.Parallel()
	client, err := New(Options{})
	require.NoError(t, err)
	client.api = answers(`{"Registries": [{"RegistryId": "tcr-demo0001", "PublicDomain": "Demo.TencentCloudCR.com"}]}`)
	domain, err := client.Registry(client.GivenCaller("id", "key", "Secret x"), "ap-guangzhou", "tcr-demo0001").Domain(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "demo.tencentcloudcr.com", domain)
}
