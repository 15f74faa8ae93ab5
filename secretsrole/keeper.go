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
	// gather is how long to wait for further changes that come together.
	gather = 5 * time.Millisecond
	// removalPeriod is the minimum time between two writes that only remove names.
	removalPeriod = time.Second
	// patience is how long a write may fail, or not come into force, before that is reported.
	patience = 10 * time.Second
	// firstPause and longestPause are the pauses after failures. The first ones are short: an API server allows what was written a moment
	// later.
	firstPause   = 4 * time.Millisecond
	longestPause = 10 * time.Second
	// longestRead is the longest pause as long as the role has not been read yet.
	longestRead = 2 * time.Second
)

// Keeper keeps the role as its demand wants it. It runs on the leader alone, and each term has a new one.
type Keeper struct {
	*demand
	log     *slog.Logger
	clients *clientset.Clientset
	role    Role
	object  *latest.Object[*rbacv1.ClusterRole]
	limit   *rate.Limiter // for reverting changes by others

	// Only Run uses all of these: whether the names of earlier terms have been taken over, what was written last, when, and how long to
	// pause after that, the name to ask about whether it is in force, and since when something fails.
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

// errMissing means that there is no role to write.
var errMissing = errors.New("it does not exist: apply the manifests of this release again")

// errIneffective means that the API server does not allow what the role lists.
var errIneffective = errors.New("what it grants is not in force: is it bound to the manager's service account?")

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
			again, wake = pauses.Step(), nil // otherwise each new name would cause another attempt that fails
			k.pause = max(k.pause, min(again, backoff.LongestAfterWrite))
		default:
			pauses = backoff.Between(firstPause, longestPause)
		}
		k.rest(ctx, seen, wake, again)
	}
}

// catchUp returns once the role has been read, or when ctx ends.
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

// rest returns once seen has changed, once there is a token in wake, or after the time again, unless that is 0.
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

// keep brings the role up to date, and informs those who wait for it. It returns after how long to look again, 0 for never.
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
	if len(d.added) > 0 { // the names that it lists already do not wait for these
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

// early returns how long a write has to wait, so that many changes cost few writes; not above 0 where it need not wait.
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

// write writes the rules of a decision to the role, unless somebody else has changed it meanwhile.
func (k *Keeper) write(ctx context.Context, role *rbacv1.ClusterRole, d decision) error {
	if k.last != nil && slices.Equal(k.last, d.names) {
		if err := k.limit.Wait(ctx); err != nil { // this reverts somebody else's change
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

// confirm asks whether what the role lists is in force. It asks about one name only, the newest, since a role comes into force as a
// whole.
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
	case apierrors.IsForbidden(err): // without permission to ask, the requests themselves have to show
	case err != nil:
		return fmt.Errorf("asking for the permission for secrets %s: %w", name, err)
	case !review.Status.Allowed:
		return fmt.Errorf("keeping cluster role %s: %w", k.role.Name, errIneffective)
	}
	k.grant(doubtful)
	return nil
}

// failed records that something fails. It is reported once it lasts.
func (k *Keeper) failed(err error, now time.Time) {
	if k.failing.IsZero() {
		k.failing = now
	}
	if now.Sub(k.failing) >= patience && k.say(err) {
		k.log.Warn("secrets role was not brought up to date", "error", err)
	}
}

func (k *Keeper) recovered() {
	k.failing = time.Time{}
	k.say(nil)
}
