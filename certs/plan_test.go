package certs

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// stub is a certificate as far as decisions look at it: it begins an hour before noon and lasts three.
func stub(name string) *x509.Certificate {
	return &x509.Certificate{Raw: []byte(name), NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(2 * time.Hour)}
}

// both is what two configurations trust that agree.
func both(b bundle) view {
	return view{b, b}
}

func stubPair(name string) *pair {
	return &pair{mode: ModeSigner, leaf: stub(name)}
}

// told renders an action with the names of its certificates.
func told(a action) string {
	p, ok := a.(publish)
	if !ok {
		return a.String()
	}
	var names []string
	for _, cert := range p.bundle {
		names = append(names, string(cert.Raw))
	}
	slices.Sort(names)
	return "publish " + strings.Join(names, "+")
}

func TestDecide(t *testing.T) {
	a, b, c := stubPair("a"), stubPair("b"), stubPair("c")
	late := time.Hour // two thirds of a, b and c
	n := &pair{mode: ModeSigner, leaf: &x509.Certificate{Raw: []byte("n"), NotBefore: noon.Add(late), NotAfter: noon.Add(late + 3*time.Hour)}}
	past := &pair{mode: ModeSigner, leaf: &x509.Certificate{Raw: []byte("past"), NotBefore: noon.Add(-3 * time.Hour), NotAfter: noon}}
	const long = time.Hour

	for _, tc := range []struct {
		name string
		at   time.Duration // after noon
		s    state
		want string
	}{
		// A first start.
		{"no secret and nothing published calls for a certificate", 0, state{missing: "the secret does not exist"},
			"issue: the secret does not exist"},
		{"a certificate on its way is awaited", 0, state{missing: "gone", issuing: true}, "wait 1h0m0s: the signer is at work"},
		{"the first certificate is published before it is written", 0, state{fresh: a}, "publish a"},
		{"the first certificate is written at once, as nobody is served by another", 0,
			state{fresh: a, known: bundle{a.leaf}, published: both(bundle{a.leaf})}, "write"},
		{"beside another one, a bundle is left to settle", 0, state{fresh: a, known: bundle{a.leaf, b.leaf},
			published: both(bundle{a.leaf, b.leaf}), publishedFor: time.Second}, "wait 1s: API servers are taking up the bundle"},
		{"and once it has, the certificate is written", 0, state{fresh: a, known: bundle{a.leaf, b.leaf}, published: both(bundle{a.leaf, b.leaf}),
			publishedFor: 2 * time.Second}, "write"},
		{"a good secret is published when no configuration exists", 0, state{held: a}, "publish a"},

		// Steady.
		{"a kept certificate waits for its renewal", 0, state{held: a, heldFor: long, known: bundle{a.leaf}, published: both(bundle{a.leaf})},
			"wait " + a.renewAt().Sub(noon).String() + ": not due"},
		{"a new leader that finds all well does nothing", 0, state{held: a, known: bundle{a.leaf}, published: both(bundle{a.leaf}),
			serving: a.leaf}, "wait " + a.renewAt().Sub(noon).String() + ": not due"},
		{"a deleted configuration is restored", 0, state{held: a, heldFor: long, known: bundle{a.leaf}, published: view{{a.leaf}, nil}},
			"publish a"},
		{"an edited bundle is restored", 0, state{held: a, heldFor: long, known: bundle{a.leaf}, published: both(bundle{c.leaf})}, "publish a"},
		{"a certificate that somebody added to the bundle is removed at once", 0,
			state{held: a, heldFor: time.Second, known: bundle{a.leaf}, published: both(bundle{a.leaf, c.leaf})}, "publish a"},

		// Renewal.
		{"a due certificate is renewed", late, state{held: a, heldFor: long, known: bundle{a.leaf}, published: both(bundle{a.leaf})},
			"issue: the certificate is due for renewal"},
		{"renewal publishes old and new", late, state{held: a, heldFor: long, fresh: n, known: bundle{a.leaf}, published: both(bundle{a.leaf})},
			"publish a+n"},
		{"an expired certificate is renewed", 2 * time.Hour, state{held: a, heldFor: long, known: bundle{a.leaf},
			published: both(bundle{a.leaf})}, "issue: the certificate has expired"},
		{"an expired certificate leaves the bundle when the new one is published", 0,
			state{held: past, heldFor: long, fresh: b, known: bundle{past.leaf}, published: both(bundle{past.leaf})}, "publish b"},
		{"the bundle is restored while the signer is at work", late,
			state{held: a, heldFor: long, issuing: true, known: bundle{a.leaf}, published: both(nil)}, "publish a"},
		{"the old one stays trusted while replicas swap", 0, state{held: b, heldFor: time.Second, known: bundle{a.leaf, b.leaf},
			published: both(bundle{b.leaf, a.leaf})}, "wait 29s: replicas are swapping"},
		{"the old one is retired after the grace", 0, state{held: b, heldFor: 30 * time.Second, known: bundle{a.leaf, b.leaf},
			published: both(bundle{a.leaf, b.leaf})}, "publish b"},
		{"an expired one is dropped during the grace", 0, state{held: b, heldFor: time.Second, known: bundle{past.leaf, b.leaf},
			published: both(bundle{past.leaf, b.leaf})}, "publish b"},
		{"a fresh certificate that came of age unpublished is replaced", 2 * time.Hour, state{fresh: a, missing: "gone"}, "issue: gone"},

		// A leader that died.
		{"between issuing and publishing: issues again", late, state{held: a, known: bundle{a.leaf}, published: both(bundle{a.leaf})},
			"issue: the certificate is due for renewal"},
		{"between the two configurations: levels them before it issues", late,
			state{held: a, known: bundle{a.leaf, b.leaf}, published: view{{a.leaf, b.leaf}, {a.leaf}}}, "publish a+b"},
		{"between publishing and writing: keeps what may be served and issues", late,
			state{held: a, known: bundle{a.leaf, b.leaf}, published: both(bundle{a.leaf, b.leaf})}, "issue: the certificate is due for renewal"},
		{"between publishing and writing: adds its own", late, state{held: a, fresh: n, known: bundle{a.leaf, b.leaf},
			published: both(bundle{a.leaf, b.leaf})}, "publish a+b+n"},
		{"between writing and retiring: waits the whole grace", 0,
			state{held: b, known: bundle{a.leaf, b.leaf}, published: both(bundle{a.leaf, b.leaf})}, "wait 30s: replicas are swapping"},
		{"while retiring: levels the configurations after the grace", 0,
			state{held: b, heldFor: 30 * time.Second, known: bundle{a.leaf, b.leaf}, published: view{{b.leaf}, {a.leaf, b.leaf}}}, "publish b"},

		// A Secret that was lost.
		{"a lost secret leaves trusted what replicas serve", 0, state{missing: "gone", fresh: b, known: bundle{a.leaf},
			published: both(bundle{a.leaf})}, "publish a+b"},
		{"a lost secret leaves trusted what this replica serves", 0, state{missing: "gone", fresh: b, serving: a.leaf}, "publish a+b"},
		{"a lost secret and an edited bundle: what was known is restored first", 0,
			state{missing: "gone", known: bundle{a.leaf}, published: both(bundle{c.leaf})}, "publish a"},
		{"a certificate put back from elsewhere is replaced", 0, state{held: c, heldFor: long, known: bundle{a.leaf},
			published: both(bundle{a.leaf}), serving: a.leaf}, "issue: the secret holds a certificate that is not trusted"},
		{"a certificate put back from elsewhere is never trusted", 0,
			state{held: c, fresh: b, known: bundle{a.leaf}, published: both(bundle{a.leaf})}, "publish a+b"},
		{"a certificate that this replica serves is trusted again", 0,
			state{held: a, known: bundle{c.leaf}, published: both(bundle{c.leaf}), serving: a.leaf}, "publish a+c"},
		{"another leader's certificate in the secret is preferred to one's own", 0,
			state{held: b, heldFor: time.Second, fresh: c, known: bundle{a.leaf, b.leaf}, published: both(bundle{a.leaf, b.leaf})},
			"wait 29s: replicas are swapping"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.s.now = noon.Add(tc.at)
			tc.s.settle, tc.s.grace = 2*time.Second, 30*time.Second
			assert.Equal(t, tc.want, told(decide(tc.s)))
		})
	}
}
