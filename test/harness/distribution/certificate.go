package distribution

import (
	"crypto/tls"

	"github.com/tcr-assistant/tcr-assistant/test/harness/selfsigned"
)

// Certificate is one that signed itself, with its key.
type Certificate struct {
	// PEM is the certificate, Pair it with its key, KeyPEM the key.
	PEM, KeyPEM []byte
	Pair        tls.Certificate
}

// NewCertificate returns a certificate of a host, which may be an address, for a day.
func NewCertificate(host string) (*Certificate, error) {
	certificate, key, err := selfsigned.New(host)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	return &Certificate{PEM: certificate, KeyPEM: key, Pair: pair}, err
}
