package certs_test

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/certs"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/webhook"
)

// serve answers admission on a port of its own, with whatever certificate is returned.
func serve(t *testing.T, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{
		Handler:   webhook.Handler(slog.New(slog.DiscardHandler), pullsecret.NewIndex(), nil, func() error { return nil }),
		TLSConfig: &tls.Config{GetCertificate: certificate, MinVersion: tls.VersionTLS12}, ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	server.SetKeepAlivesEnabled(false) // every admission is a handshake
	go func() { _ = server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() { _ = server.Close() })
	return "https://" + listener.Addr().String()
}

func TestAPIServerTrustsThePinnedLeafAlone(t *testing.T) {
	admit := func(r *rig) error {
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{GenerateName: "pinned-"}}
		_, err := r.Client.CoreV1().ServiceAccounts("default").Create(r.Context(), account, metav1.CreateOptions{})
		return err
	}

	for _, mode := range []certs.Mode{certs.ModeSigner, certs.ModeSelfSigned} {
		t.Run(string(mode), func(t *testing.T) {
			r := newRig(t)
			if mode == certs.ModeSelfSigned {
				r.withoutSigner()
				r.cfg.SignerTimeout = time.Second
			}
			foreign := newForeignPair(t, r, time.Now())
			impostor, err := tls.X509KeyPair(foreign.cert, foreign.key)
			require.NoError(t, err)

			var p *replica
			var swap atomic.Bool
			r.url = serve(t, func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				if swap.Load() {
					return &impostor, nil
				}
				return p.serving.GetCertificate(hello)
			})
			r.policy = admissionregistrationv1.Fail
			p = r.start()
			p.lead()
			leaf := r.converged(nil, p)
			_, got := p.serving.Current()
			require.Equal(t, mode, got)
			r.eventually("an API server that has seen the configuration", func() bool { return admit(r) == nil })

			swap.Store(true)
			err = admit(r)
			require.ErrorContains(t, err, "x509: certificate signed by unknown authority", "an impostor of the cluster's own authority")
			swap.Store(false)
			assert.NoError(t, admit(r))

			require.NoError(t, r.Client.CoreV1().Secrets(namespace).Delete(t.Context(), secretName, metav1.DeleteOptions{}))
			rotated := 0
			for ; len(r.bundles()[0]) != 1 || r.bundles()[0][0].Equal(leaf); rotated++ {
				require.NoError(t, admit(r), "while the certificate rotates")
			}
			assert.Greater(t, rotated, 10)
			require.NoError(t, admit(r))
		})
	}
}
