package certs

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// secrets is an API server that holds one Secret, or none.
type secrets struct {
	secret  *corev1.Secret
	version int
}

func (s *secrets) ListWithContext(context.Context, metav1.ListOptions) (runtime.Object, error) {
	list := &corev1.SecretList{ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(s.version)}}
	if s.secret != nil {
		list.Items = append(list.Items, *s.secret)
	}
	return list, nil
}

func (s *secrets) WatchWithContext(context.Context, metav1.ListOptions) (watch.Interface, error) {
	return nil, errors.New("nobody watches here")
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
	var log bytes.Buffer
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	logged := func(message string) int { return strings.Count(log.String(), message) }
	first, second := ca.pair(cfg), ca.pair(cfg)
	var published [][]byte
	trust := func(leaves ...*x509.Certificate) { published = [][]byte{bundle(leaves).pem(), bundle(leaves).pem()} }

	server := &secrets{}
	s := newServing(cfg.withDefaults(), server, func() [][]byte { return published })
	hold := func(secret *corev1.Secret) {
		server.version++
		if secret != nil {
			secret.ResourceVersion = strconv.Itoa(server.version)
		}
		server.secret = secret
		require.NoError(t, s.secret.Read(t.Context()))
	}
	served := func() *x509.Certificate {
		got, err := s.GetCertificate(nil)
		require.NoError(t, err)
		return got.Leaf
	}

	_, err := s.GetCertificate(nil)
	require.ErrorContains(t, err, "held no serving certificate yet", "before anything is seen")
	require.ErrorContains(t, s.Ready(noon), "held no serving certificate yet")

	hold(secretOf(first))
	assert.Equal(t, first.leaf, served())
	require.ErrorContains(t, s.Ready(noon), "do not trust", "served, and not trusted yet")

	trust(first.leaf)
	require.NoError(t, s.Ready(noon))
	require.ErrorContains(t, s.Ready(noon.Add(time.Hour)), "expired at 2026-03-01T13:00:00Z")

	hold(secretOf(first))
	assert.Equal(t, first.leaf, served(), "the Secret was read again, as at the begin of a term")
	assert.Equal(t, 1, logged("serving certificate was loaded"))
	assert.Equal(t, 0, logged("serving certificate was swapped"), "for none was")

	hold(secretOf(second))
	assert.Equal(t, first.leaf, served(), "the new one waits to be trusted")
	require.NoError(t, s.Ready(noon))

	trust(first.leaf, second.leaf)
	assert.Equal(t, second.leaf, served())
	assert.Equal(t, 1, logged("serving certificate was swapped"))
	leaf, mode := s.Current()
	assert.Equal(t, second.leaf, leaf)
	assert.Equal(t, ModeSigner, mode)

	hold(nil)
	assert.Equal(t, second.leaf, served(), "the last good one goes on without a secret")
	garbage := secretOf(first)
	garbage.Data["tls.key"] = []byte("garbage")
	hold(garbage)
	assert.Equal(t, second.leaf, served(), "and with garbage in it")
	require.NoError(t, s.Ready(noon))

	trust(first.leaf)
	require.ErrorContains(t, s.Ready(noon), "do not trust", "when somebody edited the configurations")
	published = [][]byte{bundle{second.leaf}.pem(), nil}
	require.NoError(t, s.Ready(noon), "one that does not exist calls nobody")
	published = [][]byte{bundle{second.leaf}.pem(), {}}
	require.ErrorContains(t, s.Ready(noon), "do not trust", "one that trusts nothing does")
	published = [][]byte{nil, nil}
	require.ErrorContains(t, s.Ready(noon), "do not trust", "nobody does")
}
