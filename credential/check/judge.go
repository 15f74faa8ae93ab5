package check

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
)

// judge returns what the answers of a registry mean.
func (l *Login) judge(guard *guard, status int, err error) Result {
	last := guard.last(status, err)
	if err != nil && (guard.open || last.status < http.StatusMultipleChoices || !last.login) {
		return l.unreached(guard, err)
	}
	said := fmt.Sprintf("%s answered %d", guard.named(last.host), last.status)
	switch code := last.status; {
	case fails(code):
		return failure(code, said)
	case l.refuses(last):
		return l.refused(last, said)
	case succeeded(code) && guard.loggedIn():
		return Result{Valid, "LoggedIn", fmt.Sprintf("%s took the credential%s", l.Server, l.forImage())}
	case succeeded(code):
		return Result{Unknown, "AnonymousAccess",
			l.Server + " asks nobody for a credential here, which proves nothing: name an image that is private"}
	case code == http.StatusNotFound && l.Image != "":
		return Result{Unknown, "ImageNotFound", fmt.Sprintf("%s: there is no %s, or the credential may not see it", said, l.Image)}
	case code >= http.StatusMultipleChoices && code < http.StatusBadRequest:
		return Result{Unknown, "Redirected", said + ", a redirect, which is not followed with a credential: name the host that it leads to"}
	default:
		return Result{Unknown, "NotUnderstood", said + ", which says nothing about the credential: check whether this is a registry"}
	}
}

// fails reports whether an answer is about the server's own state: 429 or 5xx.
func fails(status int) bool {
	return status == http.StatusTooManyRequests || status >= http.StatusInternalServerError
}

// failure returns the result of such an answer.
func failure(status int, said string) Result {
	if status == http.StatusTooManyRequests {
		return Result{Unknown, "RateLimited", said + ": it wants fewer requests"}
	}
	return Result{Unknown, "RegistryFails", said + ", which is an error on its side"}
}

// refuses reports whether an answer refuses the credential: with a 401, or with a 403 if an image was asked for.
func (l *Login) refuses(last hop) bool {
	asked := last.login || last.token
	return asked && (last.status == http.StatusUnauthorized || last.status == http.StatusForbidden && l.Image != "")
}

func (l *Login) refused(last hop, said string) Result {
	switch {
	case last.status == http.StatusUnauthorized && last.login:
		return Result{Refused, "Unauthorized", said + " to the user name and password: write valid ones"}
	case l.Image == "":
		return Result{Refused, "Unauthorized", said + " to the token that it had issued for the credential"}
	default:
		return Result{Refused, "InsufficientScope", fmt.Sprintf("%s: the credential may not pull %s", said, l.Image)}
	}
}

func succeeded(status int) bool {
	return status >= http.StatusOK && status < http.StatusMultipleChoices
}

func (l *Login) forImage() string {
	if l.Image == "" {
		return ""
	}
	return " for " + l.Image
}

// loggedIn reports whether a host took the credential itself.
func (g *guard) loggedIn() bool {
	for _, hop := range g.hops {
		if hop.login && succeeded(hop.status) {
			return true
		}
	}
	return false
}

// proxyError is the answer of a proxy that refused a CONNECT request.
type proxyError struct{ status int }

func (e *proxyError) Error() string { return fmt.Sprintf("the proxy answered %d", e.status) }

// unreached returns why there is no decisive answer. It quotes no error whose text may come from a registry.
func (l *Login) unreached(guard *guard, err error) Result {
	asked := guard.named(cmp.Or(guard.asked, l.Server))
	var elsewhere *elsewhereError
	var address *addressError
	var plain *plainError
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var proxy *proxyError
	var timeout net.Error
	var operation *net.OpError
	switch {
	case errors.As(err, &elsewhere):
		return Result{Unknown, "RealmElsewhere", elsewhere.Error() + ": if that is right, list it in the realms of the check"}
	case errors.As(err, &address):
		return Result{Unknown, "RealmAddress", address.Error() + ": it is not sent there. Have the registry name the host by its domain name"}
	case errors.As(err, &plain):
		return Result{Unknown, "PlainHTTP", plain.Error() + ": it is not sent"}
	case errors.As(err, &name):
		return Result{Unknown, "NameNotResolved", fmt.Sprintf("%s does not resolve here", guard.named(name.Name))}
	case errors.As(err, &certificate):
		return Result{Unknown, "CertificateUnknown", fmt.Sprintf("the certificate of %s %s", asked, flawOf(certificate.Err))}
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return Result{Unknown, "PlainHTTP", asked + " answers without TLS"}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return Result{Unknown, "Timeout", asked + " did not answer in time"}
	case errors.As(err, &proxy):
		return Result{Unknown, "Unreachable", fmt.Sprintf("the proxy answered %d instead of leading to %s", proxy.status, asked)}
	case errors.As(err, &operation) && operation.Op == "proxyconnect":
		return Result{Unknown, "Unreachable", "the proxy on the way to " + asked + " cannot be reached from here"}
	case errors.As(err, &operation):
		return Result{Unknown, "Unreachable", asked + " cannot be reached from here"}
	default:
		return Result{Unknown, "NotUnderstood", asked + " does not answer as a registry does"}
	}
}

// flawOf says what is wrong with a certificate.
func flawOf(err error) string {
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &name):
		return "is for other names: use one of them, or have it reissued"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "has expired, or is not valid yet: have it renewed, or check the clock here"
	default:
		return "is not trusted here: name the authority that issued it"
	}
}
