package check

import (
	"crypto/x509"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/tcr-assistant/tcr-assistant/image"
)

// AuthoritiesKey is the key under which a Secret holds the certificate authorities of a registry.
const AuthoritiesKey = "ca.crt"

// Each returns a copy of how for each of these servers. If the image's name begins with one of them, only that one is asked for the image;
// at the others it is a plain login.
func Each(servers []string, how Login) []Login {
	named := slices.IndexFunc(servers, func(server string) bool { return image.IsOf(how.Image, server) })
	logins := make([]Login, len(servers))
	for i, server := range servers {
		logins[i] = how
		logins[i].Server = server
		if named >= 0 && named != i {
			logins[i].Image = ""
		}
	}
	return logins
}

// Authorities returns the certificate authorities that the Secret of that name holds, or why there are none: then the result is Unknown. A
// nil secret means that it does not exist.
func Authorities(name string, secret *corev1.Secret) (*x509.CertPool, *Result) {
	unknown := func(reason, format string) *Result {
		return &Result{Unknown, reason, fmt.Sprintf(format, name, AuthoritiesKey)}
	}
	if secret == nil {
		return nil, unknown("AuthoritiesMissing",
			"secret %s does not exist: create it, with the PEM certificates of the registry's authorities under %s")
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(secret.Data[AuthoritiesKey]) {
		return nil, unknown("AuthoritiesInvalid",
			"secret %s holds no certificate under %s: write the PEM certificates of the registry's authorities there")
	}
	return roots, nil
}
