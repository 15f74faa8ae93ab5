package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// callersPeriod is how often the file of Callers is checked for changes. A mounted Secret or ConfigMap takes longer than that to
// change anyway.
const callersPeriod = 5 * time.Second

// Callers decides who may call the webhook: those with a client certificate that a CA listed in a file has signed.
type Callers struct {
	log  *slog.Logger
	file string

	current atomic.Pointer[authorities]
}

type authorities struct {
	text  []byte
	pool  *x509.CertPool
	until time.Time // when the last of them expires
}

// NewCallers reads the file, which holds the PEM certificates of those CAs.
func NewCallers(log *slog.Logger, file string) (*Callers, error) {
	c := &Callers{log: log, file: file}
	read, err := c.read()
	if err != nil {
		return nil, err
	}
	c.current.Store(read)
	return c, nil
}

func (c *Callers) read() (*authorities, error) {
	text, err := os.ReadFile(c.file)
	if err != nil {
		return nil, fmt.Errorf("reading who may call the webhook: %w: it must be a file of PEM certificates of the authorities that sign "+
			"the API servers' client certificates", err)
	}
	read, err := parseAuthorities(text)
	if err != nil {
		return nil, fmt.Errorf("reading who may call the webhook: %s: %w", c.file, err)
	}
	return read, nil
}

// parseAuthorities parses PEM certificates. Anything else in the text is an error: above all, a key does not belong there.
func parseAuthorities(text []byte) (*authorities, error) {
	const instead = `write the PEM certificate of the authority that signs the API servers' client certificates, ` +
		`"-----BEGIN CERTIFICATE-----" and what follows`
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, errors.New("it is empty: " + instead)
	}
	read := &authorities{text: text, pool: x509.NewCertPool()}
	for number := 1; len(bytes.TrimSpace(text)) > 0; number++ {
		block, rest := pem.Decode(text)
		switch {
		case block == nil && number == 1:
			return nil, errors.New("it holds no PEM: " + instead)
		case block == nil:
			return nil, fmt.Errorf("what follows PEM block %d is not PEM: %s", number-1, instead)
		case block.Type != "CERTIFICATE":
			return nil, fmt.Errorf("PEM block %d is not a certificate, but of type %q: %s", number, block.Type, instead)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("PEM block %d cannot be read as a certificate: %w: %s", number, err, instead)
		}
		read.pool.AddCert(certificate)
		if certificate.NotAfter.After(read.until) {
			read.until = certificate.NotAfter
		}
		text = rest
	}
	return read, nil
}

// Run reads the file again whenever it has changed, until ctx ends. While it cannot be read, the CAs from before still count.
func (c *Callers) Run(ctx context.Context) {
	tick := time.NewTicker(callersPeriod)
	defer tick.Stop()
	said, expired := "", false
	for {
		was, until := expired, c.current.Load().until
		if expired = time.Now().After(until); expired && !was {
			c.log.Error("authorities of the webhook's callers have expired, everybody is refused", "file", c.file, "notAfter", until)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		read, err := c.read()
		switch {
		case err != nil && err.Error() != said:
			said = err.Error()
			c.log.Error("authorities of the webhook's callers were not read again, those from before are kept", "error", err)
		case err != nil:
		case !bytes.Equal(read.text, c.current.Load().text):
			said = ""
			c.current.Store(read)
			c.log.Info("authorities of the webhook's callers were read again", "file", c.file)
		default:
			said = ""
		}
	}
}

// Admit makes a server that NewServer returned refuse everybody else, in the TLS handshake. Open connections are not checked again.
func (c *Callers) Admit(server *http.Server) {
	usual := server.TLSConfig
	choose := usual.GetConfigForClient
	usual.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		config, err := choose(hello)
		if config == nil {
			config = usual
		}
		return c.demand(config), err
	}
}

// demand returns a TLS configuration that refuses whoever shows no certificate signed by one of the CAs. Each connection gets its own,
// so that nobody resumes a session that began under other CAs.
func (c *Callers) demand(config *tls.Config) *tls.Config {
	config = config.Clone()
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, c.current.Load().pool
	config.SessionTicketsDisabled = true
	return config
}
