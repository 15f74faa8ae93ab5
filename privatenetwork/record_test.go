package privatenetwork

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func found() Record {
	record := Record{}.Ask("1", "tcr-demo0001", "ap-guangzhou", "vpc-a", []string{VPC})
	record.Domain, record.Links = public, []Link{link}
	record.Names, record.NamesOf = map[string]NameStatus{VPC: {"vpc-a", "ENABLED"}}, link.Address
	return record
}

func TestARecordIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	records := map[string]Record{"a": found(), "b": Record{}.Ask("2", "tcr-demo0002", "ap-beijing", "", nil)}
	read, err := Decode(Encode(records))
	require.NoError(t, err)
	require.Len(t, read, 2)
	for name, record := range records {
		assert.True(t, record.Equal(read[name]), name)
	}
	assert.True(t, found().Told())
	assert.False(t, records["b"].Told())

	none, err := Decode("")
	require.NoError(t, err)
	assert.Empty(t, none)
	_, err = Decode("hosts: []")
	assert.Error(t, err)
}

func TestWhatSomebodyElseWroteIsJudgedAnew(t *testing.T) {
	t.Parallel()
	read, err := Decode(strings.ReplaceAll(Encode(map[string]Record{"a": found()}), "10.0.0.5", "8.8.8.8"))
	require.NoError(t, err)
	answer := Resolve(read["a"].Question(nil))
	assert.Equal(t, AddressNotPrivate, answer.Reason)
	assert.Empty(t, answer.Hosts)
}

func TestWhatWasToldIsOfOneRegistry(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		uid, registry, region, vpc string
		stays                      bool
	}{
		"the same":                   {"1", "tcr-demo0001", "ap-guangzhou", "vpc-a", true},
		"another network":            {"1", "tcr-demo0001", "ap-guangzhou", "vpc-b", true},
		"another registry":           {"1", "tcr-demo0002", "ap-guangzhou", "vpc-a", false},
		"another region":             {"1", "tcr-demo0001", "ap-beijing", "vpc-a", false},
		"another object of its name": {"2", "tcr-demo0001", "ap-guangzhou", "vpc-a", false},
	} {
		record := found().Ask(test.uid, test.registry, test.region, test.vpc, []string{Default})
		assert.Equal(t, test.stays, record.Told(), name)
		assert.Equal(t, test.registry, record.Registry, name)
		assert.Equal(t, test.vpc, record.VPC, name)
		assert.Equal(t, []string{Default}, record.Domains, name)
		assert.False(t, record.Equal(found()), name)
	}
}

func TestWhatTheDNSDoesIsToldOfOneAddress(t *testing.T) {
	t.Parallel()
	record := found()
	assert.Equal(t, []string{private}, Resolve(record.Question(nil)).Resolved)
	record.Links = []Link{{VPC: "vpc-a", Status: "Running", Address: "10.0.0.6"}}
	assert.Equal(t, []Host{{private, netip.MustParseAddr("10.0.0.6")}}, Resolve(record.Question(nil)).Hosts, "it may lead to the old one")
}

func TestOnlyWhatIsPlausibleIsTakenIn(t *testing.T) {
	t.Parallel()
	hostile := strings.Repeat("x", 100)
	assert.Equal(t, []Link{link, {VPC: "vpc-b", Status: "Unknown"}}, Plausible([]Link{
		{VPC: "vpc-a\nhosts: []", Status: "Running", Address: "10.0.0.9"}, link,
		{VPC: "vpc-b", Subnet: hostile, Status: hostile, Address: "10.0.0.5\n1.2.3.4 a"},
	}))
	assert.Len(t, Plausible(make([]Link, 0)), 0)
	many := make([]Link, 100)
	for i := range many {
		many[i] = link
	}
	assert.Len(t, Plausible(many), maxLinks)
}

func TestOnlyTheRegistrysOwnDomainsAreAskedAbout(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []string{Default, VPC}, question().Asked())
	assert.Equal(t, []string{VPC}, question(func(q *Question) { q.Domains = []string{"r.example.com", VPC} }).Asked())
}
