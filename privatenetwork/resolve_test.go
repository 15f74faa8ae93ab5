package privatenetwork

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/hostsd"
)

var (
	near = netip.MustParseAddr("10.0.0.5")
	far  = netip.MustParseAddr("10.0.0.6")
	link = Link{VPC: "vpc-a", Subnet: "subnet-a", Status: "Running", Address: "10.0.0.5"}
)

const (
	public  = "demo.tencentcloudcr.com"
	private = "demo-vpc.tencentcloudcr.com"
)

func question(change ...func(*Question)) Question {
	q := Question{Registry: "tcr-demo0001", Region: "ap-guangzhou", VPC: "vpc-a", Domain: public, Links: []Link{link}}
	for _, apply := range change {
		apply(&q)
	}
	return q
}

func TestResolve(t *testing.T) {
	t.Parallel()
	both := []Host{{private, near}, {public, near}}
	names := func(domain, vpc string) func(*Question) {
		return func(q *Question) {
			q.Names = map[string]NameStatus{Default: {"vpc-a", domain}, VPC: {"vpc-a", vpc}}
		}
	}
	links := func(links ...Link) func(*Question) { return func(q *Question) { q.Links = links } }
	domains := func(domains ...string) func(*Question) { return func(q *Question) { q.Domains = domains } }
	at := func(address string) func(*Question) {
		return func(q *Question) { q.Links = []Link{{"vpc-a", "subnet-a", "Running", address}} }
	}
	fixed := func(domain string, address netip.Addr) func(*Question) {
		return func(q *Question) {
			q.Fixed = map[string][]netip.Addr{domain: {netip.MustParseAddr("fd00::9"), address}}
		}
	}
	for _, test := range []struct {
		name     string
		change   func(*Question)
		hosts    []Host
		resolved []string
		reason   Reason
		says     string
	}{
		{"both domains lead to the link", names("DISABLED", "DISABLE"), both, nil, Linked, "reached from vpc-a at 10.0.0.5"},
		{"what was not asked gets a line", func(*Question) {}, both, nil, Linked, ""},
		{"what the cloud's DNS resolves gets none", names("DISABLED", "ENABLED"), both[1:], []string{private}, Linked, ""},
		{"in either spelling", names("ENABLE", "ENABLED"), nil, []string{private, public}, Linked, ""},
		{"a DNS in error is helped by a line", names("ERROR", "ENABLED"), both[1:], []string{private}, Linked, ""},
		{"an unknown word is no reason to do without", names("PERHAPS", "ENABLED"), both[1:], []string{private}, Linked, ""},
		{"domains that are written out", domains("default", "Registry.example.com.", public),
			[]Host{{public, near}, {"registry.example.com", near}}, nil, Linked, ""},
		{"what is no domain", domains("default", "*.example.com"), both[1:], nil, DomainInvalid, `"*.example.com" is not a domain`},
		{"what is no full domain", domains("localhost"), nil, nil, DomainInvalid, "write default, vpc, or a domain such as"},
		{"an address in place of a domain", domains("10.0.0.1"), nil, nil, DomainInvalid, ""},
		{"a label that is too long", domains(strings.Repeat("a", 64) + ".com"), nil, nil, DomainInvalid, ""},
		{"the node's own name", domains("a.localhost", "localhost.localdomain"), nil, nil, DomainInvalid, ""},
		{"a registry without a domain", func(q *Question) { q.Domain = "" }, nil, nil, DomainInvalid, "is not a domain"},
		{"no link", links(), nil, nil, LinkMissing,
			"registry tcr-demo0001 in ap-guangzhou has no link from the private network vpc-a: create one under"},
		{"no link at all", func(q *Question) { q.VPC, q.Links = "", nil }, nil, nil, LinkMissing,
			"registry tcr-demo0001 in ap-guangzhou has no link from a private network: create one under"},
		{"a link from elsewhere", links(Link{VPC: "vpc-b", Status: "Running", Address: "10.0.0.9"}), nil, nil, LinkMissing,
			"(it is linked with vpc-b)"},
		{"the only link is meant", func(q *Question) { q.VPC = "" }, both, nil, Linked, ""},
		{"of several one is to be named", func(q *Question) { q.VPC = ""; q.Links = []Link{link, {VPC: "vpc-b"}} }, nil, nil, LinkAmbiguous,
			"vpc-a, vpc-b: write one of them"},
		{"a link that is being created", links(Link{VPC: "vpc-a", Status: "Pending"}), nil, nil, LinkPending, "checked again"},
		{"a link without an address yet", at(""), nil, nil, LinkPending, "has no address yet"},
		{"one that is up beside one that is being deleted", links(link, Link{VPC: "vpc-a", Status: "Deleting", Address: "10.0.0.9"}),
			both, nil, Linked, ""},
		{"one that is up beside one without an address", links(link, Link{VPC: "vpc-a", Status: "Running"}), both, nil, Linked, ""},
		{"two that are up, in any order", links(Link{VPC: "vpc-a", Status: "Running", Address: "10.0.0.6"}, link), both, nil, Linked, ""},
		{"two from the only network", func(q *Question) { q.VPC = ""; q.Links = []Link{link, {VPC: "vpc-a", Status: "Deleting"}} },
			both, nil, Linked, ""},
		{"a network is named once", func(q *Question) { q.VPC = ""; q.Links = []Link{link, link, {VPC: "vpc-b"}} }, nil, nil, LinkAmbiguous,
			"is linked with vpc-a, vpc-b: write"},
		{"a link that has failed", links(Link{VPC: "vpc-a", Status: "Failed", Address: "10.0.0.5"}), nil, nil, LinkBroken, `in state "Failed"`},
		{"a public address", at("8.8.8.8"), nil, nil, AddressNotPrivate, "8.8.8.8 is not a private one"},
		{"this machine's own", at("127.0.0.1"), nil, nil, AddressNotPrivate, ""},
		{"a metadata service", at("169.254.169.254"), nil, nil, AddressNotPrivate, ""},
		{"an address in disguise", at("::ffff:10.0.0.5"), nil, nil, AddressNotPrivate, ""},
		{"an address with a zone", at("fd00::5%eth0"), nil, nil, AddressNotPrivate, ""},
		{"no address", at("10.0.0.5\n1.2.3.4 a"), nil, nil, AddressNotPrivate, "is not an IP address"},
		{"an answer about another network", func(q *Question) { q.Names = map[string]NameStatus{Default: {"vpc-z", "ENABLED"}} }, both[:1],
			nil, BadAnswer, "another network"},
		{"global.hosts wins", fixed(public, far), both[:1], nil, DomainsClash, "global.hosts leads demo.tencentcloudcr.com to fd00::9"},
		{"global.hosts agrees", fixed(public, near), both[:1], nil, Linked, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			answer := Resolve(question(test.change))
			assert.Equal(t, test.hosts, answer.Hosts)
			assert.Equal(t, test.resolved, answer.Resolved)
			assert.Equal(t, test.reason, answer.Reason)
			assert.Equal(t, test.reason == Linked, answer.Ready())
			assert.Contains(t, answer.Message, test.says)
		})
	}
	_, up := question(at("8.8.8.8")).Linked()
	assert.False(t, up, "nothing is asked of an address that no line is written for")
	shared := Resolve(question(at("100.64.0.1")))
	assert.True(t, shared.Ready())
	assert.Equal(t, link, Resolve(question()).Link)
}

func TestMergeAndRender(t *testing.T) {
	t.Parallel()
	one, other := Resolve(question()), Resolve(question(func(q *Question) {
		q.Links = []Link{{"vpc-a", "", "Running", "10.0.0.6"}}
		q.Domains = []string{"default", "registry.example.com"}
	}))
	hosts, told := Merge(map[string]Answer{"b": other, "a": one, "c": one})
	assert.Equal(t, []Host{{private, near}, {public, near}, {"registry.example.com", far}}, hosts)
	assert.Equal(t, one, told["a"])
	assert.Equal(t, one, told["c"], "who agrees has nothing to be told")
	assert.Equal(t, DomainsClash, told["b"].Reason)
	assert.Equal(t, []Host{{"registry.example.com", far}}, told["b"].Hosts, "what it has of its own stays")
	assert.Contains(t, told["b"].Message, "ImagePullSecret a leads demo.tencentcloudcr.com to 10.0.0.5, and this one to 10.0.0.6")

	config, err := hostsd.ParseConfig([]byte(Render(hosts)))
	require.NoError(t, err)
	assert.Empty(t, config.Refused)
	require.Len(t, config.Entries, 3)
	assert.Equal(t, "10.0.0.5 "+private, config.Entries[0].String())
	config, err = hostsd.ParseConfig([]byte(Render(nil)))
	require.NoError(t, err)
	assert.Empty(t, config.Entries)
}

// TestWhatIsPrivateIsTheSameOnNodes holds together what is said twice, here and in the daemon.
func TestWhatIsPrivateIsTheSameOnNodes(t *testing.T) {
	for address, private := range map[string]bool{
		"10.0.0.5": true, "172.16.0.1": true, "172.31.255.255": true, "192.168.0.1": true, "fd00::5": true,
		"100.64.0.0": true, "100.127.255.255": true, "100.63.255.255": false, "100.128.0.0": false,
		"8.8.8.8": false, "172.32.0.1": false, "127.0.0.1": false, "::1": false, "169.254.0.1": false, "fe80::1": false, "0.0.0.0": false,
		"2001:db8::1": false, "::ffff:10.0.0.5": false, "fd00::5%eth0": false, "224.0.0.1": false, "": false,
	} {
		_, err := parseAddress(address)
		assert.Equal(t, private, err == nil, address)
		config, err := hostsd.ParseDiscovered([]byte(`hosts: [{domain: demo.tencentcloudcr.com, ip: "` + address + `"}]`))
		require.NoError(t, err)
		assert.Equal(t, private, len(config.Entries) == 1, "%s on a node", address)
	}
}

// FuzzResolve holds that whatever the cloud answers, hosts-updater takes the lines, which it does of private addresses alone.
func FuzzResolve(f *testing.F) {
	f.Add("10.0.0.5", "Running", public, "default,registry.example.com", "ENABLED")
	f.Add("fd00::5", "running", "a.localhost", "vpc,1.2.3.4,localhost.localdomain,a.1", "DISABLE")
	f.Fuzz(func(t *testing.T, address, status, domain, domains, dns string) {
		answer := Resolve(question(func(q *Question) {
			q.Links = []Link{{"vpc-a", "", status, address}}
			q.Domain, q.Domains = domain, strings.Split(domains, ",")
			q.Names = map[string]NameStatus{Default: {"vpc-a", dns}}
		}))
		config, err := hostsd.ParseDiscovered([]byte(Render(answer.Hosts)))
		require.NoError(t, err)
		require.Len(t, config.Entries, len(answer.Hosts), "%v", config.Refused)
	})
}
