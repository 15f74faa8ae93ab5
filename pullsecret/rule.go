package pullsecret

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// SecretPrefix begins the name of every Secret that an ImagePullSecret issues.
const SecretPrefix = "tcr.ips"

// SecretName returns the name of the Secrets that the ImagePullSecret of that name issues.
func SecretName(imagePullSecret string) string { return SecretPrefix + imagePullSecret }

// Rule is a valid ImagePullSecret, parsed. It is immutable.
type Rule struct {
	// Name is the ImagePullSecret's name, UID its identity and Generation the version of its spec.
	Name       string
	UID        types.UID
	Generation int64

	// Secret is the name of the Secrets it issues.
	Secret string
	// Namespaces receive the Secret; in them, ServiceAccounts list it.
	Namespaces      Namespaces
	ServiceAccounts Selector
	// Pods says which of their pods that list pull secrets of their own also get it: v1.PodsMatchingImages, v1.PodsAll, or, where it is
	// blank, none.
	Pods string
	// Heals is whether pods that came before the credential they need are evicted.
	Heals bool

	// Servers are the registry's hosts, each with an optional port: spec.docker.server, or the hosts of the registry instance, which
	// become known with its credential; and then spec.docker.additionalServers.
	Servers []string
	// Registry is the registry instance for which the cloud issues the credential; nil where the credential comes from elsewhere.
	Registry *Registry
	// Reference names the Secret in the manager's namespace that holds the credential; blank where none does.
	Reference string
	// Config is the Secret's .dockerconfigjson: the credential itself, which must never be printed. It is nil while it is not known.
	Config []byte
	// Sum is Config's SHA-256: it tells a current Secret from an outdated one.
	Sum [sha256.Size]byte
	// Unread is why the credential cannot be read; nil where it can, or that is not known yet.
	Unread *Unread
	// Renewal is how far the cloud has got with issuing the credential for Registry.
	Renewal Renewal
	// Expiry is when the credential expires, according to itself or to the Secret that holds it.
	Expiry Expiry
	// Trial says how to find out whether registries take the credential.
	Trial Trial
}

// Known reports whether the credential is known. While it is not, nothing new is issued, and what was issued stays.
func (r *Rule) Known() bool { return r.Config != nil }

// Parse reads an ImagePullSecret. Every mistake in it is an error of its own, with the field's path and what to write
// instead. No error holds a password, or a value that may be one by mistake.
func Parse(object *v1.ImagePullSecret) (*Rule, field.ErrorList) {
	rule, errs := Check(object)
	if len(errs) > 0 {
		return nil, errs
	}
	if rule.Reference == "" && rule.Registry == nil {
		rule.hold(Render(object.Spec.Docker))
		rule.Expiry = ExpiryOf(object.Spec.Docker.Password)
	}
	return rule, nil
}

// Check reads an ImagePullSecret as Parse does, and returns a rule without the credential.
func Check(object *v1.ImagePullSecret) (*Rule, field.ErrorList) {
	spec := field.NewPath("spec")
	rule := &Rule{
		Name:       object.Name,
		UID:        object.UID,
		Generation: object.Generation,
		Secret:     SecretName(object.Name),
		Servers:    append([]string{object.Spec.Docker.Server}, object.Spec.Docker.AdditionalServers...),
	}
	if reference := object.Spec.Docker.SecretRef; reference != nil {
		rule.Reference = reference.Name
	}
	var errs, more field.ErrorList
	if size := len(rule.Secret); size > validation.DNS1123SubdomainMaxLength {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), quoted(object.Name), fmt.Sprintf(
			"must be at most %d characters: the Secret is named %q + this name, and the name of a Secret has at most %d",
			validation.DNS1123SubdomainMaxLength-len(SecretPrefix), SecretPrefix, validation.DNS1123SubdomainMaxLength)))
	}
	rule.Namespaces, more = parseNamespaces(spec, &object.Spec)
	errs = append(errs, more...)
	rule.ServiceAccounts, more = parseSelector(spec.Child("serviceAccounts"), object.Spec.ServiceAccounts, serviceAccountNames)
	errs = append(errs, more...)
	rule.Trial, more = parseCheck(spec.Child("check"), object.Spec.Check)
	errs = append(errs, more...)
	rule.Pods, more = parsePods(spec.Child("pods"), object.Spec.Pods)
	errs = append(errs, more...)
	rule.Heals = object.Spec.Healing == v1.HealingEvict
	if healing := object.Spec.Healing; healing != "" && healing != v1.HealingNever && !rule.Heals {
		errs = append(errs, field.NotSupported(spec.Child("healing"), quoted(healing), []string{v1.HealingNever, v1.HealingEvict}))
	}
	if object.Spec.TCR == nil {
		errs = append(errs, checkCredential(spec.Child("docker"), object.Spec.Docker)...)
	} else {
		errs = append(errs, checkBeside(spec.Child("docker"), object.Spec.Docker)...)
		rule.Registry, more = parseRegistry(spec.Child("tcr"), object.Spec.TCR, object.Spec.Docker.AdditionalServers)
		errs = append(errs, more...)
		rule.Servers = rule.Registry.servers("")
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return rule, nil
}

// domain matches a host as image references spell it: DNS labels in either case.
var domain = regexp.MustCompile(`^[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?)*$`)

func checkServer(path *field.Path, server string) field.ErrorList {
	invalid := func(format string, args ...any) field.ErrorList {
		return field.ErrorList{field.Invalid(path, quoted(server), fmt.Sprintf(format, args...))}
	}
	if server == "" {
		return field.ErrorList{field.Required(path, `must not be empty: write the registry's host, such as "registry.example.com"`)}
	}
	if tooLong(server, maxServer) {
		return field.ErrorList{field.TooLong(path, "", maxServer)}
	}
	if strings.Contains(server, "@") {
		// User info may be a password: the value is not repeated.
		return field.ErrorList{field.Forbidden(path, "must be a host without user info: the user's name belongs in spec.docker.username")}
	}
	if scheme, rest, found := strings.Cut(server, "://"); found {
		host, _, _ := strings.Cut(rest, "/")
		return invalid("must be a host without a scheme: write %q, without %q", quoted(host), quoted(scheme+"://"))
	}
	if host, _, found := strings.Cut(server, "/"); found {
		return invalid("must be a host without a path: write %q", quoted(host))
	}
	if strings.ContainsAny(server, blanks) {
		return invalid("must be a host without blanks: write %q", quoted(strings.Join(strings.Fields(server), "")))
	}
	if address, err := netip.ParseAddr(server); err == nil && address.Is6() && !strings.ContainsAny(server, "%.") {
		return invalid("must be a host: an IPv6 address is written in brackets: write %q", "["+server+"]")
	}
	host, port, hasPort := cutPort(server)
	if hasPort {
		if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 || port[0] < '1' || port[0] > '9' {
			return invalid("must end in a port from 1 to 65535, or in none")
		}
	}
	if inside, bracketed := strings.CutPrefix(host, "["); bracketed {
		inside, closed := strings.CutSuffix(inside, "]")
		if address, err := netip.ParseAddr(inside); !closed || err != nil || !address.Is6() || strings.ContainsAny(inside, "%.") {
			return invalid(`must be a host: an IPv6 address is written in brackets, such as "[2001:db8::1]:5000"`)
		}
		return nil
	}
	if len(host) > validation.DNS1123SubdomainMaxLength || !domain.MatchString(host) {
		return invalid(`must be a host with an optional port, such as "registry.example.com" or "registry.example.com:5000", or an ` +
			`IPv6 address in brackets; patterns are not supported`)
	}
	return nil
}

// cutPort splits "host:port"; it ignores the colons of an IPv6 address in brackets.
func cutPort(server string) (host, port string, found bool) {
	colon := strings.LastIndexByte(server, ':')
	if colon < 0 || colon < strings.LastIndexByte(server, ']') {
		return server, "", false
	}
	return server[:colon], server[colon+1:], true
}
