package certs_test

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	certificatesclient "k8s.io/client-go/kubernetes/typed/certificates/v1"

	"github.com/tcr-assistant/tcr-assistant/certs"
)

// twoThirds is the latest that a certificate is to be renewed.
func twoThirds(cert *x509.Certificate) time.Time {
	return cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) / 3 * 2)
}

// jitter is how much earlier it may be.
func jitter(cert *x509.Certificate) time.Duration {
	return cert.NotAfter.Sub(cert.NotBefore) / 20
}

// inMovedTime has a signer whose clock moves with the manager's stand in for the cluster's own.
func (r *rig) inMovedTime() {
	r.withoutSigner()
	r.answer(func(requests certificatesclient.CertificateSigningRequestInterface, csr *certificatesv1.CertificateSigningRequest) error {
		return issue(requests, csr, nil, r.clock.Now())
	})
}

func TestRenewalByTheWallClock(t *testing.T) {
	r := newRig(t)
	r.inMovedTime()
	r.cfg.Duration, r.cfg.Settle, r.cfg.Grace = certs.MinDuration, 50*time.Millisecond, 300*time.Millisecond
	leader, follower := r.start(), r.start()
	leader.lead()
	leaf := r.converged(nil, leader, follower)
	stop := r.promise(leader, follower)
	defer stop()

	for renewal := range 20 {
		latest := twoThirds(leaf)
		r.clock.set(latest.Add(-jitter(leaf) - time.Second))
		time.Sleep(10 * r.cfg.Tick)
		require.True(t, leaf.Equal(r.held()), "renewal %d came earlier than the jitter allows", renewal)

		r.clock.set(latest) // no timer could have gone off: the clock jumped, as after a suspension
		leaf = r.converged(leaf, leader, follower)
		require.True(t, leaf.NotBefore.After(latest.Add(-6*time.Minute)))
		require.True(t, r.clock.Now().Before(twoThirds(leaf)), "what is served now is not past its own two thirds")
	}
	assert.Empty(t, r.fellBack)
	assert.Greater(t, time.Duration(r.clock.offset.Load()), 20*4*time.Minute, "twenty lifetimes have passed")
}

func TestLeaderThatDiesAnywhereInARotationIsSucceeded(t *testing.T) {
	r := newRig(t)
	r.inMovedTime()
	r.cfg.Duration, r.cfg.Settle, r.cfg.Grace = certs.MinDuration, 100*time.Millisecond, time.Second
	standing := []*replica{r.start(), r.start(), r.startOver(&wire{slow: "/secrets", lag: 300 * time.Millisecond})}
	resign := standing[0].lead()
	leaf := r.converged(nil, standing...)
	resign()
	stop := r.promise(standing...)
	defer stop()

	// A leader is killed after its first write has reached the API server, the next one after its second, and so on, until
	// one survives all the writes of a rotation.
	for writes := int32(1); ; writes++ {
		require.Less(t, writes, int32(20), "a rotation takes a handful of writes")
		doomed := r.start()
		var count atomic.Int32
		hook := func(request *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
			if request.Method == http.MethodGet {
				return send()
			}
			if count.Load() >= writes {
				return nil, fmt.Errorf("dead")
			}
			response, err := send()
			if count.Add(1) == writes {
				doomed.kill()
			}
			return response, err
		}
		doomed.wire.hook.Store(&hook)
		r.clock.set(twoThirds(leaf))
		doomed.lead()
		survived := false
		r.eventually("death, or a rotation that is complete", func() bool {
			survived = count.Load() < writes && len(r.bundles()[0]) == 1 && !r.held().Equal(leaf) && r.bundles()[1][0].Equal(r.held())
			return survived || doomed.ctx.Err() != nil
		})
		doomed.kill()
		doomed.running.Wait()

		resign := standing[int(writes)%2].lead() // never the slow one
		if survived {
			resign()
			assert.GreaterOrEqual(t, writes, int32(9), "delete, create and approve the request, publish twice, write, retire twice")
			return
		}
		next := r.converged(leaf, standing...)
		t.Logf("killed after write %d: %s was followed by %s", writes, leaf.SerialNumber, next.SerialNumber)
		require.True(t, r.clock.Now().Before(twoThirds(next)), "the successor finished the renewal")
		leaf = next
		resign()
	}
}

func TestLeaderWhoseWatchesAreBehindTakesNothingBack(t *testing.T) {
	const lag = 2 * time.Second
	for _, slow := range []string{"secrets", "webhookconfigurations"} {
		t.Run("behind on "+slow, func(t *testing.T) {
			r := newRig(t)
			ahead, behind := r.start(), r.startOver(&wire{slow: slow, lag: lag})
			resign := ahead.lead()
			leaf := r.converged(nil, ahead, behind)
			stop := r.promise(ahead)
			defer stop()

			require.NoError(t, r.Client.CoreV1().Secrets(namespace).Delete(t.Context(), secretName, metav1.DeleteOptions{}))
			leaf = r.converged(leaf, ahead)
			resign()
			behind.lead()
			time.Sleep(lag + time.Second)
			require.True(t, leaf.Equal(r.converged(nil, ahead, behind)), "the successor keeps what the leader before made")
		})
	}
}
