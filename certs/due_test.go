package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestASelfSignedCertificateIsRenewedBeforeTheAlertSaysThatItIsNot holds that the time of renewal that is exported is the time of
// renewal, which the certificate's own dates do not tell: one that is self-signed is dated back.
func TestASelfSignedCertificateIsRenewedBeforeTheAlertSaysThatItIsNot(t *testing.T) {
	for _, life := range []time.Duration{10 * time.Minute, time.Hour, 24 * time.Hour, 7 * 24 * time.Hour, 90 * 24 * time.Hour} {
		for range 50 {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			require.NoError(t, err)
			now := time.Now()
			p, err := selfSigned(key, Config{DNSNames: []string{"a.svc"}, Duration: life}, now)
			require.NoError(t, err)
			due := Due(p.leaf, p.mode)
			next := decide(state{now: due, held: p, known: bundle{p.leaf}, published: parseView([][]byte{bundle{p.leaf}.pem()})})
			assert.IsType(t, issue{}, next, "of %s", life)
			assert.WithinRange(t, due, now.Add(life*6/10-time.Second), now.Add(life*2/3), "of %s, from when it was made", life)
		}
	}
}
