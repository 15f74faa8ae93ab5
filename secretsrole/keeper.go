package secretsrole

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/backoff"
	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

const (
	// gather is how long changes that come at once are gathered for.
	gather = 5 * time.Millisecond
	// removalPeriod is the least time between two writes that only take names out.
	removalPeriod = time.Second
	// patience is for how long a write may fail, or not come into force, before that is told.
	patience = 10 * time.Second
	// firstPause and longestPause are those between failures. The first ones are short: an API server allows what was written a
	// moment later.
	firstPause   = 4 * time.Millisecond
	longestPause = 10 * time.Second
	// longestRead is the longest one while it is not known yet what the role is.
	longestRead = 2 * time.Second
)

// Keeper keeps the role as its demand wants it. It runs on the leader alone, and is made anew for each term.
type Keeper struct {
	*demand
	log     *slog.Logger
	clients *clientset.Clientset
	role    Role
	object  *latest.Object[*rbacv1.ClusterRole]
	limit   *rate.Limiter // of what is taken back

	// All of these are Run's alone: whether what was left by earlier terms has been taken in, what was written last, when, and how
	// long after it to write again, the name of which to ask whether it is in force, and since when something fails.
	began   bool
	last    []string
	wrote   time.Time
	pause   time.Duration
	newest  string
	failing time.Time
}

// NewKeeper returns a keeper of a role for one term of leadership.
func NewKeeper(log *slog.Logger, clients *clientset.Clientset, role Role) *Keeper {
	return &Keeper{
		demand: newDemand(role.Name), log: log, clients: clients, role: role,
		object: latest.NewObject[*rbacv1.ClusterRole](log, role.Name, clientset.Named(clients.ClusterRoles(), role.Name)),
		limit:  backoff.Restores(),
	}
}

// errMissing says that there is no role to write.
var errMissing = errors.New("it does not exist: apply the manifests of this release once more")

// errIneffective says that what the role lists is not allowed.
var errIneffective = errors.New("what it grants is not allowed: is it bound to the manager's service account?")

// Run keeps the role until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { k.object.Run(ctx) })
	k.catchUp(ctx)
	pauses := backoff.Between(firstPause, longestPause)
	for ctx.Err() == nil {
		seen, wake := k.object.Get(), k.wake
		again, err := k.keep(ctx, seen)
		switch {
		case ctx.Err() != nil:
			return
		case apierrors.IsConflict(err) || apierrors.IsNotFound(err):
			k.log.Debug("secrets role was changed meanwhile", "error", err)
			if err = k.object.Read(ctx); err == nil {
				continue
			}
			fallthrough
		case err != nil:
			k.failed(err, time.Now())
			again, wake = pauses.Step(), nil // each name that comes would make it fail once more
			k.pause = max(k.pause, min(again, backoff.LongestAfterWrite))
		default:
			pauses = backoff.Between(firstPause, longestPause)
		}
		k.rest(ctx, seen, wake, again)
	}
}

// catchUp returns once it is known what the role is, or when ctx ends.
func (k *Keeper) catchUp(ctx context.Context) {
	for pauses := backoff.Between(firstPause, longestRead); ctx.Err() == nil; {
		err := k.object.Read(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		k.failed(fmt.Errorf("keeping cluster role %s: %w", k.role.Name, err), time.Now())
		backoff.Sleep(ctx, pauses.Step())
	}
}

// rest returns once there is something to compare, by what was seen or by wake, or after a time that is not 0.
func (k *Keeper) rest(ctx context.Context, seen latest.Snapshot[*rbacv1.ClusterRole], wake <-chan struct{}, again time.Duration) {
	var due <-chan time.Time
	if again > 0 {
		timer := time.NewTimer(again)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-due:
	case <-seen.Changed:
		backoff.Sleep(ctx, gather)
	case <-wake:
		backoff.Sleep(ctx, gather)
	}
}

// keep brings the role in line, and has those know who wait for it. It returns after how long to look again, 0 for never.
func (k *Keeper) keep(ctx context.Context, seen latest.Snapshot[*rbacv1.ClusterRole]) (again time.Duration, err error) {
	now := time.Now()
	wanted, borrowed, fewer, known := k.wanted(now)
	if !known || !seen.Known {
		return 0, nil
	}
	if !seen.Exists {
		k.listed(nil, nil)
		if len(wanted)+len(borrowed) == 0 {
			return 0, nil
		}
		return 0, fmt.Errorf("keeping cluster role %s: %w", k.role.Name, errMissing)
	}
	if !k.began {
		listed, _ := k.role.listed(seen.Object.Rules)
		k.linger(listed, now)
		k.began = true
		wanted, borrowed, fewer, _ = k.wanted(now)
	}
	d := k.role.decide(wanted, borrowed, seen.Object.Rules)
	doubtful := k.listed(d.names, d.left)
	early := k.early(d, now)
	if len(d.added) > 0 { // those that it lists already do not wait for these
		added := pullsecret.Among(d.added)
		err := k.confirm(ctx, slices.DeleteFunc(slices.Clone(doubtful), added))
		if early > 0 || err != nil && !errors.Is(err, errIneffective) {
			return early, err
		}
	}
	switch {
	case early > 0:
		fewer = early
	case d.write:
		if err := k.write(ctx, seen.Object, d); err != nil {
			return 0, err
		}
	}
	if err := k.confirm(ctx, doubtful); err != nil {
		return 0, err
	}
	k.recovered()
	return fewer, nil
}

// early returns for how long a write has to wait, so that many changes cost few of them.
func (k *Keeper) early(d decision, now time.Time) time.Duration {
	if !d.write {
		return 0
	}
	pause := k.pause
	if len(d.added) == 0 && !d.strange {
		pause = max(pause, removalPeriod)
	}
	return pause - now.Sub(k.wrote)
}

// write stores the rules of a decision in the role, unless somebody else has changed it meanwhile.
func (k *Keeper) write(ctx context.Context, role *rbacv1.ClusterRole, d decision) error {
	if k.last != nil && slices.Equal(k.last, d.names) {
		if err := k.limit.Wait(ctx); err != nil { // somebody else's change is taken back
			return err
		}
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": role.ResourceVersion},
		"rules": k.role.Rules(d.names)})
	if err != nil {
		return fmt.Errorf("encoding cluster role %s: %w", k.role.Name, err)
	}
	began := time.Now()
	_, err = k.object.Write(func() (*rbacv1.ClusterRole, error) {
		return k.clients.ClusterRoles().Patch(ctx, k.role.Name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: v1.FieldManager})
	})
	k.wrote = time.Now()
	k.pause = backoff.AfterWrite(k.wrote.Sub(began))
	if err != nil {
		return fmt.Errorf("writing cluster role %s: %w", k.role.Name, err)
	}
	k.last = append([]string{}, d.names...)
	if len(d.added) > 0 {
		k.newest = d.added[0]
	}
	k.log.Debug("secrets role was written", "names", len(d.names), "added", len(d.added))
	return nil
}

// confirm asks whether what the role lists is in force: of one name alone, the newest, since the role counts whole.
func (k *Keeper) confirm(ctx context.Context, doubtful []string) error {
	if len(doubtful) == 0 {
		return nil
	}
	name := doubtful[0]
	if _, found := slices.BinarySearch(doubtful, k.newest); found {
		name = k.newest
	}
	review, err := k.clients.SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: k.role.Verbs[0], Version: "v1", Resource: "secrets", Name: name,
		}},
	}, metav1.CreateOptions{})
	switch {
	case apierrors.IsForbidden(err): // who may not ask has to try
	case err != nil:
		return fmt.Errorf("asking for the permission for secrets %s: %w", name, err)
	case !review.Status.Allowed:
		return fmt.Errorf("keeping cluster role %s: %w", k.role.Name, errIneffective)
	}
	k.grant(doubtful)
	return nil
}

// failed takes in that something fails. It is told once it lasts.
func (k *Keeper) failed(err error, now time.Time) {
	if k.failing.IsZero() {
		k.failing = now
	}
	if now.Sub(k.failing) >= patience && k.say(err) {
		k.log.Warn("secrets role was not kept", "error", err)
	}
}

func (k *Keeper) recovered() {
	k.failing = time.Time{}
	k.say(nil)
}
