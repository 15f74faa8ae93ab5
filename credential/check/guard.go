package check

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// guard lets requests pass only to where a credential may be sent, and records how they were answered.
type guard struct {
	next     http.RoundTripper
	host     string
	realms   []string
	password string
	// asked is the host that was asked last; open is whether it has not answered yet.
	asked string
	open  bool
	hops  []hop
	// token is the bearer token that the registry's token service issued; blank if it issued none.
	token string
}

// hop is a request that was answered.
type hop struct {
	host   string
	status int
	// login is whether it carried the credential itself, token whether it carried a token issued for it.
	login, token bool
}

// elsewhereError is a request that was not sent, because it would have taken the credential to another domain.
type elsewhereError struct{ host string }

func (e *elsewhereError) Error() string {
	return fmt.Sprintf("the registry wants the credential sent to %s, which is in another domain", e.host)
}

// plainError is a request that was not sent, because it would have sent the credential in clear text.
type plainError struct{ host string }

func (e *plainError) Error() string {
	return fmt.Sprintf("the registry wants the credential sent to %s without TLS", e.host)
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(request *http.Request) (*http.Response, error) {
	switch {
	case request.URL.Host == "":
		return nil, errors.New("the registry names no host to send the credential to")
	case request.URL.Scheme != "https":
		return nil, &plainError{g.named(request.URL.Host)}
	case !g.allows(request.URL.Host):
		return nil, &elsewhereError{g.named(request.URL.Host)}
	}
	g.asked, g.open = request.URL.Host, true
	response, err := g.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	authorization := request.Header.Get("Authorization")
	if token, is := strings.CutPrefix(authorization, "Bearer "); is {
		g.token = token
	}
	if response.StatusCode == http.StatusUnauthorized && authorization == "" {
		if err := g.settle(response.Header); err != nil {
			return nil, errors.Join(err, response.Body.Close())
		}
	}
	g.open = false
	g.hops = append(g.hops, hop{
		host: request.URL.Host, status: response.StatusCode,
		login: strings.HasPrefix(authorization, "Basic "), token: strings.HasPrefix(authorization, "Bearer "),
	})
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(response.Body, maxBody), response.Body}
	return response, nil
}

// last returns the request that was answered last; a zero hop if none was. Without an error, its status is the one that the client
// returned.
func (g *guard) last(status int, err error) hop {
	last := hop{}
	if len(g.hops) > 0 {
		last = g.hops[len(g.hops)-1]
	}
	if err == nil {
		last.status = status
	}
	return last
}

func (g *guard) allows(host string) bool {
	same := func(other string) bool { return strings.EqualFold(withPort(host), withPort(other)) }
	if same(g.host) || slices.ContainsFunc(g.realms, same) {
		return true
	}
	own, theirs := domainOf(g.host), domainOf(host)
	return own != "" && own == theirs
}

// withPort returns a host with its port: 443 unless it names one.
func withPort(host string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return host + ":443"
}

// domainOf returns the registrable domain of a host; blank for an address, and for a name under no public suffix.
func domainOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(host)
	if net.ParseIP(strings.Trim(host, "[]")) != nil || !public(host) {
		return ""
	}
	domain, err := publicsuffix.EffectiveTLDPlusOne(host)
	if err != nil {
		return ""
	}
	return domain
}

// public reports whether a name is under a suffix of the public suffix list. For others, such as cluster.local, the list treats the last
// label as a public suffix, so all names of a cluster would count as one owner's.
func public(host string) bool {
	suffix, authority := publicsuffix.PublicSuffix(host)
	return authority || strings.Contains(suffix, ".")
}
