package plan

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// crowd is a namespace in line in which many accounts stand.
type crowd struct {
	rules   *pullsecret.Rules
	state   *State
	agenda  Agenda
	names   []string
	version uint64
}

func newCrowd(accounts int) *crowd {
	index := pullsecret.NewIndex()
	object := &v1.ImagePullSecret{Spec: v1.ImagePullSecretSpec{Docker: v1.DockerCredential{Username: "robot", Password: "hidden", Server: "registry.example.com"}}}
	object.Name, object.UID = "r", "uid"
	index.Put(object)
	c := &crowd{rules: index.Rules(), state: NewState(), version: 10}
	c.state.ReplaceNamespaces([]NamespaceMeta{{Name: "a", UID: "1", Live: true}})
	c.state.ReplaceAccounts(nil, latest.Relist{Version: 1})
	c.state.ReplaceSecrets("tcr.ipsr", nil, latest.Relist{Version: 1})
	secret := StripSecret(c.rules.Get("r").NewSecret()).Object
	secret.Version = 7
	c.state.PutSecret("a", secret)
	for i := range accounts {
		c.names = append(c.names, fmt.Sprintf("account-%05d", i*7919%accounts))
		c.put(c.names[i])
	}
	return c
}

// put has an account that is in line changed, or created.
func (c *crowd) put(name string) {
	c.version++
	c.state.PutAccount("a", Account{Name: name, Version: c.version, Secrets: []string{"theirs", "tcr.ipsr"}})
	c.agenda.Add(ObjectKey{"a", true, name})
}

// compare takes what is to be compared, and returns what is to be written.
func (c *crowd) compare() int {
	part := c.agenda.Take("a")
	view, _ := c.state.ViewPart("a", part)
	planned := ForPart(c.rules, view, part, Visibility{c.state.Issued, c.state.Watched, nowhere})
	c.state.SetProblems("a", part, planned.Problems)
	return len(planned.Changes) + len(planned.Problems)
}

func TestWhatAnEventCostsDoesNotDependOnWhatElseStandsInItsNamespace(t *testing.T) {
	bytes := func(accounts int) (each float64) {
		const events = 1000
		c := newCrowd(accounts)
		c.compare()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for i := range events {
			c.put(c.names[i%accounts])
			assert.Zero(t, c.compare())
		}
		runtime.ReadMemStats(&after)
		return float64(after.TotalAlloc-before.TotalAlloc) / events
	}
	few, many := bytes(100), bytes(10000)
	assert.Less(t, many, 1.5*few, "bytes allocated for each event")
}

// BenchmarkEvent is what an event costs where so many accounts stand in its namespace.
func BenchmarkEvent(b *testing.B) {
	for _, accounts := range []int{1000, 3000, 9000} {
		c := newCrowd(accounts)
		c.compare()
		b.Run(fmt.Sprint("changed/", accounts), func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				c.put(c.names[i%accounts])
				c.compare()
			}
		})
		b.Run(fmt.Sprint("created/", accounts), func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				c.put(c.names[i%accounts] + "-young")
				c.compare()
				c.state.RemoveAccount("a", c.names[i%accounts]+"-young", c.version)
			}
		})
	}
}

// BenchmarkSummarize is what a status costs, which is looked at once a second at most.
func BenchmarkSummarize(b *testing.B) {
	for _, accounts := range []int{1000, 3000, 9000} {
		c := newCrowd(accounts)
		rule := c.rules.Get("r")
		b.Run(fmt.Sprint(accounts), func(b *testing.B) {
			b.ReportAllocs()
			var status v1.ImagePullSecretStatus
			for b.Loop() {
				status = Summarize(rule, c.state, status, time.Unix(1000, 0))
			}
			if int(status.SAsSuccess) != accounts {
				b.Fatal(status.SAsSuccess)
			}
		})
	}
}
