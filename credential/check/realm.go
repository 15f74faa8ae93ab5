package check

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// addressError is a request that was not sent, because the library sends none to such an address.
type addressError struct{ host string }

func (e *addressError) Error() string {
	return fmt.Sprintf("the registry wants the credential sent to %s, a private or local address", e.host)
}

const challengeHeader = "WWW-Authenticate"

// realmForm finds the realm of a challenge. It only affects the message: whether a request is sent is decided by allows.
var realmForm = regexp.MustCompile(`(?i)[ ,]realm="([^"]*)"`)

// settle keeps only the challenge of an answer that a container runtime prefers, and returns an error if its realm must not be asked.
func (g *guard) settle(answer http.Header) error {
	var chosen string
	for _, challenge := range answer.Values(challengeHeader) {
		if scheme := schemeOf(challenge); scheme == "bearer" || scheme == "basic" && schemeOf(chosen) != "basic" {
			chosen = challenge
		}
		if schemeOf(chosen) == "bearer" {
			break
		}
	}
	if chosen == "" {
		return nil
	}
	answer.Set(challengeHeader, chosen)
	found := realmForm.FindStringSubmatch(chosen)
	if schemeOf(chosen) != "bearer" || found == nil {
		return nil
	}
	realm, err := url.Parse(found[1])
	if err != nil || realm.Host == "" {
		return nil
	}
	switch {
	case realm.Scheme == "http":
		return &plainError{g.named(realm.Host)}
	case realm.Scheme == "https" && !g.allows(realm.Host):
		return &elsewhereError{g.named(realm.Host)}
	case realm.Scheme == "https" && inward(realm.Hostname()) && realm.Hostname() != (&url.URL{Host: g.host}).Hostname():
		return &addressError{g.named(realm.Host)}
	}
	return nil
}

func schemeOf(challenge string) string {
	scheme, _, _ := strings.Cut(challenge, " ")
	return strings.ToLower(scheme)
}

// inward reports whether a host is an address that the library sends no credential to, unless it is the registry's own.
func inward(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && (ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip.IsPrivate() || ip.IsUnspecified())
}

// maxName is the maximum length of a host in a message: a domain name and a port.
const maxName = 253 + len(":65535")

// named returns a host as messages may show it: a registry that knows the password could return it as part of a host name.
func (g *guard) named(host string) string {
	secret := strings.ToLower(g.password)
	if host != g.host && (len(host) > maxName || secret != "" && strings.Contains(strings.ToLower(host), secret)) {
		return "a host that is not named here"
	}
	return host
}
