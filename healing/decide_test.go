package healing

import (
	"testing"
	"time"
	"unique"

	"github.com/stretchr/testify/assert"

	"github.com/tcr-assistant/tcr-assistant/diagnose"
)

// Moments of the table, in the order of time: a pod was created, the account got its entry, and then the Secret was written, all an hour
// and more before now.
var (
	now     = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	created = now.Add(-2 * time.Hour)
	listed  = now.Add(-90 * time.Minute)
	written = now.Add(-80 * time.Minute)
)

// situation is a pod with all that decides about it.
type situation struct {
	pod    Pod
	seen   Seen
	facts  Facts
	past   Past
	counts bool
}

// older is a pod that lacks the entry, which its account has got since.
func older() situation {
	return situation{
		pod: Pod{
			Namespace: "team", Name: "app-1", UID: "1", Account: "default", Created: created.Unix(),
			Owner: unique.Make(Owner{"apps/v1", "ReplicaSet", "app", "2"}),
			Waits: []Wait{{Image: appImage, Host: "r.example.com", Refusal: diagnose.RefusedUser}},
		},
		seen: Seen{First: created.Add(time.Second), Since: created.Add(time.Second)},
		facts: Facts{
			Entries: []string{"theirs", "tcr.ipsdemo"}, Listed: listed.Unix(),
			Givers: []Giver{{Name: "demo", Secret: "tcr.ipsdemo", Servers: []string{"r.example.com"}, Current: true, Written: written.Unix()}},
		},
	}
}

// waiting is a pod that has the entry, has failed for twenty minutes, and last did 30 seconds before its Secret was written, which was
// 10 seconds ago.
func waiting() situation {
	s := older()
	s.pod.Entries = []string{"theirs", "tcr.ipsdemo"}
	s.facts.Givers[0].Written = now.Add(-10 * time.Second).Unix()
	s.asked(5 * time.Second)
	s.seen.Since, s.seen.Known = now.Add(-20*time.Minute), s.facts.Givers[0].Written
	s.failed(now.Add(-40*time.Second), 4)
	return s
}

// asked has the pod's events have been asked for so long ago, for the first time.
func (s *situation) asked(ago time.Duration) {
	s.seen = s.seen.asked(s.facts.Givers[0].Written, now.Add(-ago))
}

// failed has the pod's pull have failed, last then and so often; zero is not known.
func (s *situation) failed(at time.Time, failures int) {
	s.seen.Pulls = []Pull{{Image: appImage, FailedAt: at, Failures: failures, Refusal: diagnose.RefusalUntold}}
}

// told has the pod's events say whether it was refused, as it does not itself.
func (s *situation) told(refusal diagnose.Refusal) {
	s.pod.Waits[0].Refusal = diagnose.RefusalUntold
	s.seen.Pulls = []Pull{{Image: appImage, Refusal: refusal}}
}

// late is a pod that lacks the entry although it was created a minute ago, after all stood.
func late() situation {
	s := older()
	s.pod.Created, s.seen.First, s.seen.Since = now.Add(-time.Minute).Unix(), now.Add(-50*time.Second), now.Add(-50*time.Second)
	return s
}

func TestDecide(t *testing.T) {
	ago := func(d time.Duration) int64 { return now.Add(-d).Unix() }
	came := func(d time.Duration) Latecomer { return Latecomer{ago(d), now.Add(-d)} }
	later := func(s *situation, d time.Duration) { s.pod.Created, s.seen.First = ago(d), now.Add(-d) }
	for _, c := range []struct {
		name   string
		of     func() situation
		change func(*situation)
		action Action
		reason Reason
	}{
		{"a pod that is older than the entry goes", older, nil, Evict, PodOlderThanEntry},
		{"so does one of which the registry says that it may not", older, func(s *situation) {
			s.pod.Waits[0].Refusal = diagnose.RefusedScope
		}, Evict, PodOlderThanEntry},
		{"and one that has what the account listed before", older, func(s *situation) {
			s.pod.Entries = []string{"theirs"}
		}, Evict, PodOlderThanEntry},
		{"and one that waits for another image, too", older, func(s *situation) {
			s.pod.Waits = append([]Wait{{Image: "other.example.com/a", Host: "other.example.com", Refusal: diagnose.NotRefused}}, s.pod.Waits...)
		}, Evict, PodOlderThanEntry},
		{"and one of which its events alone say why", older, func(s *situation) {
			s.told(diagnose.RefusedUser)
		}, Evict, PodOlderThanEntry},
		{"the mirror of a static pod stays", older, func(s *situation) { s.pod.Static = true }, Leave, StaticPod},
		{"one that opted out stays", older, func(s *situation) { s.pod.OptedOut = true }, Leave, OptedOut},
		{"one whose account or namespace did stays", older, func(s *situation) { s.facts.OptedOut = true }, Leave, OptedOut},
		{"one for which nobody heals stays", older, func(s *situation) { s.facts.Givers = nil }, Leave, OtherRegistry},
		{"one of another registry stays", older, func(s *situation) { s.pod.Waits[0].Host = "other.example.com" }, Leave, OtherRegistry},
		{"one of another port of the host stays", older, func(s *situation) {
			s.pod.Waits[0].Host = "r.example.com:5000"
		}, Leave, OtherRegistry},
		{"one that fails for another reason stays", older, func(s *situation) {
			s.pod.Waits[0].Refusal = diagnose.NotRefused
		}, Leave, OtherFailure},
		{"one that does not say why is asked about", older, func(s *situation) {
			s.pod.Waits[0].Refusal = diagnose.RefusalUntold
		}, Ask, Unexplained},
		{"one whose events do not say why either stays", older, func(s *situation) {
			s.asked(time.Second)
			s.told(diagnose.RefusalUntold)
		}, Leave, Unexplained},
		{"and is asked about again after a while", older, func(s *situation) {
			s.asked(firstAsk)
			s.told(diagnose.RefusalUntold)
		}, Ask, Unexplained},
		{"one whose account lacks the entry stays", older, func(s *situation) { s.facts.Entries = []string{"theirs"} }, Leave, EntryMissing},
		{"one whose Secret is not current stays", older, func(s *situation) { s.facts.Givers[0].Current = false }, Leave, SecretStale},
		{"one for which the credential is known to be bad stays", older, func(s *situation) {
			s.facts.Givers[0].Bad = true
		}, Leave, CredentialRefused},
		{"one that has only begun to wait is asked about", older, func(s *situation) { s.seen.Since = now.Add(-patience) }, Ask, WaitsBriefly},
		{"unless nobody would create it again", older, func(s *situation) {
			s.seen.Since, s.pod.Owner = now.Add(-patience), nobody
		}, Leave, WaitsBriefly},
		{"and stays for half a minute", older, func(s *situation) { s.seen.Since = now.Add(-patience); s.asked(0) }, Leave, WaitsBriefly},
		{"and goes then", older, func(s *situation) { s.seen.Since = now.Add(-patience - time.Second); s.asked(0) }, Evict, PodOlderThanEntry},
		{"one stays until all API servers know of what stands", older, func(s *situation) {
			s.facts.Listed = ago(settling - time.Second)
		}, Leave, WaitsBriefly},
		{"and goes then, too", older, func(s *situation) { s.facts.Listed = ago(settling) }, Evict, PodOlderThanEntry},
		{"and where the clock of an API server is far ahead", older, func(s *situation) { s.facts.Listed = ago(-time.Hour) }, Evict, PodOlderThanEntry},
		{"one that nobody would create again is told of", older, func(s *situation) { s.pod.Owner = nobody }, Tell, NoController},
		{"one of a Job that would count it is told of", older, func(s *situation) {
			s.pod.Owner, s.counts = unique.Make(Owner{"batch/v1", "Job", "job", "3"}), true
		}, Tell, JobCounts},
		{"one of something else that is called so goes", older, func(s *situation) {
			s.pod.Owner, s.counts = unique.Make(Owner{"batch.volcano.sh/v1alpha1", "Job", "job", "3"}), true
		}, Evict, PodOlderThanEntry},
		{"one of a Job that would not count it goes", older, func(s *situation) {
			s.pod.Owner = unique.Make(Owner{"batch/v1", "Job", "job", "3"})
		}, Evict, PodOlderThanEntry},
		{"so does one that lists what an ImagePullSecret gave that is gone", older, func(s *situation) {
			s.pod.Entries = []string{"tcr.ipsgone", "theirs"}
		}, Evict, PodOlderThanEntry},
		{"one that lists its own is told of", older, func(s *situation) { s.pod.Entries = []string{"own"} }, Tell, PodListsItsOwn},
		{"unless that is no hindrance", older, func(s *situation) {
			s.pod.Entries, s.facts.Givers[0].Inserted = []string{"own"}, true
		}, Evict, PodOlderThanEntry},
		{"one that was created in the second in which all stood goes", older, func(s *situation) {
			s.pod.Created, s.facts.Givers[0].Written = ago(time.Minute), ago(time.Minute)
		}, Evict, PodOlderThanEntry},

		{"a pod deep in its backoff goes", waiting, nil, Evict, BackingOff},
		{"even where its events tell of few failures: it waits for long", waiting, func(s *situation) { s.seen.Pulls[0].Failures = 1 }, Evict, BackingOff},
		{"and where another image has failed since", waiting, func(s *situation) {
			s.pod.Waits = append(s.pod.Waits, Wait{Image: "other.example.com/a", Host: "other.example.com"})
			s.seen.Pulls = append(s.seen.Pulls, Pull{Image: "other.example.com/a", FailedAt: now})
		}, Evict, BackingOff},
		{"one with the entry that may not stays", waiting, func(s *situation) {
			s.pod.Waits[0].Refusal = diagnose.RefusedScope
		}, Leave, CredentialRefused},
		{"one that failed after the Secret was written stays", waiting, func(s *situation) {
			s.failed(now.Add(-9*time.Second), 4)
		}, Leave, CredentialRefused},
		{"one that failed in that second stays", waiting, func(s *situation) {
			s.failed(now.Add(-10*time.Second), 4)
		}, Leave, CredentialRefused},
		{"one whose image is being pulled stays", waiting, func(s *situation) { s.seen.Pulls[0].BegunAt = now.Add(-9 * time.Second) }, Leave, TriesSoon},
		{"one whose image was before the Secret was written does not", waiting, func(s *situation) {
			s.seen.Pulls[0].BegunAt = now.Add(-11 * time.Second)
		}, Evict, BackingOff},
		{"one that tries again within a minute stays", waiting, func(s *situation) {
			s.failed(now.Add(-4*time.Minute), 4)
		}, Leave, TriesSoon},
		{"one that has more than a minute left goes", waiting, func(s *situation) {
			s.failed(now.Add(-4*time.Minute+time.Second), 4)
		}, Evict, BackingOff},
		{"one early in its backoff stays", waiting, func(s *situation) {
			s.seen.Since = now.Add(-75 * time.Second)
			s.failed(now.Add(-40*time.Second), 3)
		}, Leave, TriesSoon},
		{"one whose last failure is not known is asked about", waiting, func(s *situation) {
			s.seen = Seen{First: s.seen.First, Since: s.seen.Since}
		}, Ask, Unexplained},
		{"one whose events are gone stays", waiting, func(s *situation) { s.seen.Pulls = nil }, Leave, Unexplained},
		{"one that was seen failing is asked about once more", waiting, func(s *situation) { s.seen.Asked, s.seen.Known = 0, 0 }, Ask, Unexplained},
		{"and anew for a Secret that was written since", waiting, func(s *situation) {
			s.facts.Givers[0].Written = ago(4 * time.Second)
		}, Ask, Unexplained},
		{"and stays where its events could not be read", waiting, func(s *situation) {
			s.facts.Givers[0].Written = ago(4 * time.Second)
			s.seen = s.seen.Untold(ago(4*time.Second), now.Add(-time.Second))
		}, Leave, Unexplained},
		{"one that was seen failing after that is not", waiting, func(s *situation) {
			s.seen.Asked, s.seen.Known = 0, 0
			s.failed(now.Add(-5*time.Second), 4)
		}, Leave, CredentialRefused},
		{"one that waits for less than half a minute stays", waiting, func(s *situation) {
			s.seen.Since = now.Add(-30 * time.Second)
			s.failed(now.Add(-29*time.Second), 9)
		}, Leave, WaitsBriefly},

		{"a pod that came after all stood stays for ten minutes", late, nil, Leave, Young},
		{"whatever it says", late, func(s *situation) { s.pod.Waits[0].Refusal = diagnose.RefusedScope }, Leave, Young},
		{"to the second", late, func(s *situation) { later(s, rest-time.Second) }, Leave, Young},
		{"and goes then", late, func(s *situation) { later(s, rest) }, Evict, PodOlderThanEntry},
		{"unless it was seen for less than that: who knows what was before", late, func(s *situation) { s.pod.Created = ago(rest) }, Leave, Young},
		{"but not as the second one of its owner", late, func(s *situation) {
			later(s, rest)
			s.past = Past{Late: [2]Latecomer{came(9 * time.Minute), came(rest)}}
		}, Tell, NotHelped},
		{"nor any other of that owner", older, func(s *situation) {
			s.past = Past{Late: [2]Latecomer{came(time.Minute), came(time.Minute)}}
		}, Tell, NotHelped},
		{"for ten minutes", older, func(s *situation) { s.past = Past{Late: [2]Latecomer{came(rest), came(rest)}} }, Evict, PodOlderThanEntry},
		{"one after an evicted one stays for good", late, func(s *situation) {
			later(s, 30*time.Minute)
			s.past = Past{Evicted: now.Add(-31 * time.Minute), Stood: written.Unix()}
		}, Tell, NotHelped},
		{"until something else stands", older, func(s *situation) {
			later(s, 5*time.Minute)
			s.past = Past{Late: [2]Latecomer{came(time.Minute), came(time.Minute)}, Evicted: now.Add(-10 * time.Minute), Stood: written.Unix()}
			s.facts.Givers[0].Written = ago(50 * time.Second)
		}, Evict, PodOlderThanEntry},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.of()
			if c.change != nil {
				c.change(&s)
			}
			got := Decide(s.pod, s.seen, s.facts, s.past, s.counts, now)
			assert.Equal(t, c.reason, got.Reason)
			assert.Equal(t, c.action, got.Action)
		})
	}
}

func TestSeveralGivers(t *testing.T) {
	s := older()
	s.facts.Givers = append([]Giver{{Name: "stale", Secret: "tcr.ipsstale", Servers: []string{"r.example.com"}}}, s.facts.Givers...)
	s.facts.Entries = append(s.facts.Entries, "tcr.ipsstale")
	got := Decide(s.pod, s.seen, s.facts, s.past, false, now)
	assert.Equal(t, Verdict{Evict, PodOlderThanEntry, "demo", "tcr.ipsdemo", false, written.Unix(), written.Unix()}, got)
}

func TestAGiverGivesForItsServers(t *testing.T) {
	giver := Giver{Servers: []string{"r.example.com", "index.docker.io", "10.0.0.1:5000"}}
	for text, gives := range map[string]bool{
		"r.example.com/app": true, "R.example.com/app": true, "nginx": true, "docker.io/library/nginx": true, "team/app": true, "10.0.0.1:5000/a/b:c": true,
		"r.example.com:443/app": false, "another.example.com/app": false, "10.0.0.1/a": false, "r.example.com.evil.com/app": false, "": false,
	} {
		given := pod(imagePullBackOff, unknown)
		given.Status.ContainerStatuses[0].State.Waiting.Message, given.Spec.Containers[0].Image = "", text
		assert.Equal(t, gives, giver.gives(Strip(given).Waits[0].Host), text)
	}
	assert.False(t, Giver{Servers: []string{"r.example.com"}}.gives("docker.io"))
}

func TestPast(t *testing.T) {
	var past Past
	for _, created := range []int64{3, 1, 5, 4, 2} {
		past.Saw(Latecomer{Created: created, Seen: now})
	}
	assert.Equal(t, [2]Latecomer{{5, now}, {4, now}}, past.Late)
}
