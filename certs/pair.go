package certs

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// annotationMode records who issued the certificate that a Secret holds.
	annotationMode = "tcr.tencentcloudcr.com/certificate-mode"

	// annotationFingerprint is the SHA-256 of the leaf that a keeper wrote to the Secret. A pair that does not match
	// it was written by somebody else.
	annotationFingerprint = "tcr.tencentcloudcr.com/certificate-sha256"

	// backdate is how far in the past a self-signed certificate begins. An API server refuses one that is not yet valid by its
	// clock, and this process, if its clock is ahead, would not find out. A day is more than clocks are off, and does no harm:
	// nobody had the key before, the certificate vouches only for our own webhook, and its use is bounded by its end and by the
	// bundle that holds it.
	backdate = 24 * time.Hour

	// maxJitter is by which part of the lifetime a renewal may come early.
	maxJitter = 0.05
)

// A pair is a certificate and its key, fit to be served as far as can be told without a clock.
type pair struct {
	mode    Mode
	leaf    *x509.Certificate
	tls     tls.Certificate
	certPEM []byte
	keyPEM  []byte
}

// newPair joins a PEM certificate chain and the PEM key of its leaf. It refuses a certificate that is not for the names and addresses
// of the configuration, or not for serving.
func newPair(mode Mode, certPEM, keyPEM []byte, cfg Config) (*pair, error) {
	joined, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("joining certificate and key: %w", err)
	}
	leaf, err := x509.ParseCertificate(joined.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("parsing the certificate: %w", err)
	}
	joined.Leaf = leaf
	for _, name := range cfg.DNSNames {
		if err := leaf.VerifyHostname(name); err != nil {
			return nil, fmt.Errorf("checking the certificate's names: %w", err)
		}
	}
	for _, ip := range cfg.IPs {
		if err := leaf.VerifyHostname(ip.String()); err != nil {
			return nil, fmt.Errorf("checking the certificate's addresses: %w", err)
		}
	}
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
		return nil, errors.New("checking the certificate's usages: server auth is missing")
	}
	return &pair{mode: mode, leaf: leaf, tls: joined, certPEM: certPEM, keyPEM: keyPEM}, nil
}

// pairOf returns the pair that a keeper wrote to the Secret. The error says why there is none that can be served. It holds nothing of
// the Secret's data.
func pairOf(secret *corev1.Secret, cfg Config) (*pair, error) {
	if secret == nil {
		return nil, errors.New("the secret does not exist")
	}
	certPEM, keyPEM := secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey]
	if len(certPEM) == 0 || len(keyPEM) == 0 {
		return nil, fmt.Errorf("the secret lacks %s or %s", corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
	}
	p, err := newPair(Mode(secret.Annotations[annotationMode]), certPEM, keyPEM, cfg)
	if err != nil {
		return nil, err
	}
	if secret.Annotations[annotationFingerprint] != p.fingerprint() {
		return nil, errors.New("the secret holds a certificate that the manager did not write")
	}
	return p, nil
}

// fingerprint is the hexadecimal SHA-256 of the leaf.
func (p *pair) fingerprint() string {
	sum := sha256.Sum256(p.leaf.Raw)
	return hex.EncodeToString(sum[:])
}

func (p *pair) expired(now time.Time) bool {
	return !now.Before(p.leaf.NotAfter)
}

// renewAt returns when the pair is due for replacement.
func (p *pair) renewAt() time.Time { return Due(p.leaf, p.mode) }

// Due returns when a serving certificate is due for replacement. Every process computes the same time for the same certificate:
// the jitter comes from its fingerprint.
func Due(leaf *x509.Certificate, mode Mode) time.Time {
	sum := sha256.Sum256(leaf.Raw)
	begun := leaf.NotBefore
	if mode == ModeSelfSigned && leaf.NotAfter.Sub(begun) > backdate {
		begun = begun.Add(backdate) // when it was issued
	}
	return Renew(begun, leaf.NotAfter, float64(binary.BigEndian.Uint32(sum[:]))/(1<<32))
}

// Renew returns when a certificate is due for renewal: at two thirds of its lifetime, or up to a twentieth of the
// lifetime earlier, as jitter goes from 0 to 1. It is never later, so that a third is always left if renewals fail.
func Renew(notBefore, notAfter time.Time, jitter float64) time.Time {
	lifetime := notAfter.Sub(notBefore)
	early := time.Duration(float64(lifetime) * maxJitter * min(max(jitter, 0), 1))
	return notBefore.Add(lifetime/3*2 - early)
}

// selfSigned issues a pair whose certificate is signed with its own key. It is a leaf, not a CA: it is trusted because it is
// published, and cannot sign anything else.
func selfSigned(key *ecdsa.PrivateKey, cfg Config, now time.Time) (*pair, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("drawing a serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: RequestName},
		DNSNames:              cfg.DNSNames,
		IPAddresses:           cfg.IPs,
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(cfg.Duration),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate with its own key: %w", err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return newPair(ModeSelfSigned, encode(der), keyPEM, cfg)
}
