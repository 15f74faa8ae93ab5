package keeper

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential/tencentcloud"
	"github.com/tcr-assistant/tcr-assistant/privatenetwork"
)

// registry answers as it is told to, and counts what it was asked.
type registry struct {
	domain, links, names error
	address              string
	told                 []tencentcloud.ResolvedName
	asked                []string
}

func (r *registry) Domain(context.Context) (string, error) {
	r.asked = append(r.asked, "domain")
	return "demo.tencentcloudcr.com", r.domain
}

func (r *registry) Links(context.Context) ([]tencentcloud.Link, error) {
	r.asked = append(r.asked, "links")
	return []tencentcloud.Link{{VPC: "vpc-a", Subnet: "subnet-a", Status: "Running", Address: r.address}}, r.links
}

func (r *registry) NameStatus(_ context.Context, link tencentcloud.Link, defaultDomain bool) ([]tencentcloud.ResolvedName, error) {
	word := privatenetwork.VPC
	if defaultDomain {
		word = privatenetwork.Default
	}
	r.asked = append(r.asked, word+" at "+link.Address)
	return r.told, r.names
}

func asked(domains ...string) privatenetwork.Record {
	return privatenetwork.Record{}.Ask("1", "tcr-demo0001", "ap-guangzhou", "vpc-a", domains)
}

func TestTheCloudIsAskedForNoMoreThanIsNeeded(t *testing.T) {
	t.Parallel()
	r := &registry{address: "10.0.0.5", told: []tencentcloud.ResolvedName{{VPC: "vpc-a", Status: "DISABLED"}}}
	record, err := ask(t.Context(), r, asked(), false)
	require.NoError(t, err)
	assert.Equal(t, []string{"domain", "links", "default at 10.0.0.5", "vpc at 10.0.0.5"}, r.asked)
	r.asked = nil
	record, err = ask(t.Context(), r, record.Ask("1", "tcr-demo0001", "ap-guangzhou", "vpc-a", []string{"vpc", "r.example.com"}), true)
	require.NoError(t, err)
	assert.Equal(t, []string{"links", "vpc at 10.0.0.5"}, r.asked, "the domain of an instance stays")
	r.asked = nil
	record, err = ask(t.Context(), r, record.Ask("1", "tcr-demo0001", "ap-guangzhou", "vpc-b", nil), true)
	require.NoError(t, err)
	assert.Equal(t, []string{"links"}, r.asked, "there is no link")
	assert.Equal(t, privatenetwork.LinkMissing, privatenetwork.Resolve(record.Question(nil)).Reason)
}

func TestWhatIsToldBeforeAFailureCounts(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	r := &registry{address: "10.0.0.5", told: []tencentcloud.ResolvedName{{VPC: "vpc-a", Status: "ENABLED"}}}
	before, err := ask(t.Context(), r, asked("vpc"), false)
	require.NoError(t, err)

	r.address, r.names = "10.0.0.6", refused
	record, err := ask(t.Context(), r, before, true)
	require.ErrorIs(t, err, refused)
	answer := privatenetwork.Resolve(record.Question(nil))
	assert.Equal(t, "10.0.0.6", answer.Hosts[0].Address.String(), "the address has changed, and what its names do is not known")

	r.address = "10.0.0.5"
	record, err = ask(t.Context(), r, before, true)
	require.ErrorIs(t, err, refused)
	assert.True(t, record.Equal(before), "what the names do is known from before")

	r.links = refused
	record, err = ask(t.Context(), r, before, true)
	require.ErrorIs(t, err, refused)
	assert.True(t, record.Equal(before))

	record, err = ask(t.Context(), r, before, false)
	require.ErrorIs(t, err, refused)
	assert.True(t, record.Equal(before), "it was told before, by whomever")

	r.domain = refused
	record, err = ask(t.Context(), r, asked(), false)
	require.ErrorIs(t, err, refused)
	assert.False(t, record.Told())
}

func TestADomainFromBeforeIsAskedForOnce(t *testing.T) {
	t.Parallel()
	r := &registry{address: "10.0.0.5", told: []tencentcloud.ResolvedName{{VPC: "vpc-a", Status: "DISABLED"}}}
	before, err := ask(t.Context(), r, asked("default"), false)
	require.NoError(t, err)
	forged := before
	forged.Domain = "registry-1.docker.io"
	record, err := ask(t.Context(), r, forged, false)
	require.NoError(t, err)
	assert.True(t, record.Equal(before), "somebody may have written it")
}

func TestAnAnswerThatIsNotAboutTheOneNetworkIsNone(t *testing.T) {
	t.Parallel()
	for name, told := range map[string][]tencentcloud.ResolvedName{
		"no answer": nil, "another network": {{VPC: "vpc-b", Status: "ENABLED"}},
		"two":        {{VPC: "vpc-a", Status: "ENABLED"}, {VPC: "vpc-a", Status: "ENABLED"}},
		"no network": {{VPC: "x\ny", Status: "ENABLED"}},
	} {
		record, err := ask(t.Context(), &registry{address: "10.0.0.5", told: told}, asked("default"), false)
		require.NoError(t, err, name)
		answer := privatenetwork.Resolve(record.Question(nil))
		assert.Equal(t, privatenetwork.BadAnswer, answer.Reason, name)
		assert.Empty(t, answer.Hosts, name)
	}
}

func TestWhatIsTold(t *testing.T) {
	t.Parallel()
	r := &registry{address: "10.0.0.5", told: []tencentcloud.ResolvedName{{VPC: "vpc-a", Status: "ENABLED"}}}
	record, err := ask(t.Context(), r, asked("default", "r.example.com"), false)
	require.NoError(t, err)
	good := privatenetwork.Resolve(record.Question(nil))
	link := &v1.PrivateNetworkStatus{
		VPCID: "vpc-a", State: "Running", Address: "10.0.0.5",
		Domains: []string{"r.example.com"}, ResolvedDomains: []string{"demo.tencentcloudcr.com"},
	}
	failure := func(request string) error {
		return &tencentcloud.Error{
			Reason: tencentcloud.NoRoute, Action: "tcr:DescribeInternalEndpoints", Code: "InternalError", RequestID: request,
		}
	}
	away := refusalOf(failure("one"))
	unpublished := refusalOf(errors.New("writing config map a/b: refused"))
	bad := privatenetwork.Answer{Reason: privatenetwork.LinkMissing, Message: "create one"}
	for name, test := range map[string]struct {
		answer  privatenetwork.Answer
		told    bool
		refused *refusal
		ready   metav1.ConditionStatus
		reason  string
		link    *v1.PrivateNetworkStatus
	}{
		"all is well":                         {good, true, nil, metav1.ConditionTrue, "Linked", link},
		"a link is missing":                   {bad, true, nil, metav1.ConditionFalse, "LinkMissing", nil},
		"nothing was ever told":               {privatenetwork.Answer{}, false, away, metav1.ConditionFalse, "NoRoute", nil},
		"the last answer stays in effect":     {good, true, away, metav1.ConditionUnknown, "NoRoute", link},
		"there is nothing that could stay":    {bad, true, away, metav1.ConditionFalse, "NoRoute", nil},
		"what was told does not reach anyone": {good, true, unpublished, metav1.ConditionFalse, "NotPublished", link},
	} {
		reach := tell(test.answer, test.told, test.refused)
		assert.Equal(t, test.ready, reach.Ready, name)
		assert.Equal(t, test.reason, reach.Reason, name)
		assert.Equal(t, test.link, reach.Link, name)
	}
	assert.Contains(t, tell(good, true, away).Message,
		"the last answer stays in effect: registry tcr-demo0001 is reached from vpc-a at 10.0.0.5")
	assert.Equal(t, away, refusalOf(failure("two")), "it is the same failure")
	assert.Nil(t, refusalOf(nil))
}

func TestLinesThatNobodyFollowsAreTold(t *testing.T) {
	t.Parallel()
	r := &registry{address: "10.0.0.5", told: []tencentcloud.ResolvedName{{VPC: "vpc-a", Status: "ENABLED"}}}
	resolved, err := ask(t.Context(), r, asked("default"), false)
	require.NoError(t, err)
	lines, err := ask(t.Context(), r, asked("default", "r.example.com"), false)
	require.NoError(t, err)
	for name, test := range map[string]struct {
		record    privatenetwork.Record
		installed bool
		says      bool
	}{
		"hosts-updater is installed":            {lines, true, false},
		"it is not":                             {lines, false, true},
		"the cloud's DNS leads there by itself": {resolved, false, false},
	} {
		reach := tell(privatenetwork.Resolve(test.record.Question(nil)), true, nil)
		unfollowed(reach, test.installed, "hosts")
		assert.Equal(t, test.says, strings.Contains(reach.Message, "hosts-updater is not installed in namespace hosts"), name)
		assert.Equal(t, metav1.ConditionTrue, reach.Ready, name)
	}
}
