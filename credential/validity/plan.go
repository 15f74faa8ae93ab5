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
	// pause is the least time between two logins at a server of an object.
	pause = time.Minute
	// noting is how long the status may take to say that a login is about to be made. One that it says so of later is not made.
	noting = 10 * time.Second
	// lag is how long after what the status says a login may still be under way: that may have been noted late, and authorities are to be
	// read, and the registry to answer.
	lag = noting + 30*time.Second
	// retry is when a check that said nothing of the credential is made again at first; each time it takes twice as long, up to the interval.
	retry = 5 * time.Minute
	// spread is the part of a wait by which it is shorter or longer: what began at once does not stay together.
	spread = 0.1
)

// history is what is known of the checks of one credential.
type history struct {
	// earliest is when a login may be made as far as other processes are concerned, each of which may have made one just before.
	earliest time.Time
	// checked is when somebody last logged in for the object; zero where nobody did.
	checked time.Time
	// current is whether that was with what is to be checked now.
	current bool
	// unknowns counts the last checks in a row that said nothing of the credential.
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

// before returns the history of an object that another process may have checked, and this one, which began then, has not yet: what the
// status says of that, and where it says nothing, what may have been.
func before(status v1.ImagePullSecretStatus, created, began, now time.Time, generation int64) history {
	checked := checkedAt(status)
	switch {
	case checked.After(now.Add(pause)): // somebody else wrote that
		return history{earliest: began.Add(pause + lag)}
	case checked.IsZero() && created.Before(began): // one of its name that is gone by now may have been checked until then
		return history{earliest: created.Add(pause + lag)}
	case checked.IsZero():
		return history{earliest: began.Add(pause + lag)}
	}
	seen := history{earliest: checked.Add(pause + lag), checked: checked}
	// What came of a login that was just being made may not have been written any more.
	seen.current = credential.Stands(status, generation) && checked.Add(lag).Before(began)
	if meta.IsStatusConditionPresentAndEqual(status.Conditions, v1.ConditionCredentialValid, metav1.ConditionUnknown) {
		seen.unknowns = 1
	}
	return seen
}

// checkedAt returns when somebody last logged in, as a status says; zero where it does not.
func checkedAt(status v1.ImagePullSecretStatus) time.Time {
	if known := status.Credential; known != nil && known.CheckedAt != nil {
		return known.CheckedAt.Time
	}
	return time.Time{}
}

// after returns when a login may follow what was at that time, which may be zero.
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

// chanceOf returns a number from 0 to 1 that differs from object to object and from check to check, and is the same for every leader.
func chanceOf(uid string, checked time.Time) float64 {
	sum := fnv.New64a()
	fmt.Fprint(sum, uid, checked.Unix())
	// The last steps of the sum hardly reach its high bits.
	mixed := sum.Sum64() * 0x9e3779b97f4a7c15
	return float64(mixed>>11) / (1 << 53)
}

// attempt is what came of a login at one server.
type attempt struct {
	server string
	check.Result
}

// ReasonPartly is that of a credential that one server takes, while another one said nothing of it.
const ReasonPartly = "LoggedInPartly"

// judge says what came of logins at all servers of an object: False where one refuses, True where one takes the credential and none
// refuses, and Unknown where none says anything of it.
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
		return metav1.ConditionTrue, ReasonPartly, said(valid) + "; of others nothing is known from the manager: " + said(unknown)
	case len(valid) > 0:
		return metav1.ConditionTrue, valid[0].Reason, said(valid)
	case len(unknown) > 0:
		return metav1.ConditionUnknown, unknown[0].Reason, "from the manager, nothing can be said of the credential: " + said(unknown)
	default:
		return metav1.ConditionUnknown, "NoServer", "no server is known"
	}
}

// said is what several servers said. What is the same of several is told once.
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
