package certs

import (
	"crypto/x509"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/tcr-assistant/tcr-assistant/clientset"
)

// unreachable returns clients of an API server that is never asked.
func unreachable(t *testing.T) *clientset.Clientset {
	t.Helper()
	clients, err := clientset.New(&rest.Config{}, http.DefaultClient)
	require.NoError(t, err)
	return clients
}

func TestChoose(t *testing.T) {
	a, b := stubPair("a"), stubPair("b")
	past := &pair{leaf: &x509.Certificate{Raw: []byte("past"), NotBefore: noon.Add(-time.Hour), NotAfter: noon}}

	for _, tc := range []struct {
		name             string
		current, offered *pair
		trusted          view
		want             *pair
	}{
		{"nothing to choose from", nil, nil, nil, nil},
		{"the first is served, whatever is trusted", nil, a, nil, a},
		{"a trusted one replaces another", a, b, both(bundle{a.leaf, b.leaf}), b},
		{"a trusted one replaces one that no longer is", a, b, both(bundle{b.leaf}), b},
		{"one that nothing trusts has to wait", a, b, both(bundle{a.leaf}), a},
		{"one that only one configuration trusts has to wait", a, b, view{{a.leaf, b.leaf}, {a.leaf}}, a},
		{"the last good one goes on without configurations", a, b, nil, a},
		{"the last good one goes on when the secret is lost", a, nil, both(bundle{b.leaf}), a},
		{"an expired one gives way in any case", past, b, both(bundle{past.leaf}), b},
		{"an expired one does not give way to an expired one", past, &pair{leaf: past.leaf}, nil, past},
	} {
		t.Run(tc.name, func(t *testing.T) {
			assert.Same(t, tc.want, choose(tc.current, tc.offered, tc.trusted, noon))
		})
	}
}

func TestServing(t *testing.T) {
	cfg, ca := good(), newAuthority(t)
	cfg.Now = func() time.Time { return noon }
	cfg.Log = slog.New(slog.DiscardHandler)
	first, second := ca.pair(cfg), ca.pair(cfg)
	var published [][]byte
	trust := func(leaves ...*x509.Certificate) { published = [][]byte{bundle(leaves).pem(), bundle(leaves).pem()} }

	s, err := NewServing(unreachable(t), cfg, func() [][]byte { return published })
	require.NoError(t, err)
	served := func() *x509.Certificate {
		got, err := s.GetCertificate(nil)
		require.NoError(t, err)
		return got.Leaf
	}

	_, err = s.GetCertificate(nil)
	require.ErrorContains(t, err, "held no serving certificate yet", "before anything is seen")
	require.ErrorContains(t, s.Ready(noon), "held no serving certificate yet")

	s.observe(secretOf(first))
	assert.Equal(t, first.leaf, served())
	require.ErrorContains(t, s.Ready(noon), "do not trust", "served, and not trusted yet")

	trust(first.leaf)
	require.NoError(t, s.Ready(noon))
	require.ErrorContains(t, s.Ready(noon.Add(time.Hour)), "expired at 2026-03-01T13:00:00Z")

	s.observe(secretOf(second))
	assert.Equal(t, first.leaf, served(), "the new one waits to be trusted")
	require.NoError(t, s.Ready(noon))

	trust(first.leaf, second.leaf)
	assert.Equal(t, second.leaf, served())
	leaf, mode := s.Current()
	assert.Equal(t, second.leaf, leaf)
	assert.Equal(t, ModeSigner, mode)

	s.observe(nil)
	assert.Equal(t, second.leaf, served(), "the last good one goes on without a secret")
	garbage := secretOf(first)
	garbage.Data["tls.key"] = []byte("garbage")
	s.observe(garbage)
	assert.Equal(t, second.leaf, served(), "and with garbage in it")
	require.NoError(t, s.Ready(noon))

	trust(first.leaf)
	require.ErrorContains(t, s.Ready(noon), "do not trust", "when somebody edited the configurations")
}
