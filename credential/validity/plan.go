package validity

import (
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/credential/check"
)

const (
	// pause is the minimum time between two logins at a server of an object.
	pause = time.Minute
	// noting is how long the status may take to announce a login. If it takes longer, that login is not made.
	noting = 10 * time.Second
	// lag is how long after the time in the status a login may still be under way: the status may be late, authorities have to be read, and
	// the registry has to answer.
	lag = noting + 30*time.Second
	// retry is how soon a check whose result is Unknown is first repeated; the wait doubles each time, up to the interval.
	retry = 5 * time.Minute
	// spread is the fraction by which a wait is shortened or lengthened, so that checks that began together drift apart.
	spread = 0.1
)

// history is what is known of the checks of one credential.
type history struct {
	// earliest is when the next login may be made, given those that other processes may have made just before.
	earliest time.Time
	// checked is when somebody last logged in for the object; zero if nobody has.
	checked time.Time
	// current is whether that login checked what is to be checked now.
	current bool
	// unknowns counts the most recent checks in a row whose result was Unknown.
	unknowns int
}

// next returns when to log in. chance is from 0 to 1.
func (h history) next(interval time.Duration, chance float64) time.Time {
	earliest := latest(h.earliest, after(h.checked))
	if h.checked.IsZero() || !h.current {
		return earliest
	}
	wait := interval
	if h.unknowns > 0 {
		wait = min(wait, retry<<min(h.unknowns-1, 16))
	}
	wait += time.Duration((2*chance - 1) * spread * float64(wait))
	return latest(earliest, h.checked.Add(wait))
}

// before returns the history of an object that this process, which began at that time, has not checked yet, but another one may have: what
// the status says of it, or else the latest check that is possible.
func before(status v1.ImagePullSecretStatus, created, began, now time.Time, generation int64) history {
	checked := checkedAt(status)
	switch {
	case checked.After(now.Add(pause)): // no manager wrote that
		return history{earliest: began.Add(pause + lag)}
	case checked.IsZero() && created.Before(began): // an earlier object of its name may have been checked until then
		return history{earliest: created.Add(pause + lag)}
	case checked.IsZero():
		return history{earliest: began.Add(pause + lag)}
	}
	seen := history{earliest: checked.Add(pause + lag), checked: checked}
	// If a login was under way when this process began, its result may never have been written.
	seen.current = credential.Stands(status, generation) && checked.Add(lag).Before(began)
	if meta.IsStatusConditionPresentAndEqual(status.Conditions, v1.ConditionCredentialValid, metav1.ConditionUnknown) {
		seen.unknowns = 1
	}
	return seen
}

// checkedAt returns when somebody last logged in, according to a status; zero if it does not say.
func checkedAt(status v1.ImagePullSecretStatus) time.Time {
	if known := status.Credential; known != nil && known.CheckedAt != nil {
		return known.CheckedAt.Time
	}
	return time.Time{}
}

// after returns when the next login may follow one at that time; zero if that is zero.
func after(at time.Time) time.Time {
	if at.IsZero() {
		return at
	}
	return at.Add(pause)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// chanceOf returns a number in [0, 1) that differs between objects and between checks, and is the same for every leader.
func chanceOf(uid string, checked time.Time) float64 {
	sum := fnv.New64a()
	fmt.Fprint(sum, uid, checked.Unix())
	// The last bytes hashed hardly reach the high bits of the sum.
	mixed := sum.Sum64() * 0x9e3779b97f4a7c15
	return float64(mixed>>11) / (1 << 53)
}

// attempt is the result of a login at one server.
type attempt struct {
	server string
	check.Result
}

// ReasonPartly is the reason if one server takes the credential, while the result at another one is Unknown.
const ReasonPartly = "LoggedInPartly"

// judge combines the results at all servers of an object: False if one refuses the credential, True if one takes it and none refuses, and
// Unknown otherwise.
func judge(attempts []attempt) (status metav1.ConditionStatus, reason, message string) {
	of := map[check.Verdict][]attempt{}
	for _, one := range attempts {
		of[one.Verdict] = append(of[one.Verdict], one)
	}
	refused, valid, unknown := of[check.Refused], of[check.Valid], of[check.Unknown]
	switch {
	case len(refused) > 0:
		return metav1.ConditionFalse, refused[0].Reason, said(refused)
	case len(valid) > 0 && len(unknown) > 0:
		return metav1.ConditionTrue, ReasonPartly, said(valid) + "; the manager cannot tell for others: " + said(unknown)
	case len(valid) > 0:
		return metav1.ConditionTrue, valid[0].Reason, said(valid)
	case len(unknown) > 0:
		return metav1.ConditionUnknown, unknown[0].Reason, "the manager cannot tell whether the credential is valid: " + said(unknown)
	default:
		return metav1.ConditionUnknown, "NoServer", "no server is known"
	}
}

// said joins the messages of several servers. Equal messages appear once.
func said(attempts []attempt) string {
	var messages []string
	told := map[string]bool{}
	for _, one := range attempts {
		if !told[one.Message] {
			told[one.Message] = true
			messages = append(messages, one.Message)
		}
	}
	return strings.Join(messages, "; ")
}
