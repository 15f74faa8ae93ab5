package diagnose

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestClassify holds what kubelets, containerd, CRI-O, Docker and the servers before registries say to what it means.
func TestClassify(t *testing.T) {
	for _, c := range []struct {
		image, text string
		want        class
	}{
		// kubelets, of Secrets
		{"r.example.com/app", "illegal base64 data at input byte 4", unreadable},
		{"r.example.com/app", `Back-off pulling image "r.example.com/app": ErrImagePull: unexpected end of JSON input`, unreadable},
		{"r.example.com/app", "invalid character 'h' looking for beginning of value", unreadable},
		{"r.example.com/app", "unable to parse auth field, must be formatted as base64(username:password)", unreadable},
		// servers that answer with a page
		{"r.example.com/app", `failed to resolve reference "r.example.com/app:latest": failed to authorize: failed to fetch oauth token: failed to decode token response: invalid character '<' looking for beginning of value`, registryFails},
		{"r.example.com/app", `rpc error: code = Unknown desc = failed to pull and unpack image "r.example.com/app:latest": unexpected end of JSON input`, registryFails},
		{"r.example.com/app", `Error response from daemon: error parsing HTTP 403 response body: invalid character '<' looking for beginning of value: "<html>\r\n<head>401 Unauthorized"`, scope},
		{"r.example.com/app", `Error response from daemon: Get "https://r.example.com/v2/": error parsing HTTP 404 response body: invalid character 'p' after top-level value: "404 page not found\n"`, notFound},
		// nginx's words
		{"r.example.com/app", "unexpected status from HEAD request to https://r.example.com/v2/app/manifests/latest: 401 Authorization Required", unauthorized},
		{"r.example.com/app", "unexpected status from HEAD request to https://r.example.com/v2/app/manifests/latest: 503 Service Temporarily Unavailable", registryFails},
		{"r.example.com/app", "unexpected status from HEAD request to https://r.example.com/v2/app/manifests/latest: 504 Gateway Time-out", registryFails},
		{"r.example.com/app", "unexpected status code [manifests latest]: 401 ", unauthorized},
		// CRI-O
		{"r.example.com/app", `initializing source docker://r.example.com/app:latest: unable to retrieve auth token: invalid username/password: StatusCode: 401, "hush"`, unauthorized},
		{"r.example.com/app", "initializing source docker://r.example.com/app:latest: requesting bearer token: invalid status code from registry 403 (Forbidden)", scope},
		{"r.example.com/app", "initializing source docker://r.example.com/app:latest: reading manifest latest in r.example.com/app: too many requests to registry", rateLimit},
		{"r.example.com/app", "reading manifest latest in r.example.com/app: manifest unknown", notFound},
		{"r.example.com/app", "reading manifest latest in r.example.com/app: unauthorized: authentication required", unauthorized},
		{"r.example.com/app", "reading manifest latest in r.example.com/app: received unexpected HTTP status: 502 Bad Gateway", registryFails},
		{"r.example.com/app", `pinging container registry r.example.com: Get "https://r.example.com/v2/": dial tcp: lookup r.example.com on 10.0.0.2:53: no such host`, noSuchHost},
		{"r.example.com/app", "requesting bearer token: invalid status code from registry 503 (Service Unavailable)", registryFails},
		// a name server that does not answer
		{"r.example.com/app", `failed to do request: Head "https://r.example.com/v2/": dial tcp: lookup r.example.com on [::1]:53: read udp [::1]:47652->[::1]:53: read: connection refused`, noSuchHost},
		{"r.example.com/app", `dial tcp: lookup r.example.com: Try again`, noSuchHost},
		{"r.example.com/app", `dial tcp 10.1.1.1:443: connect: connection refused`, timeout},
		// names and addresses that hold such words
		{"r.example.com/toomanyrequests/app:v1", "unexpected status from HEAD request to https://r.example.com/v2/toomanyrequests/app/manifests/v1: 401 Unauthorized", unauthorized},
		{"r.example.com/insufficient_scope:v1", "reading manifest v1 in r.example.com/insufficient_scope: manifest unknown", notFound},
		{"r.example.com/invalid_token/app:NAME_UNKNOWN", "reading manifest NAME_UNKNOWN in r.example.com/invalid_token/app: toomanyrequests: slow down", rateLimit},
		{"unauthorized:v1", "docker.io/library/unauthorized:v1: not found", notFound},
		{"denied:v1", "initializing source docker://denied:v1: reading manifest v1 in docker.io/library/denied: manifest unknown", notFound},
		{"r.example.com/lookup/app:v1", "initializing source docker://r.example.com/lookup/app:v1: dial tcp 10.1.1.1:443: i/o timeout", timeout},
		{"r.example.com/app", "pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials", unauthorized},
		{"denied", "reading manifest latest in docker.io/library/denied: requested access to the resource is denied", scope},
		{"host", "no such host", noSuchHost},
		{"r.example.com/app", "[rpc error: code = Unknown desc = unexpected status from HEAD request to https://r.example.com/v2/app/manifests/latest: 401 Unauthorized, rpc error: code = Unknown desc = dial tcp 10.1.1.1:443: i/o timeout]", unauthorized},
		{"10.1.1.1:401/app", "dial tcp 10.1.1.1:401: i/o timeout", timeout},
		{"r.example.com/app", "the moon is full", unknown},
	} {
		assert.Equal(t, c.want, classify(Pull{Image: c.image, Error: c.text, Waiting: "ErrImagePull"}), c.text)
	}
}
