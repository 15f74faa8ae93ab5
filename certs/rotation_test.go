package certs

import (
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A world is everything that keeping a certificate depends on, without an API server: the Secret, the bundles of two
// configurations, and replicas that see both late. Hours of it pass in no time, and every failure is a seed.
type world struct {
	t   *testing.T
	rng *rand.Rand
	now time.Time

	serial   int
	secret   *pair
	last     *pair     // what the Secret held last: a watch tells of it, late as it may be, also where it is gone by then
	issues   []*pair   // ever written to the Secret
	stored   [2]bundle // what each configuration trusts
	servers  []*apiServer
	replicas []*replica
	term     leader
	doubt    time.Time // until then an API server may see bundles that somebody else's hand was in
	log      []string
}

type replica struct {
	current, offered *pair
	seen             [2]bundle
	syncedAt         time.Time
}

// An apiServer calls the webhook and trusts what it has seen of the configurations.
type apiServer struct {
	seen     [2]bundle
	syncedAt time.Time
}

// forever is the time until which a configuration stays broken that nobody repairs.
var forever = noon.AddDate(1, 0, 0)

// leader is what a term of a keeper remembers.
type leader struct {
	held        *pair
	heldSince   time.Time
	fresh       *pair
	issuing     bool
	known       bundle
	publishedAt time.Time
}

const (
	worldSettle = 2 * time.Second
	worldGrace  = 30 * time.Second
	worldLag    = 20 * time.Second // the slowest replica
	serverLag   = time.Second      // the slowest API server
)

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 1)), now: noon}
	for range 3 {
		w.replicas = append(w.replicas, &replica{syncedAt: w.now})
		w.servers = append(w.servers, &apiServer{syncedAt: w.now})
	}
	return w
}

func (w *world) say(format string, args ...any) {
	w.log = append(w.log, w.now.Format("15:04:05 ")+fmt.Sprintf(format, args...))
}

func (w *world) sync(r *replica) {
	r.syncedAt, r.seen = w.now, w.stored
	if w.last != nil {
		r.offered = w.last
	}
	r.current = choose(r.current, r.offered, r.seen[:], w.now)
}

// lead takes one step of the leader, which is the first replica. Publishing is two writes, and a crash may come
// between them.
func (w *world) lead(crash bool) {
	self := w.replicas[0]
	w.sync(self)
	if w.term.held != w.secret {
		w.term.held, w.term.heldSince = w.secret, w.now
	}
	if w.term.fresh == w.secret {
		w.term.fresh = nil
	}
	s := state{
		now: w.now, held: w.secret, missing: "gone", heldFor: w.now.Sub(w.term.heldSince),
		fresh: w.term.fresh, issuing: w.term.issuing,
		known: w.term.known, published: w.stored[:], publishedFor: w.now.Sub(w.term.publishedAt),
		settle: worldSettle, grace: worldGrace,
	}
	if self.current != nil {
		s.serving = self.current.leaf
	}
	next := decide(s)
	if _, calm := next.(idle); !calm {
		w.say("%s (crash: %t)", told(next), crash)
	}
	switch next := next.(type) {
	case issue:
		w.term.issuing = true
	case publish:
		w.stored[0] = next.bundle
		if crash {
			break
		}
		w.stored[1] = next.bundle
		w.term.known, w.term.publishedAt = next.bundle, w.now
		if w.doubt.Equal(forever) {
			w.doubt = w.now.Add(serverLag)
		}
	case write:
		w.secret, w.last = w.term.fresh, w.term.fresh
		w.issues = append(w.issues, w.secret)
	}
	if crash {
		w.term = leader{known: view(w.stored[:]).union(), publishedAt: w.now, heldSince: w.now}
	}
}

// issued completes what the signer was asked for.
func (w *world) issued() {
	if !w.term.issuing {
		return
	}
	w.serial++
	w.term.issuing = false
	w.term.fresh = &pair{mode: ModeSigner, leaf: &x509.Certificate{
		Raw: fmt.Appendf(nil, "c%d", w.serial), NotBefore: w.now.Add(-5 * time.Minute), NotAfter: w.now.Add(10 * time.Minute),
	}}
}

// pass lets time go by. Nobody stays behind by more than their lag.
func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	for _, r := range w.replicas {
		if w.now.Sub(r.syncedAt) >= worldLag {
			w.sync(r)
		}
	}
	for _, a := range w.servers {
		if w.now.Sub(a.syncedAt) >= serverLag || w.rng.IntN(2) == 0 {
			a.seen, a.syncedAt = w.stored, w.now
		}
	}
}

// check holds the promise: whatever a replica serves has not expired and is trusted by every API server, through both
// configurations.
func (w *world) check() {
	for i, r := range w.replicas {
		if r.current == nil || w.now.Before(w.doubt) {
			continue
		}
		require.False(w.t, r.current.expired(w.now), "replica %d serves %s, which has expired\n%q", i, r.current.leaf.Raw, w.log)
		for j, a := range w.servers {
			require.True(w.t, view(a.seen[:]).trusts(r.current.leaf), "replica %d serves %s, which API server %d does not trust\n%q", i,
				r.current.leaf.Raw, j, w.log)
		}
	}
}

// TestSecretIsLostAgainAndAgain takes the Secret away as soon as it is there, for hours.
func TestSecretIsLostAgainAndAgain(t *testing.T) {
	for seed := range uint64(20) {
		w, most := newWorld(t, seed), 0
		for w.serial < 200 {
			w.lead(false)
			w.issued()
			w.pass(500 * time.Millisecond)
			if w.secret != nil && w.rng.IntN(4) == 0 {
				w.say("the secret is deleted")
				w.secret = nil
			}
			w.check()
			most = max(most, len(w.stored[0]))
		}
		require.LessOrEqual(t, most, maxTrusted)
		require.Equal(t, maxTrusted, most, "it is the bound that held")
		for range 200 { // and a calm end
			w.lead(false)
			w.issued()
			w.pass(2 * time.Second)
			w.check()
		}
		require.Equal(t, [2]bundle{{w.secret.leaf}, {w.secret.leaf}}, w.stored)
	}
}

func TestRotationNeverServesWhatIsNotTrusted(t *testing.T) {
	const seeds, steps = 300, 1500
	rotations := 0
	for seed := range uint64(seeds) {
		w := newWorld(t, seed)
		for range 20 { // a calm first start
			w.lead(false)
			w.issued()
			w.pass(2 * time.Second)
		}
		for range steps {
			switch n := w.rng.IntN(1000); {
			case n < 400:
				w.lead(false)
			case n < 420:
				w.lead(true)
			case n < 600:
				w.sync(w.replicas[w.rng.IntN(len(w.replicas))])
			case n < 800:
				w.issued()
			case n < 803:
				w.say("the secret is deleted")
				w.secret = nil
			case n < 806:
				w.say("a configuration is deleted")
				w.stored[w.rng.IntN(2)], w.doubt = nil, forever
			case n < 808:
				if old := w.issues[w.rng.IntN(len(w.issues))]; !old.expired(w.now.Add(time.Minute)) {
					w.say("%s is put back into the secret", old.leaf.Raw)
					w.secret, w.last = old, old
				}
			default:
				w.pass(time.Duration(w.rng.IntN(3000)) * time.Millisecond)
			}
			w.check()
		}
		for range 200 { // and a calm end
			w.lead(false)
			w.issued()
			w.pass(2 * time.Second)
			w.check()
		}
		require.NotNil(t, w.secret)
		rotations += w.serial
	}
	require.Greater(t, rotations, seeds*3, "certificates have to have rotated for this to mean something")
}
