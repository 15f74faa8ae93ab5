package certs

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"time"
)

const certificateBlock = "CERTIFICATE"

// A bundle is a set of certificates that the API server trusts or should trust. The one that was added last is at the end.
type bundle []*x509.Certificate

// parseBundle returns the certificates of a PEM bundle, each once. Anything else in it is ignored: a bundle that was edited by hand
// is replaced.
func parseBundle(data []byte) bundle {
	var found bundle
	for block := (*pem.Block)(nil); ; {
		if block, data = pem.Decode(data); block == nil {
			return found
		}
		if block.Type != certificateBlock {
			continue
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			found = found.with(cert)
		}
	}
}

// pem returns the bundle in the format of a caBundle.
func (b bundle) pem() []byte {
	var out bytes.Buffer
	for _, cert := range b {
		out.Write(encode(cert.Raw))
	}
	return out.Bytes()
}

func encode(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: der})
}

func (b bundle) holds(cert *x509.Certificate) bool {
	return slices.ContainsFunc(b, cert.Equal)
}

// with returns the bundle with the certificate in it. The receiver is not changed.
func (b bundle) with(cert *x509.Certificate) bundle {
	if b.holds(cert) {
		return b
	}
	return append(slices.Clone(b), cert)
}

// withLast returns the bundle with the certificate at its end. The receiver is not changed.
func (b bundle) withLast(cert *x509.Certificate) bundle {
	return append(slices.DeleteFunc(slices.Clone(b), cert.Equal), cert)
}

// newest returns at most that many certificates: those that were added last.
func (b bundle) newest(most int) bundle {
	return b[max(0, len(b)-most):]
}

// unexpired returns the certificates that have not expired.
func (b bundle) unexpired(now time.Time) bundle {
	return slices.DeleteFunc(slices.Clone(b), func(cert *x509.Certificate) bool { return !now.Before(cert.NotAfter) })
}

// equal reports whether both hold the same certificates.
func (b bundle) equal(other bundle) bool {
	return len(b) == len(other) && !slices.ContainsFunc(b, func(cert *x509.Certificate) bool { return !other.holds(cert) })
}

// A view is what each of the webhook configurations trusts.
type view []bundle

func parseView(published [][]byte) view {
	v := make(view, len(published))
	for i, data := range published {
		v[i] = parseBundle(data)
	}
	return v
}

// union returns the certificates that any configuration trusts.
func (v view) union() bundle {
	var all bundle
	for _, b := range v {
		for _, cert := range b {
			all = all.with(cert)
		}
	}
	return all
}

// trusts reports whether every configuration trusts the certificate.
func (v view) trusts(cert *x509.Certificate) bool {
	return len(v) > 0 && !slices.ContainsFunc(v, func(b bundle) bool { return !b.holds(cert) })
}

// is reports whether every configuration trusts exactly the bundle.
func (v view) is(want bundle) bool {
	return len(v) > 0 && !slices.ContainsFunc(v, func(b bundle) bool { return !b.equal(want) })
}
