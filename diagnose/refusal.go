package diagnose

import (
	"regexp"
	"strings"

	"github.com/tcr-assistant/tcr-assistant/image"
)

// class is the kind of failure that a container runtime reported.
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

// ofCredentials reports whether failures of a class depend on a credential.
func (c class) ofCredentials() bool { return c == unauthorized || c == scope || c == unreadable }

// answered matches an answer's status, whatever text follows it: servers such as nginx use their own.
func answered(status string) string {
	return `(?:^|[:\[] |HTTP |status |code |registry )` + status + `(?:[ ,(]|$)`
}

// wordings are the words in which kubelets, containerd, CRI-O and Docker report each class. An error may match several: if a pod
// has several credentials, it holds the failure of each. The first match decides.
var wordings = []struct {
	class class
	words *regexp.Regexp
}{
	// At the start of an error this is from the kubelet; behind other words it is about a registry's answer that is not JSON.
	{unreadable, regexp.MustCompile(`^(?:Back-off pulling image "": )?(?:ErrImagePull: )?(?:illegal base64 data|json: cannot unmarshal|` +
		`unable to parse auth field|invalid character .* (?:looking for|after|in)|unexpected end of JSON input)`)},
	{rateLimit, regexp.MustCompile(answered("429") + `|toomanyrequests|pull rate limit|too many requests to registry`)},
	{certificate, regexp.MustCompile(`x509: |tls: failed to verify certificate`)},
	{plainHTTP, regexp.MustCompile(`server gave HTTP response to HTTPS client|first record does not look like a TLS handshake`)},
	{noSuchHost, regexp.MustCompile(`no such host|server misbehaving|Temporary failure in name resolution|dial \w+: lookup |` +
		`lookup .* i/o timeout`)},
	{scope, regexp.MustCompile(`insufficient_scope|` + answered("403") + `|requested access to the resource is denied|: denied: |^denied: `)},
	{unauthorized, regexp.MustCompile(answered("401") + `|[Uu]nauthorized: |no basic auth credentials|invalid username/password|` +
		`invalid_token|authentication required|incorrect username or password|authorization failed|pull access denied`)},
	{timeout, regexp.MustCompile(`i/o timeout|connection refused|no route to host|network is unreachable|` +
		`connection reset by peer|context deadline exceeded|TLS handshake timeout|Client\.Timeout exceeded|connection timed out|` +
		`code = DeadlineExceeded`)},
	{platform, regexp.MustCompile(`no match for platform|no matching manifest for|image operating system .* cannot be used`)},
	{diskFull, regexp.MustCompile(`no space left on device`)},
	{notFound, regexp.MustCompile(`: not found|manifest unknown|MANIFEST_UNKNOWN|NAME_UNKNOWN|` + answered("404") +
		`|code = NotFound|name unknown`)},
	{registryFails, regexp.MustCompile(answered("5[0-9][0-9]") + `|unexpected EOF|: EOF|did not include a token in the response|` +
		`invalid character .* (?:looking for|after|in)|unexpected end of JSON input`)},
	{throttled, regexp.MustCompile(`pull QPS exceeded`)},
	{unauthorized, regexp.MustCompile(`failed to fetch (anonymous|oauth) token`)},
}

// Names and addresses that an error repeats: the words in them are not the error's own.
var (
	quoted  = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	address = regexp.MustCompile(`\w+://[^\s"]*[^\s",:;)]`)
	version = regexp.MustCompile(`reading manifest \S+ in `)
)

// ownWords returns an error about an image without the names and addresses that it repeats.
func ownWords(text, of string) string {
	text = quoted.ReplaceAllString(text, `""`)
	text = version.ReplaceAllString(address.ReplaceAllString(text, ""), "in ")
	if strings.ContainsAny(of, "/:@") { // else it may be one of the error's words
		text = strings.ReplaceAll(text, of, "")
	}
	if name, err := image.Parse(of); err == nil {
		text = strings.ReplaceAll(text, name.Repository(), "")
	}
	return strings.TrimSpace(text)
}

// classify returns the class of a pull's failure.
func classify(pull Pull) class {
	switch pull.Waiting {
	case "ErrImageNeverPull":
		return never
	case "InvalidImageName":
		return badName
	}
	text := ownWords(pull.Error+" "+pull.Waiting, pull.Image)
	for _, wording := range wordings {
		if wording.words.MatchString(text) {
			return wording.class
		}
	}
	return unknown
}
