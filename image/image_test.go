package image_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/image"
)

const zeroes = "0000000000000000000000000000000000000000000000000000000000000000"

func TestNamesMeanWhatContainerRuntimesMean(t *testing.T) {
	for text, want := range map[string]image.Name{
		"nginx":                        {Host: "docker.io", Path: "library/nginx", Version: "latest"},
		"acme/app:v1":                  {Host: "docker.io", Path: "acme/app", Version: "v1"},
		"docker.io/nginx":              {Host: "docker.io", Path: "library/nginx", Version: "latest"},
		"index.docker.io/acme/app":     {Host: "docker.io", Path: "acme/app", Version: "latest"},
		"localhost/app":                {Host: "localhost", Path: "app", Version: "latest"},
		"localhost:5000/app":           {Host: "localhost:5000", Path: "app", Version: "latest"},
		"r.example.com/team/app:v1":    {Host: "r.example.com", Path: "team/app", Version: "v1"},
		"r.example.com:443/team/app":   {Host: "r.example.com:443", Path: "team/app", Version: "latest"},
		"[2001:db8::1]:5000/app":       {Host: "[2001:db8::1]:5000", Path: "app", Version: "latest"},
		"example/app@sha256:" + zeroes: {Host: "docker.io", Path: "example/app", Version: "sha256:" + zeroes},
		"r.io/app:v1@sha256:" + zeroes: {Host: "r.io", Path: "app", Version: "sha256:" + zeroes},
	} {
		name, err := image.Parse(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, name, text)
	}
	for _, text := range []string{"", "r.example.com/Team", "https://r.example.com/app", "a b"} {
		_, err := image.Parse(text)
		assert.Error(t, err, text)
	}
}

func TestAnImageOfAServerMayLackItsHost(t *testing.T) {
	for _, c := range []struct{ text, server, repository string }{
		{"team/app", "r.example.com", "r.example.com/team/app"},
		{"app", "r.example.com:5000", "r.example.com:5000/app"},
		{"r.example.com/team/app", "r.example.com", "r.example.com/team/app"},
		{"R.example.com/team/app", "r.example.com", "R.example.com/team/app"},
		{"other.example.com/app", "r.example.com", "r.example.com/other.example.com/app"},
		{"nginx", image.DockerHub, "docker.io/library/nginx"},
		{"docker.io/acme/app", image.DockerHub, "docker.io/acme/app"},
	} {
		name, err := image.ParseAt(c.text, c.server)
		require.NoError(t, err, c.text)
		assert.Equal(t, c.repository, name.Repository(), "%s at %s", c.text, c.server)
	}
}

func TestTheHostForPrivateNetworks(t *testing.T) {
	for domain, want := range map[string]string{
		"demo.tencentcloudcr.com": "demo-vpc.tencentcloudcr.com",
		"a.b":                     "a-vpc.b",
		"demo":                    "",
		"":                        "",
	} {
		assert.Equal(t, want, image.PrivateHost(domain), domain)
	}
}

func TestWhichHostAnImageBeginsWith(t *testing.T) {
	for text, want := range map[string]string{
		"app": "", "app:v1": "", "team/app:v1": "", "team/app@sha256:" + zeroes: "", "team/r.example.com/app": "", "": "",
		"r.example.com/app": "r.example.com", "registry:5000/app": "registry:5000", "localhost/app": "localhost", "[::1]:5000/app": "[::1]:5000",
	} {
		assert.Equal(t, want, image.HostOf(text), text)
	}
	for _, c := range []struct {
		text, server string
		want         bool
	}{
		{"r.example.com/app", "r.example.com", true},
		{"R.example.com/app", "r.example.com", true},
		{"r.example.com/app", "r.example.com:443", false},
		{"r.example.com.evil.org/app", "r.example.com", false},
		{"docker.io/acme/app", "index.docker.io", true},
		{"index.docker.io/acme/app", "docker.io", true},
		{"acme/app", "index.docker.io", false},
		{"r.example.com", "r.example.com", false},
	} {
		assert.Equal(t, c.want, image.IsOf(c.text, c.server), "%s at %s", c.text, c.server)
	}
}
