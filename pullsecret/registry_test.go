package pullsecret

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// issued returns an ImagePullSecret whose credential the cloud issues, changed by some.
func issued(changes ...func(*v1.ImagePullSecret)) *v1.ImagePullSecret {
	object := &v1.ImagePullSecret{}
	object.Name, object.UID, object.Generation = "a", "1", 1
	object.Spec.Docker.AdditionalServers = []v1.Host{"r.example.com"}
	object.Spec.TCR = &v1.RegistryInstance{RegistryID: "tcr-demo0001", Region: "ap-guangzhou"}
	for _, change := range changes {
		change(object)
	}
	return object
}

func TestWhatIsAskedOfARegistryInstance(t *testing.T) {
	rule, errs := Parse(issued())
	require.Empty(t, errs)
	assert.Equal(t, &Registry{ID: "tcr-demo0001", Region: "ap-guangzhou", RotateAfter: 2160 * time.Hour,
		Additional: []string{"r.example.com"}}, rule.Registry)
	assert.False(t, rule.Known())
	assert.Equal(t, []string{"tcr-demo0001.invalid", "r.example.com"}, rule.Servers, "its domain is not known yet")
	assert.Equal(t, "the domains of tcr-demo0001", rule.Called("tcr-demo0001.invalid"), "nobody is told of a name that stands for others")
	assert.Equal(t, "r.example.com", rule.Called("r.example.com"))

	rule, errs = Parse(issued(func(object *v1.ImagePullSecret) {
		tcr := object.Spec.TCR
		tcr.TokenType, tcr.RotateAfter, tcr.OnDelete, tcr.CredentialsSecretRef = "temp", "24h0m30s", "Keep", &v1.SecretReference{Name: "cam"}
	}))
	require.Empty(t, errs)
	assert.Equal(t, &Registry{
		ID: "tcr-demo0001", Region: "ap-guangzhou", Temporary: true, RotateAfter: 24*time.Hour + 30*time.Second, Keep: true, Keys: "cam",
		Additional: []string{"r.example.com"},
	}, rule.Registry)
}

func TestARegistrysDomainsStandBeforeOthers(t *testing.T) {
	registry := &Registry{Additional: []string{"r.example.com", "demo-vpc.tencentcloudcr.com", "demo.tencentcloudcr.com"}}
	assert.Equal(t, []string{"demo.tencentcloudcr.com", "demo-vpc.tencentcloudcr.com", "r.example.com"},
		registry.servers("demo.tencentcloudcr.com"), "each stands once")
	assert.Contains(t, string(registry.Render("demo.tencentcloudcr.com", "u", "p")), `"demo-vpc.tencentcloudcr.com":{"username":"u"`)
}

func TestWhatTheCloudIssuesStaysThroughEdits(t *testing.T) {
	given := Credential{Config: []byte("c1"), Renewal: Renewal{Domain: "demo.tencentcloudcr.com", Expires: time.Unix(1e9, 0)}}
	for name, test := range map[string]struct {
		change func(*v1.ImagePullSecret)
		stays  bool
	}{
		"others are selected":     {func(object *v1.ImagePullSecret) { object.Spec.Namespaces = "n" }, true},
		"it is renewed otherwise": {func(object *v1.ImagePullSecret) { object.Spec.TCR.RotateAfter = "1h" }, true},
		"other keys are called with": {func(object *v1.ImagePullSecret) {
			object.Spec.TCR.CredentialsSecretRef = &v1.SecretReference{Name: "b"}
		}, true},
		"another registry":           {func(object *v1.ImagePullSecret) { object.Spec.TCR.RegistryID = "tcr-demo0002" }, false},
		"another region":             {func(object *v1.ImagePullSecret) { object.Spec.TCR.Region = "ap-beijing" }, false},
		"another host":               {func(object *v1.ImagePullSecret) { object.Spec.Docker.AdditionalServers = nil }, false},
		"another object of its name": {func(object *v1.ImagePullSecret) { object.UID = "2" }, false},
		"a password": {func(object *v1.ImagePullSecret) {
			object.Spec.TCR, object.Spec.Docker = nil, v1.DockerCredential{SecretRef: &v1.SecretReference{Name: "b"}, Server: "r"}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			index := NewIndex()
			index.Put(issued())
			before := index.Rules().Get("a")
			index.Supply(map[*Rule]Credential{before: given})
			assert.True(t, index.Rules().Get("a").Known())

			index.Put(issued(test.change))
			rule := index.Rules().Get("a")
			require.Equal(t, test.stays, rule.Known())
			if test.stays {
				assert.Equal(t, []string{"demo.tencentcloudcr.com", "demo-vpc.tencentcloudcr.com", "r.example.com"}, rule.Servers)
				assert.Equal(t, given.Renewal, rule.Renewal)
			}
			index.Supply(map[*Rule]Credential{before: given})
			assert.Equal(t, test.stays, index.Rules().Get("a").Known(), "what comes late counts for the same alone")
		})
	}
}

func TestWhatTheCloudIssuesStaysThroughAnInvalidSpec(t *testing.T) {
	index := NewIndex()
	index.Put(issued())
	given := Credential{Config: []byte("c1"), Renewal: Renewal{Domain: "demo.tencentcloudcr.com", Expires: time.Unix(1e9, 0)}}
	index.Supply(map[*Rule]Credential{index.Rules().Get("a"): given})
	before := Derive(index.Rules().Attaching(), 1)

	index.Put(issued(func(object *v1.ImagePullSecret) { object.Generation, object.Spec.Namespaces = 2, "n,n" }))
	require.Nil(t, index.Rules().Get("a"))
	index.Put(issued(func(object *v1.ImagePullSecret) { object.Generation = 3 }))
	assert.True(t, index.Rules().Get("a").Known(), "the cloud may be away")
	edits, known := Derive(index.Rules().Attaching(), 1).Edits(0, before)
	assert.True(t, known)
	assert.Empty(t, edits)

	index.Put(issued(func(object *v1.ImagePullSecret) { object.Generation, object.Spec.Namespaces = 4, "n,n" }))
	index.Put(issued(func(object *v1.ImagePullSecret) { object.UID = "2" }))
	assert.False(t, index.Rules().Get("a").Known(), "another object gets a token of its own")
}

func TestARefusalIsAChangeOnce(t *testing.T) {
	index, changes := NewIndex(), 0
	index.Put(issued())
	index.Observe(func(Change) { changes++ })
	for range 2 {
		rule := index.Rules().Get("a")
		index.Supply(map[*Rule]Credential{rule: {Renewal: Renewal{Refused: &Unread{Reason: "NoRoute"}}}})
	}
	assert.Equal(t, 1, changes)
}

func TestWhichPrivateNetworkIsAskedFor(t *testing.T) {
	rule, errs := Parse(issued(func(object *v1.ImagePullSecret) {
		object.Spec.TCR.PrivateNetwork = &v1.PrivateNetwork{VPCID: "vpc-a", Domains: []v1.NetworkDomain{"vpc", "r.example.com"}}
	}))
	require.Empty(t, errs)
	assert.Equal(t, &Network{VPC: "vpc-a", Domains: []string{"vpc", "r.example.com"}}, rule.Registry.Network)

	rule, errs = Parse(issued(func(object *v1.ImagePullSecret) { object.Spec.TCR.PrivateNetwork = &v1.PrivateNetwork{} }))
	require.Empty(t, errs)
	assert.Equal(t, &Network{}, rule.Registry.Network, "the only one")
}
