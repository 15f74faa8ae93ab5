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
	// Temporary asks for tokens of an hour, and not for those that are renewed after RotateAfter.
	Temporary   bool
	RotateAfter time.Duration
	// Keep leaves the tokens as they are once the ImagePullSecret is gone.
	Keep bool
	// Keys names the Secret of the manager's namespace with the keys to call the cloud with; blank for what the manager runs with.
	Keys string
	// Additional are the hosts that the credential is for besides the instance's own.
	Additional []string
	// Network is the private network that the instance is to be reached from; nil where none was asked for.
	Network *Network
}

// Network is a private network, and what is to be reached from there.
type Network struct {
	// VPC is the network's id; blank for the only one that the instance is linked with.
	VPC string
	// Domains are v1.DomainDefault, v1.DomainVPC, or written out; none for these two.
	Domains []string
}

// Reach is how far a registry is reached from the private network that was asked for.
type Reach struct {
	// Ready is whether every domain leads to the link; unknown while the cloud does not say, and what it said last is in effect.
	Ready           metav1.ConditionStatus
	Reason, Message string
	// Link is nil where there is none.
	Link *v1.PrivateNetworkStatus
}

// Renewal is how far the cloud has got with issuing a credential.
type Renewal struct {
	// Domain is the registry instance's default one; blank where it is not known.
	Domain string
	// Expires is when the credential ends, Due when another one is to take its place; zero where that is not known.
	Expires, Due time.Time
	// Refused is why the cloud does not issue or renew it; nil where it does.
	Refused *Unread
}

func (r Renewal) equal(other Renewal) bool {
	return r.Refused.Equal(other.Refused) && r.Domain == other.Domain && r.Expires.Equal(other.Expires) && r.Due.Equal(other.Due)
}

// defaultRotation is how long a long-term token is issued where nothing is said of that.
const defaultRotation = 90 * 24 * time.Hour

// same reports whether both are issued the same credential, however it is renewed.
func (r *Registry) same(other *Registry) bool {
	return r.ID == other.ID && r.Region == other.Region && slices.Equal(r.Additional, other.Additional)
}

// servers returns the hosts that the credential is for, where the instance has that default domain. While it is not known, a name that
// no registry ever has stands for it.
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

// Reachable reports whether the hosts that the credential is for are known: those of a registry instance are once the cloud has told.
func (r *Rule) Reachable() bool { return r.Registry == nil || r.Renewal.Domain != "" }

// Called returns how to speak of one of the rule's servers: as of its name, or of the registry instance's whose domains are not known.
func (r *Rule) Called(server string) string {
	if !r.Reachable() && server == r.Servers[0] {
		return "the domains of " + r.Registry.ID
	}
	return server
}

// Render returns the .dockerconfigjson of a token of the instance, which has that default domain.
func (r *Registry) Render(domain, username, password string) []byte {
	servers := r.servers(domain)
	return Render(v1.DockerCredential{Username: username, Password: password, Server: servers[0], AdditionalServers: servers[1:]})
}

// checkBeside checks what stands in spec.docker beside spec.tcr.
func checkBeside(path *field.Path, docker v1.DockerCredential) field.ErrorList {
	if docker.Username != "" || docker.Password != "" || docker.SecretRef != nil || docker.Server != "" {
		return field.ErrorList{field.Forbidden(path, "must hold nothing but additionalServers beside spec.tcr, which is the source of the credential: leave out the rest, or spec.tcr")}
	}
	return checkAdditional(path, docker)
}

// What the fields of spec.tcr are held to, as in the CRD.
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

// MaxDomains is how many domains of a private network there may be.
const MaxDomains = 16

// parseRegistry reads spec.tcr. A password may stand in a text of it by mistake: none is repeated.
func parseRegistry(path *field.Path, spec *v1.RegistryInstance, additional []string) (*Registry, field.ErrorList) {
	var errs field.ErrorList
	checkForm(&errs, path.Child("registryId"), spec.RegistryID, maxRegistry, registryForm, "must be the id of a registry instance, such as tcr-xxxxxxxx")
	checkForm(&errs, path.Child("region"), spec.Region, maxRegistry, regionForm, "must be the name of a region, such as ap-guangzhou")
	checkForm(&errs, path.Child("rotateAfter"), spec.RotateAfter, maxPeriod, periodForm, "must be at least 1m and at most 99999h, in hours, minutes and seconds, such as 2160h or 1m30s")
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
	checkForm(&errs, path.Child("vpcId"), network.VPCID, maxRegistry, networkForm, "must be the id of a private network, such as vpc-xxxxxxxx")
	path = path.Child("domains")
	if len(network.Domains) > MaxDomains {
		return append(errs, field.TooMany(path, len(network.Domains), MaxDomains))
	}
	for i, domain := range network.Domains {
		at := path.Index(i)
		checkForm(&errs, at, domain, maxDomain, domainForm,
			"must be default, vpc, or a whole domain of lower case letters, digits, \"-\" and \".\", such as registry.example.com")
		if ownNameForm.MatchString(domain) {
			errs = append(errs, field.Forbidden(at, "must not be a name that a machine has for itself"))
		}
		if slices.Contains(network.Domains[:i], domain) {
			errs = append(errs, field.Duplicate(at, quoted(domain)))
		}
	}
	return errs
}

// checkForm holds a text to its form. No error repeats it.
func checkForm(errs *field.ErrorList, path *field.Path, value string, longest int, form *regexp.Regexp, says string) {
	switch {
	case tooLong(value, longest):
		*errs = append(*errs, field.TooLong(path, "", longest))
	case !form.MatchString(value):
		*errs = append(*errs, field.Forbidden(path, says))
	}
}
