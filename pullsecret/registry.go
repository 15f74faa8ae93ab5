package pullsecret

import (
	"regexp"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/image"
)

// Registry is a registry instance for which the cloud issues the credential, as an ImagePullSecret asks for it. It is immutable.
type Registry struct {
	ID, Region string
	// Temporary asks for tokens that live for an hour, instead of those that are renewed after RotateAfter.
	Temporary   bool
	RotateAfter time.Duration
	// Keep leaves the tokens as they are once the ImagePullSecret is gone.
	Keep bool
	// Keys names the Secret in the manager's namespace that holds the keys for the cloud's API; blank for the manager's own identity.
	Keys string
	// Additional are the hosts that the credential is for besides the instance's own.
	Additional []string
	// Network is the private network from which to reach the instance; nil where none was asked for.
	Network *Network
}

// Network is a private network, and the domains that should lead to the registry there.
type Network struct {
	// VPC is the network's id; blank for the only one that the instance is linked with.
	VPC string
	// Domains are v1.DomainDefault, v1.DomainVPC, or domains written out; none means both of these.
	Domains []string
}

// Reach is whether a registry can be reached from the private network that was asked for.
type Reach struct {
	// Ready is whether every domain leads to the link. It is unknown while the cloud does not say; what it last said stays in effect.
	Ready           metav1.ConditionStatus
	Reason, Message string
	// Link is nil where there is none.
	Link *v1.PrivateNetworkStatus
}

// Renewal is how far the cloud has got with issuing a credential.
type Renewal struct {
	// Domain is the registry instance's default domain; blank where it is not known.
	Domain string
	// Expires is when the credential expires, Due when another one should replace it; zero where that is not known.
	Expires, Due time.Time
	// Refused is why the cloud does not issue or renew it; nil where it does.
	Refused *Unread
}

func (r Renewal) equal(other Renewal) bool {
	return r.Refused.Equal(other.Refused) && r.Domain == other.Domain && r.Expires.Equal(other.Expires) && r.Due.Equal(other.Due)
}

// defaultRotation is how long a long-term token is issued where spec.tcr.rotateAfter is blank.
const defaultRotation = 90 * 24 * time.Hour

// same reports whether both get the same credential, however it is renewed.
func (r *Registry) same(other *Registry) bool {
	return r.ID == other.ID && r.Region == other.Region && slices.Equal(r.Additional, other.Additional)
}

// servers returns the hosts that the credential is for, given the instance's default domain. While that is not known, a name that no
// registry can have stands for it.
func (r *Registry) servers(domain string) []string {
	if domain == "" {
		return append([]string{r.ID + ".invalid"}, r.Additional...)
	}
	servers := []string{domain}
	for _, server := range append([]string{image.PrivateHost(domain)}, r.Additional...) {
		if server != "" && !slices.Contains(servers, server) {
			servers = append(servers, server)
		}
	}
	return servers
}

// Reachable reports whether the hosts that the credential is for are known: those of a registry instance are once the cloud has named
// them.
func (r *Rule) Reachable() bool { return r.Registry == nil || r.Renewal.Domain != "" }

// Called returns what messages call one of the rule's servers: its name or, while the domains of the registry instance are not known,
// "the domains of" and its id.
func (r *Rule) Called(server string) string {
	if !r.Reachable() && server == r.Servers[0] {
		return "the domains of " + r.Registry.ID
	}
	return server
}

// Render returns the .dockerconfigjson of a token of the instance, given its default domain.
func (r *Registry) Render(domain, username, password string) []byte {
	servers := r.servers(domain)
	return Render(v1.DockerCredential{Username: username, Password: password, Server: servers[0], AdditionalServers: servers[1:]})
}

// checkBeside checks spec.docker where there is spec.tcr, too.
func checkBeside(path *field.Path, docker v1.DockerCredential) field.ErrorList {
	if docker.Username != "" || docker.Password != "" || docker.SecretRef != nil || docker.Server != "" {
		return field.ErrorList{field.Forbidden(path, "must hold nothing but additionalServers beside spec.tcr, which is the source of the "+
			"credential: leave out the rest, or spec.tcr")}
	}
	return checkAdditional(path, docker)
}

// The patterns that the fields of spec.tcr must match, as in the CRD.
var (
	registryForm = regexp.MustCompile(`^tcr-[a-z0-9]+$`)
	regionForm   = regexp.MustCompile(`^[a-z]+(-[a-z0-9]+)+$`)
	networkForm  = regexp.MustCompile(`^(vpc-[a-z0-9]+)?$`)
	domainForm   = regexp.MustCompile(`^(default|vpc|([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?[.])+[a-z]([-a-z0-9]{0,61}[a-z0-9])?)$`)
	ownNameForm  = regexp.MustCompile(`[.](localhost|localdomain)$`)
	periodForm   = regexp.MustCompile(`^([1-9][0-9]{0,4}h([0-9]{1,5}m)?([0-9]{1,5}s)?|[1-9][0-9]{0,4}m([0-9]{1,5}s)?)?$`)
)

const (
	maxRegistry = 64
	maxPeriod   = 32
	maxDomain   = 253
)

// MaxDomains is how many domains a private network may list.
const MaxDomains = 16

// parseRegistry parses spec.tcr. Any text in it may be a password by mistake: no error repeats one.
func parseRegistry(path *field.Path, spec *v1.RegistryInstance, additional []string) (*Registry, field.ErrorList) {
	var errs field.ErrorList
	checkForm(&errs, path.Child("registryId"), spec.RegistryID, maxRegistry, registryForm,
		"must be the id of a registry instance, such as tcr-xxxxxxxx")
	checkForm(&errs, path.Child("region"), spec.Region, maxRegistry, regionForm, "must be the name of a region, such as ap-guangzhou")
	checkForm(&errs, path.Child("rotateAfter"), spec.RotateAfter, maxPeriod, periodForm,
		"must be at least 1m and at most 99999h, in hours, minutes and seconds, such as 2160h or 1m30s")
	one := func(path *field.Path, value string, allowed ...string) {
		if value != "" && !slices.Contains(allowed, value) {
			errs = append(errs, field.NotSupported(path, quoted(value), allowed))
		}
	}
	one(path.Child("tokenType"), spec.TokenType, v1.TokenTypeLongTerm, v1.TokenTypeTemporary)
	one(path.Child("onDelete"), spec.OnDelete, v1.OnDeleteRevoke, v1.OnDeleteKeep)
	registry := &Registry{
		ID: spec.RegistryID, Region: spec.Region, Temporary: spec.TokenType == v1.TokenTypeTemporary, RotateAfter: defaultRotation,
		Keep: spec.OnDelete == v1.OnDeleteKeep, Additional: additional,
	}
	if period, err := time.ParseDuration(spec.RotateAfter); err == nil {
		registry.RotateAfter = period
	}
	if reference := spec.CredentialsSecretRef; reference != nil {
		errs = append(errs, checkReference(path.Child("credentialsSecretRef", "name"), reference.Name)...)
		registry.Keys = reference.Name
	}
	if network := spec.PrivateNetwork; network != nil {
		errs = append(errs, checkNetwork(path.Child("privateNetwork"), network)...)
		registry.Network = &Network{VPC: network.VPCID, Domains: slices.Clone(network.Domains)}
	}
	return registry, errs
}

// checkNetwork checks spec.tcr.privateNetwork.
func checkNetwork(path *field.Path, network *v1.PrivateNetwork) field.ErrorList {
	var errs field.ErrorList
	checkForm(&errs, path.Child("vpcId"), network.VPCID, maxRegistry, networkForm,
		"must be the id of a private network, such as vpc-xxxxxxxx")
	path = path.Child("domains")
	if len(network.Domains) > MaxDomains {
		return append(errs, field.TooMany(path, len(network.Domains), MaxDomains))
	}
	for i, domain := range network.Domains {
		at := path.Index(i)
		checkForm(&errs, at, domain, maxDomain, domainForm,
			"must be default, vpc, or a whole domain of lower case letters, digits, \"-\" and \".\", such as registry.example.com")
		if ownNameForm.MatchString(domain) {
			errs = append(errs, field.Forbidden(at, "must not end in .localhost or .localdomain, which stand for the machine itself"))
		}
		if slices.Contains(network.Domains[:i], domain) {
			errs = append(errs, field.Duplicate(at, quoted(domain)))
		}
	}
	return errs
}

// checkForm checks a text against its pattern and greatest length, in characters. No error repeats it.
func checkForm(errs *field.ErrorList, path *field.Path, value string, longest int, form *regexp.Regexp, says string) {
	switch {
	case tooLong(value, longest):
		*errs = append(*errs, field.TooLong(path, "", longest))
	case !form.MatchString(value):
		*errs = append(*errs, field.Forbidden(path, says))
	}
}
