package check

import (
	"crypto/x509"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/tcr-assistant/tcr-assistant/image"
)

// AuthoritiesKey is the key under which a Secret holds the authorities that a registry's certificate is of.
const AuthoritiesKey = "ca.crt"

// Each returns how a credential is tried at each of these servers: as how says. An image whose name begins with one of them is asked for
// at that one alone, and the others are logged in to.
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

// Authorities returns those that the Secret of that name holds, which is nil where there is none, or why there are none: then nothing
// can be said of a credential.
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
