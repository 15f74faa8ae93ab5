package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func newKey(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

// An authority signs as the cluster's signer does.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "cluster"}, NotBefore: noon.Add(-time.Hour),
		NotAfter: noon.AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{t, cert, key}
}

// sign issues a leaf for the key, after it went through the given changes.
func (a *authority) sign(key *ecdsa.PrivateKey, cfg Config, changes ...func(*x509.Certificate)) []byte {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(a.t, err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{requestOrganization}, CommonName: requestCommonName},
		DNSNames: cfg.DNSNames, IPAddresses: cfg.IPs, NotBefore: noon.Add(-5 * time.Minute), NotAfter: noon.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, change := range changes {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	require.NoError(a.t, err)
	return encode(der)
}

func (a *authority) pair(cfg Config) *pair {
	key := newKey(a.t)
	p, err := verifyIssued(a.sign(key, cfg), key, cfg, noon)
	require.NoError(a.t, err)
	return p
}

// secretOf is the Secret as a keeper writes it.
func secretOf(p *pair) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{annotationMode: string(p.mode), annotationFingerprint: p.fingerprint()}},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{corev1.TLSCertKey: p.certPEM, corev1.TLSPrivateKeyKey: p.keyPEM},
	}
}

func TestRenew(t *testing.T) {
	const day = 24 * time.Hour
	for _, tc := range []struct {
		name     string
		lifetime time.Duration
		jitter   float64
		want     time.Duration // after it began
	}{
		{"two thirds without jitter", 3 * day, 0, 2 * day},
		{"a twentieth of the lifetime earlier with all of it", 300 * time.Hour, 1, 185 * time.Hour},
		{"the shortest certificate, backdated by its signer", 15 * time.Minute, 0, 10 * time.Minute},
		{"jitter beyond its range is cut", 300 * time.Hour, 7, 185 * time.Hour},
		{"jitter below its range is cut", 3 * day, -7, 2 * day},
		{"a certificate without a lifetime is due at once", 0, 0.5, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			assert.Equal(t, tc.want, Renew(noon, noon.Add(tc.lifetime), tc.jitter).Sub(noon))
		})
	}

	t.Run("a pair's renewal is never past two thirds, nor early by more than a twentieth", func(t *testing.T) {
		ca, seen := newAuthority(t), map[time.Duration]bool{}
		for range 50 {
			p := ca.pair(good())
			lifetime := p.leaf.NotAfter.Sub(p.leaf.NotBefore)
			early := p.leaf.NotBefore.Add(lifetime / 3 * 2).Sub(p.renewAt())
			assert.GreaterOrEqual(t, early, time.Duration(0))
			assert.LessOrEqual(t, early, lifetime/20)
			assert.Equal(t, p.renewAt(), p.renewAt())
			seen[early] = true
		}
		assert.Greater(t, len(seen), 40, "certificates differ in their jitter")
	})
}

func TestPairOf(t *testing.T) {
	cfg, ca := good(), newAuthority(t)
	fine, other := ca.pair(cfg), ca.pair(cfg)
	narrow := ca.pair(Config{DNSNames: cfg.DNSNames})
	elsewhere := ca.pair(Config{DNSNames: []string{"other.svc"}, IPs: cfg.IPs})
	const password = "c2VjcmV0LWtleS1tYXRlcmlhbA"

	for _, tc := range []struct {
		name   string
		secret func() *corev1.Secret
		want   string // in the error; nothing: a good pair
	}{
		{"what a keeper wrote is good", func() *corev1.Secret { return secretOf(fine) }, ""},
		{"no secret", func() *corev1.Secret { return nil }, "does not exist"},
		{"an empty secret", func() *corev1.Secret { return &corev1.Secret{} }, "lacks tls.crt or tls.key"},
		{"emptied keys", func() *corev1.Secret {
			s := secretOf(fine)
			s.Data[corev1.TLSPrivateKeyKey] = nil
			return s
		}, "lacks tls.crt or tls.key"},
		{"garbage for a certificate", func() *corev1.Secret {
			s := secretOf(fine)
			s.Data[corev1.TLSCertKey] = []byte("garbage")
			return s
		}, "joining certificate and key"},
		{"garbage for a key", func() *corev1.Secret {
			s := secretOf(fine)
			s.Data[corev1.TLSPrivateKeyKey] = []byte("-----BEGIN PRIVATE KEY-----\n" + password + "\n-----END PRIVATE KEY-----\n")
			return s
		}, "joining certificate and key"},
		{"the key of another certificate", func() *corev1.Secret {
			s := secretOf(fine)
			s.Data[corev1.TLSPrivateKeyKey] = other.keyPEM
			return s
		}, "private key does not match public key"},
		{"a pair that somebody else put there", func() *corev1.Secret {
			s := secretOf(fine)
			s.Data = secretOf(other).Data
			return s
		}, "did not write"},
		{"a pair without a mark", func() *corev1.Secret {
			s := secretOf(fine)
			s.Annotations = nil
			return s
		}, "did not write"},
		{"another name", func() *corev1.Secret { return secretOf(elsewhere) }, "checking the certificate's names"},
		{"an address too few", func() *corev1.Secret { return secretOf(narrow) }, "checking the certificate's addresses"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := pairOf(tc.secret(), cfg)
			if tc.want == "" {
				require.NoError(t, err)
				assert.Equal(t, fine.fingerprint(), p.fingerprint())
				assert.Equal(t, ModeSigner, p.mode)
				return
			}
			require.ErrorContains(t, err, tc.want)
			assert.NotContains(t, err.Error(), password)
		})
	}
}

// handshake is what an API server does that trusts the bundle and calls the webhook by the given name.
func handshake(t *testing.T, served *pair, trusted bundle, name string) error {
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{served.tls}, MinVersion: tls.VersionTLS12})
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		if conn, err := listener.Accept(); err == nil {
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}
	}()
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(trusted.pem()))
	conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{RootCAs: roots, ServerName: name,
		Time: func() time.Time { return noon }})
	if err == nil {
		require.NoError(t, conn.Close())
	}
	return err
}

func TestPinnedLeaf(t *testing.T) {
	cfg, ca := good(), newAuthority(t)
	issued, impostor := ca.pair(cfg), ca.pair(cfg)
	own, err := selfSigned(newKey(t), cfg, noon)
	require.NoError(t, err)

	for _, p := range []*pair{issued, own} {
		t.Run(string(p.mode)+" leaf is accepted for every name by a bundle that holds nothing else", func(t *testing.T) {
			for _, name := range []string{"webhook.example.svc", "127.0.0.1"} {
				assert.NoError(t, handshake(t, p, bundle{p.leaf}, name))
			}
		})
		t.Run(string(p.mode)+" leaf is accepted beside another one", func(t *testing.T) {
			assert.NoError(t, handshake(t, p, bundle{issued.leaf, own.leaf}, cfg.DNSNames[0]))
		})
		t.Run(string(p.mode)+" leaf is refused for another name", func(t *testing.T) {
			assert.Error(t, handshake(t, p, bundle{p.leaf}, "other.svc"))
		})
		t.Run(string(p.mode)+" leaf is no authority", func(t *testing.T) {
			assert.False(t, p.leaf.IsCA)
			assert.Zero(t, p.leaf.KeyUsage&x509.KeyUsageCertSign)
		})
	}
	t.Run("another certificate of the same authority for the same names is refused", func(t *testing.T) {
		assert.Error(t, handshake(t, impostor, bundle{issued.leaf}, cfg.DNSNames[0]))
		assert.NoError(t, handshake(t, impostor, bundle{ca.cert}, cfg.DNSNames[0]), "which pinning the authority would not have")
	})
	t.Run("self-signed leaf lasts as long as configured and is marked as such", func(t *testing.T) {
		cfg := cfg
		cfg.Duration = MinDuration
		p, err := selfSigned(newKey(t), cfg, noon)
		require.NoError(t, err)
		assert.Equal(t, noon.Add(MinDuration), p.leaf.NotAfter)
		assert.Equal(t, noon.Add(-backdate), p.leaf.NotBefore)
		again, err := pairOf(secretOf(p), cfg)
		require.NoError(t, err)
		assert.Equal(t, ModeSelfSigned, again.mode)
	})
	t.Run("self-signed leaf of a leader whose clock is hours ahead is accepted by API servers", func(t *testing.T) {
		p, err := selfSigned(newKey(t), cfg, noon.Add(23*time.Hour))
		require.NoError(t, err)
		roots := x509.NewCertPool()
		roots.AddCert(p.leaf)
		_, err = p.leaf.Verify(x509.VerifyOptions{DNSName: cfg.DNSNames[0], Roots: roots, CurrentTime: noon})
		assert.NoError(t, err)
	})
	t.Run("self-signed leaf is renewed by its life since it was made", func(t *testing.T) {
		for _, life := range []time.Duration{MinDuration, DefaultDuration} {
			cfg := cfg
			cfg.Duration = life
			p, err := selfSigned(newKey(t), cfg, noon)
			require.NoError(t, err)
			after := p.renewAt().Sub(noon)
			assert.LessOrEqual(t, after, life/3*2)
			assert.GreaterOrEqual(t, after, life/3*2-life/20-time.Second)
		}
	})
}

func TestParseBundle(t *testing.T) {
	ca := newAuthority(t)
	a, b := ca.pair(good()).leaf, ca.pair(good()).leaf
	for _, tc := range []struct {
		name string
		pem  string
		want bundle
	}{
		{"nothing", "", nil},
		{"garbage", "not a certificate", nil},
		{"what pem wrote", string(bundle{a, b}.pem()), bundle{a, b}},
		{"doubles count once", string(bundle{a, a}.pem()), bundle{a}},
		{"text around blocks is passed over", "hello\n" + string(bundle{a}.pem()) + "bye\n", bundle{a}},
		{"other blocks are passed over", strings.ReplaceAll(string(bundle{a}.pem()), "CERTIFICATE", "PUBLIC KEY") + string(bundle{b}.pem()),
			bundle{b}},
		{"a block that does not parse is passed over", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + string(bundle{b}.pem()),
			bundle{b}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := parseBundle([]byte(tc.pem))
			assert.True(t, got.equal(tc.want), "%d certificates", len(got))
		})
	}
}
