package secretsrole

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/backoff"
)

func TestAThousandNamesAreOneWrite(t *testing.T) {
	s, k := newServer(t)
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprintf("tcr.ips%04d", i))
	}
	s.run(k)
	k.Want(names[:500]...)
	for _, name := range names[500:] {
		k.Want(name)
	}
	for _, name := range names {
		require.NoError(t, granted(t, k, name))
	}
	s.mu.Lock()
	assert.LessOrEqual(t, s.writes, 3)
	assert.LessOrEqual(t, len(s.asked), 3)
	s.mu.Unlock()
	for _, name := range names {
		k.Drop(name)
	}
	s.lists()
	s.mu.Lock()
	defer s.mu.Unlock()
	assert.Nil(t, s.role.Rules, "it ends as it began")
	assert.LessOrEqual(t, s.writes, 6)
}

func TestNothingIsWrittenBeforeItIsKnownWhatIsWanted(t *testing.T) {
	s, k := newServer(t)
	s.role.Rules = Manager.Rules([]string{"tcr.ipsa", "tcr.ipsold"})
	s.run(k)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, k.Borrow(ctx, "tcr.ipsb"), context.DeadlineExceeded)
	k.Want("tcr.ipsa")
	require.NoError(t, granted(t, k, "tcr.ipsa"))
	s.lists("tcr.ipsa", "tcr.ipsb", "tcr.ipsold") // of what there was something may be left
	wanted, borrowed, _, _ := k.wanted(time.Now().Add(2 * lease))
	assert.Equal(t, []string{"tcr.ipsa"}, wanted)
	assert.Empty(t, borrowed, "not for ever")
}

func TestAnEmptyClusterIsNotWrittenTo(t *testing.T) {
	s, k := newServer(t)
	s.run(k)
	k.Want()
	require.NoError(t, k.Borrow(t.Context(), "tcr.ipsx")) // it has begun
	s.mu.Lock()
	defer s.mu.Unlock()
	assert.Equal(t, 1, s.writes)
}

func TestANameIsGrantedOnceTheAPIServerSaysSo(t *testing.T) {
	s, k := newServer(t)
	asked := 0
	s.allows = func(string) bool { asked++; return asked > 3 }
	s.run(k)
	k.Want("tcr.ipsa")
	require.NoError(t, granted(t, k, "tcr.ipsa"))
	s.mu.Lock()
	assert.Equal(t, []string{"tcr.ipsa", "tcr.ipsa", "tcr.ipsa", "tcr.ipsa"}, s.asked)
	s.allows = func(string) bool { asked++; return asked > 6 }
	s.mu.Unlock()

	k.Doubt("tcr.ipsa")
	now, _, _ := k.Granted("tcr.ipsa")
	assert.False(t, now)
	require.NoError(t, granted(t, k, "tcr.ipsa"))
	k.Want("tcr.ipsb")
	require.NoError(t, granted(t, k, "tcr.ipsb"))
	s.mu.Lock()
	defer s.mu.Unlock()
	assert.Equal(t, "tcr.ipsb", s.asked[len(s.asked)-1], "the newest is asked about")
	assert.Empty(t, s.log.String())
}

func TestWhatOthersWriteIsTakenBack(t *testing.T) {
	s, k := newServer(t)
	s.run(k)
	k.Want("tcr.ipsa", "tcr.ipsb")
	s.lists("tcr.ipsa", "tcr.ipsb")
	for _, rules := range [][]rbacv1.PolicyRule{
		nil, Manager.Rules([]string{"tcr.ipsb"}), Manager.Rules([]string{"database"}),
		rule([]string{"tcr.ipsa"}, func(r *rbacv1.PolicyRule) { r.ResourceNames = nil }),
	} {
		s.set(&rbacv1.ClusterRole{Rules: rules})
		s.lists("tcr.ipsa", "tcr.ipsb")
	}
	require.NoError(t, granted(t, k, "tcr.ipsa"))
	s.set(nil)
	require.Eventually(t, func() bool { now, _, _ := k.Granted("tcr.ipsa"); return !now }, hang, time.Millisecond)
	s.set(&rbacv1.ClusterRole{})
	s.lists("tcr.ipsa", "tcr.ipsb")
	require.NoError(t, granted(t, k, "tcr.ipsa"))
}

func TestAWriteThatFailsIsMadeAgain(t *testing.T) {
	s, k := newServer(t)
	s.refuse = func(write int) *status {
		switch write {
		case 1:
			return &status{http.StatusConflict, metav1.StatusReasonConflict}
		case 2:
			return &status{http.StatusForbidden, metav1.StatusReasonForbidden}
		case 3:
			return &status{http.StatusInternalServerError, metav1.StatusReasonInternalError}
		}
		return nil
	}
	s.run(k)
	k.Want("tcr.ipsa")
	require.NoError(t, granted(t, k, "tcr.ipsa"))
	assert.Empty(t, s.log.String(), "what passes is not told")
}

func TestWhatLastsIsToldToThoseWhoWait(t *testing.T) {
	s, k := newServer(t)
	now := time.Now()
	lasting := errors.New("no")
	k.failed(lasting, now)
	_, _, problem := k.Granted("tcr.ipsa")
	require.NoError(t, problem)
	k.failed(lasting, now.Add(patience))
	k.failed(lasting, now.Add(2*patience))
	_, _, problem = k.Granted("tcr.ipsa")
	require.ErrorIs(t, problem, lasting)
	assert.Equal(t, 1, bytes.Count(s.log.Bytes(), []byte("secrets role was not brought up to date")))
	k.recovered()
	_, _, problem = k.Granted("tcr.ipsa")
	require.NoError(t, problem)
}

func TestAMissingRoleIsAProblemOnlyWhereItIsNeeded(t *testing.T) {
	s, k := newServer(t)
	s.role = nil
	require.NoError(t, k.object.Read(t.Context()))
	k.Want()
	_, err := k.keep(t.Context(), k.object.Get())
	require.NoError(t, err)
	k.Want("tcr.ipsa")
	_, err = k.keep(t.Context(), k.object.Get())
	require.ErrorContains(t, err,
		"keeping cluster role tcr-assistant-secrets-role: it does not exist: apply the manifests of this release again")
}

func TestThoseThatHaveNoRoomAreTold(t *testing.T) {
	_, k := newServer(t)
	k.listed([]string{"tcr.ipsa"}, []string{"tcr.ipsb"})
	_, _, problem := k.Granted("tcr.ipsb")
	require.ErrorContains(t, problem, "has no room for tcr.ipsb")
	_, _, problem = k.Granted("tcr.ipsa")
	require.NoError(t, problem)
}

func TestDemand(t *testing.T) {
	d, now := newDemand("role"), time.Now()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, d.Borrow(ended, "tcr.ipsa", "tcr.ipsb"), context.Canceled)
	_, _, _, known := d.wanted(now)
	assert.False(t, known)
	d.Want("tcr.ipsb")
	names, borrowed, fewer, known := d.wanted(now)
	assert.True(t, known)
	assert.Equal(t, []string{"tcr.ipsb"}, names)
	assert.Equal(t, []string{"tcr.ipsa"}, borrowed)
	assert.InDelta(t, lease.Seconds(), fewer.Seconds(), 9)
	require.ErrorIs(t, d.Borrow(ended, "tcr.ipsb"), context.Canceled)
	names, borrowed, fewer, _ = d.wanted(now.Add(2 * lease))
	assert.Equal(t, []string{"tcr.ipsb"}, names, "what is borrowed does not end what is wanted")
	assert.Empty(t, borrowed)
	assert.Zero(t, fewer)
	d.Drop("tcr.ipsb")
	names, _, _, _ = d.wanted(now)
	assert.Empty(t, names)
}

func TestARoleThatCannotBeReadIsToldToThoseWhoWait(t *testing.T) {
	s, k := newServer(t)
	s.hidden = true
	k.failing = time.Now().Add(-patience) // it has lasted
	s.run(k)
	k.Want("tcr.ipsa")
	require.ErrorContains(t, granted(t, k, "tcr.ipsa"), "reading tcr-assistant-secrets-role")
	s.mu.Lock()
	s.hidden = false
	s.mu.Unlock()
	require.Eventually(t, func() bool { now, _, _ := k.Granted("tcr.ipsa"); return now }, hang, time.Millisecond, "it passes")
}

func TestOthersThatComeDoNotKeepANameFromBeingGranted(t *testing.T) {
	s, k := newServer(t)
	s.allows = func(string) bool { return time.Since(s.turned) >= 200*time.Millisecond } // it hears of the role a moment later
	s.run(k)
	k.Want("tcr.ipsa")
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			k.Want(fmt.Sprintf("tcr.ips%d", i))
			backoff.Sleep(ctx, 5*time.Millisecond)
		}
	}()
	require.NoError(t, k.await(ctx, "tcr.ipsa"), "as long as others come nobody is granted anything")
	cancel()
	<-done
}

func TestWhatIsDoubtedWakesNobodyWhoWaits(t *testing.T) {
	const waiting = 2000
	d := newDemand("role")
	names := make([]string, waiting)
	for i := range names {
		names[i] = fmt.Sprint("tcr.ips", i)
	}
	d.grant(names)
	looks := 0
	_, changed, _ := d.Granted("tcr.ipsx")
	for _, name := range names { // a role that somebody emptied: each is refused at the same moment, and waits from then on
		d.Doubt(name)
		select {
		case <-changed:
			_, changed, _ = d.Granted("tcr.ipsx")
			looks++
		default:
		}
	}
	assert.Zero(t, looks, "thousands would be woken thousands of times")
	d.grant([]string{"tcr.ipsx"})
	<-changed
}
