package diagnose

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		server, repository string
		covers             bool
	}{
		{"r.example.com", "r.example.com/team/app", true},
		{"https://r.example.com", "r.example.com/team/app", true},
		{"https://r.example.com/v1/", "r.example.com/team/app", true},
		{"http://r.example.com/v2/", "r.example.com/team/app", true},
		{"r.example.com/", "r.example.com/team/app", true},
		{"r.example.com/team", "r.example.com/team/app", true},
		{"r.example.com/team", "r.example.com/team-evil/app", true},
		{"r.example.com/other", "r.example.com/team/app", false},
		{"*.example.com", "r.example.com/app", true},
		{"*.example.com", "a.b.example.com/app", false},
		{"r*.example.com", "r2.example.com/app", true},
		{"r.example", "r.example.com/app", false},
		{"r.example.com.org", "r.example.com/app", false},
		{"r.example.com", "r.example.com:5000/app", false},
		{"r.example.com:5000", "r.example.com:5000/app", true},
		{"r.example.com:443", "r.example.com/app", false},
		{"R.example.com", "r.example.com/app", false},
		{"index.docker.io", "docker.io/library/nginx", true},
		{"https://index.docker.io/v1/", "docker.io/library/nginx", true},
		{"docker.io", "docker.io/library/nginx", true},
		{"index.docker.io", "localhost/app", true},
		{"registry-1.docker.io", "docker.io/library/nginx", false},
		{"index.docker.io", "r.example.com/app", false},
		{"https://[", "r.example.com/app", false},
	} {
		assert.Equal(t, c.covers, Covers(c.server, c.repository), "%s, %s", c.server, c.repository)
	}
}

func TestReadTellsWhatAKubeletCannotRead(t *testing.T) {
	for config, want := range map[string]string{
		`{"auths":{"r.example.com":{"auth":"aHVzaDpodXNo"}}}`:            "",
		`{"auths":{"r.example.com":{"username":"u","password":"hush"}}}`: "",
		`{"auths":{}}`: "",
		`{}`:           "",
		`{"auths":{"r.example.com":{"auth":"%%hush"}}}`:                       "the auth of r.example.com is no base64",
		`{"auths":{"r.example.com":{"auth":"aHVzaA=="}}}`:                     "the auth of r.example.com is not the base64 of a user name, a colon and a password",
		`{"auths":{"a.example.com":{},"r.example.com":{"auth":"hush hush"}}}`: "the auth of r.example.com is no base64",
		`{"auths":["hush"]}`:                             `its field "auths" is a JSON array`,
		`{"auths":{"r.example.com":{"password":12345}}}`: `is a JSON number`,
		`hush`: "it is not JSON",
		``:     "it is not JSON",
	} {
		servers, err := Read([]byte(config))
		if want == "" {
			require.NoError(t, err, config)
			continue
		}
		require.ErrorContains(t, err, want, config)
		assert.NotContains(t, err.Error(), "hush")
		assert.NotContains(t, err.Error(), "12345")
		assert.Nil(t, servers)
	}
	servers, err := Read([]byte(`{"auths":{"b.example.com":{},"a.example.com/team":{}}}`))
	require.NoError(t, err)
	assert.Equal(t, []string{"a.example.com/team", "b.example.com"}, servers)
}

func TestBackoffDoublesUpToFiveMinutes(t *testing.T) {
	for failures, want := range map[int]time.Duration{
		1: 10 * time.Second, 2: 20 * time.Second, 3: 40 * time.Second, 5: 160 * time.Second, 6: 300 * time.Second, 1000: 300 * time.Second,
	} {
		assert.Equal(t, want, Backoff(failures), "%d", failures)
	}
}
