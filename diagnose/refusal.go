package diagnose

import (
	"regexp"
	"strings"
)

// class is what kind of failure a container runtime told of.
type class string

const (
	unknown       class = ""
	unreadable    class = "unreadable" // a Secret, by the kubelet
	rateLimit     class = "rateLimit"
	certificate   class = "certificate"
	plainHTTP     class = "plainHTTP"
	noSuchHost    class = "noSuchHost"
	scope         class = "scope"
	unauthorized  class = "unauthorized"
	timeout       class = "timeout"
	platform      class = "platform"
	notFound      class = "notFound"
	diskFull      class = "diskFull"
	registryFails class = "registryFails"
	badName       class = "badName"
	never         class = "never"
	throttled     class = "throttled" // by the kubelet
)

// ofCredentials reports whether a credential decides about failures of a class.
func (c class) ofCredentials() bool { return c == unauthorized || c == scope || c == unreadable }

// wordings are how kubelets, containerd, CRI-O and Docker tell of each class. An error may hold several: where a pod has several
// credentials, it holds the failure of each. The first that fits decides.
var wordings = []struct {
	class class
	words *regexp.Regexp
}{
	{unreadable, regexp.MustCompile(`illegal base64 data|json: cannot unmarshal|unable to parse auth field|` +
		`invalid character .* (looking for|after|in)|unexpected end of JSON input`)},
	{rateLimit, regexp.MustCompile(`429 Too Many Requests|toomanyrequests|pull rate limit|status code 429`)},
	{certificate, regexp.MustCompile(`x509: |tls: failed to verify certificate`)},
	{plainHTTP, regexp.MustCompile(`server gave HTTP response to HTTPS client|first record does not look like a TLS handshake`)},
	{noSuchHost, regexp.MustCompile(`no such host|server misbehaving|Temporary failure in name resolution|lookup .* i/o timeout`)},
	{scope, regexp.MustCompile(`insufficient_scope|403 Forbidden|status code 403|requested access to the resource is denied|` +
		`: denied: |^denied: `)},
	{unauthorized, regexp.MustCompile(`401 Unauthorized|status code 401|[Uu]nauthorized: |no basic auth credentials|` +
		`invalid_token|authentication required|incorrect username or password|authorization failed|pull access denied`)},
	{timeout, regexp.MustCompile(`i/o timeout|connection refused|no route to host|network is unreachable|` +
		`connection reset by peer|context deadline exceeded|TLS handshake timeout|Client\.Timeout exceeded|connection timed out|` +
		`code = DeadlineExceeded`)},
	{platform, regexp.MustCompile(`no match for platform|no matching manifest for|image operating system .* cannot be used`)},
	{diskFull, regexp.MustCompile(`no space left on device`)},
	{notFound, regexp.MustCompile(`: not found|manifest unknown|MANIFEST_UNKNOWN|NAME_UNKNOWN|404 Not Found|code = NotFound|name unknown`)},
	{registryFails, regexp.MustCompile(`50[0-9] (Internal Server Error|Bad Gateway|Service Unavailable|Gateway Timeout)|` +
		`unexpected EOF|: EOF|did not include a token in the response`)},
	{throttled, regexp.MustCompile(`pull QPS exceeded`)},
	{unauthorized, regexp.MustCompile(`failed to fetch (anonymous|oauth) token`)},
}

// quoted is what an error repeats of names and addresses: the words in it are not the error's own.
var quoted = regexp.MustCompile(`"[^"]*"`)

// classify says what kind of failure a pull's is.
func classify(pull Pull) class {
	switch pull.Waiting {
	case "ErrImageNeverPull":
		return never
	case "InvalidImageName":
		return badName
	}
	text := quoted.ReplaceAllString(pull.Error+" "+pull.Waiting, `""`)
	if pull.Image != "" {
		text = strings.ReplaceAll(text, pull.Image, "")
	}
	for _, wording := range wordings {
		if wording.words.MatchString(text) {
			return wording.class
		}
	}
	return unknown
}
