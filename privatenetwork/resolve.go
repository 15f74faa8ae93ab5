package privatenetwork

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tcr-assistant/tcr-assistant/image"
)

// The words for the registry's own domains; any other is a domain that is written out.
const (
	Default = "default"
	VPC     = "vpc"
)

// Link is a way to a registry from a private network, as the cloud tells of it.
type Link struct {
	VPC     string `json:"vpcId"`
	Subnet  string `json:"subnetId,omitempty"`
	Status  string `json:"status,omitempty"`
	Address string `json:"address,omitempty"`
}

// NameStatus is whether the cloud's DNS leads a domain to a link, in the cloud's words.
type NameStatus struct {
	VPC    string `json:"vpcId"`
	Status string `json:"status"`
}

// Question is what an ImagePullSecret asks for, and what the cloud answered.
type Question struct {
	// Registry is the id of the registry instance, and Region where it is.
	Registry, Region string
	// VPC is the private network; blank for the only one that is linked.
	VPC string
	// Domain is the registry's default one.
	Domain string
	// Domains are Default, VPC or written out; none for these two.
	Domains []string
	Links   []Link
	// Names holds what the cloud's DNS does with Default and VPC, as far as it was asked.
	Names map[string]NameStatus
	// Fixed are the addresses of global.hosts, which wins, by domain.
	Fixed map[string][]netip.Addr
}

// Host is a line of a hosts file.
type Host struct {
	Domain  string
	Address netip.Addr
}

// Reason is why the private network is ready, or is not.
type Reason string

// The reasons, of which Linked is the only good one.
const (
	Linked            Reason = "Linked"
	LinkMissing       Reason = "LinkMissing"
	LinkAmbiguous     Reason = "LinkAmbiguous"
	LinkPending       Reason = "LinkPending"
	LinkBroken        Reason = "LinkBroken"
	AddressNotPrivate Reason = "AddressNotPrivate"
	DomainInvalid     Reason = "DomainInvalid"
	DomainsClash      Reason = "DomainsClash"
	BadAnswer         Reason = "BadAnswer"
)

// Answer is what follows.
type Answer struct {
	// Hosts are the lines, by domain.
	Hosts []Host
	// Link is what the status shows; zero without one.
	Link Link
	// Resolved are the domains that the cloud's own DNS leads to the link: they need no line.
	Resolved []string
	Reason   Reason
	// Message says what to do where the Reason is not Linked.
	Message string
}

// Ready says whether every domain that was asked for leads to the link.
func (a Answer) Ready() bool { return a.Reason == Linked }

// Resolve answers a question.
func Resolve(q Question) Answer {
	link, refused := q.link()
	if refused != nil {
		return *refused
	}
	address, err := parseAddress(link.Address)
	if err != nil {
		return Answer{Link: link, Reason: AddressNotPrivate, Message: fmt.Sprintf(
			"the link of registry %s from %s has an address that no line is written for: %v", q.Registry, link.VPC, err)}
	}
	answer := Answer{Link: link, Reason: Linked}
	for _, word := range q.words() {
		answer.add(q, word, address)
	}
	slices.Sort(answer.Resolved)
	slices.SortFunc(answer.Hosts, compareHosts)
	if answer.Reason == Linked {
		answer.Message = fmt.Sprintf("registry %s is reached from %s at %s", q.Registry, link.VPC, address)
	}
	return answer
}

func compareHosts(a, b Host) int {
	return cmp.Or(strings.Compare(a.Domain, b.Domain), a.Address.Compare(b.Address))
}

// Linked returns the link that the question is about; false where there is none that is up and has an address that lines are written for.
func (q Question) Linked() (Link, bool) {
	link, refused := q.link()
	return link, refused == nil && link.rank() == 0
}

// Asked returns those of Default and VPC that lines are asked for: what the cloud's DNS does with a domain that is written out it does
// not tell.
func (q Question) Asked() []string {
	return slices.DeleteFunc(q.words(), func(word string) bool { return word != Default && word != VPC })
}

// link returns the one from the private network, or why there is none.
func (q Question) link() (Link, *Answer) {
	var links []Link // there may be several from one network, such as while one takes another's place
	var networks []string
	for _, link := range q.Links {
		if !slices.Contains(networks, link.VPC) {
			networks = append(networks, link.VPC)
		}
		if q.VPC == "" || link.VPC == q.VPC {
			links = append(links, link)
		}
	}
	switch {
	case q.VPC == "" && len(networks) > 1:
		return Link{}, &Answer{Reason: LinkAmbiguous, Message: fmt.Sprintf(
			"registry %s is linked with %s: write one of them in spec.tcr.privateNetwork.vpcId", q.Registry, strings.Join(networks, ", "))}
	case len(links) > 0:
		return q.running(slices.MinFunc(links, compareLinks))
	}
	from := "a private network"
	if q.VPC != "" {
		from = "the private network " + q.VPC
	}
	if len(networks) > 0 {
		from += fmt.Sprintf(" (it is linked with %s)", strings.Join(networks, ", "))
	}
	return Link{}, &Answer{Reason: LinkMissing, Message: fmt.Sprintf(
		"registry %s in %s has no link from %s: create one under Network Access Control in the registry's console", q.Registry, q.Region, from)}
}

// compareLinks puts those first that are up and lead somewhere. The order in which the cloud tells of them makes no difference.
func compareLinks(a, b Link) int {
	return cmp.Or(a.rank()-b.rank(), strings.Compare(a.Address, b.Address), strings.Compare(a.Status, b.Status))
}

func (l Link) rank() int {
	if _, err := parseAddress(l.Address); err != nil || !strings.EqualFold(l.Status, "running") {
		return 1
	}
	return 0
}

// running returns a link that is up, or what it waits for.
func (q Question) running(link Link) (Link, *Answer) {
	switch status := strings.ToLower(link.Status); {
	case status == "running" && link.Address != "":
		return link, nil
	case status == "running":
		return Link{}, &Answer{Link: link, Reason: LinkPending, Message: fmt.Sprintf(
			"the link of registry %s from %s has no address yet: it is asked again every minute", q.Registry, link.VPC)}
	case status == "pending" || status == "creating":
		return Link{}, &Answer{Link: link, Reason: LinkPending, Message: fmt.Sprintf(
			"the link of registry %s from %s is being created: it is asked again every minute", q.Registry, link.VPC)}
	default:
		return Link{}, &Answer{Link: link, Reason: LinkBroken, Message: fmt.Sprintf(
			"the link of registry %s from %s is in state %.20q: create it anew in the registry's console", q.Registry, link.VPC, link.Status)}
	}
}

// words returns what was asked for, each once.
func (q Question) words() []string {
	if len(q.Domains) == 0 {
		return []string{Default, VPC}
	}
	var words []string
	for _, word := range q.Domains {
		if word = strings.ToLower(strings.TrimSuffix(strings.TrimSpace(word), ".")); !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	return words
}

// name returns the domain that a word stands for.
func (q Question) name(word string) string {
	switch word {
	case Default:
		return strings.ToLower(q.Domain)
	case VPC:
		return image.PrivateHost(strings.ToLower(q.Domain))
	default:
		return word
	}
}

// add adds a domain. One that is refused keeps none of the others from being added.
func (a *Answer) add(q Question, word string, address netip.Addr) {
	domain := q.name(word)
	if !isDomain(domain) {
		a.refuse(DomainInvalid, "%.100q is not a domain: write default, vpc, or a domain such as registry.example.com", domain)
		return
	}
	if slices.ContainsFunc(a.Hosts, func(host Host) bool { return host.Domain == domain }) || slices.Contains(a.Resolved, domain) {
		return // two words for one domain
	}
	name, asked := q.Names[word]
	if asked && name.VPC != a.Link.VPC {
		a.refuse(BadAnswer, "the cloud was asked about %s in %s and answered about another network: no line is written", domain, a.Link.VPC)
		return
	}
	if fixed, listed := q.Fixed[domain]; listed {
		if !slices.Contains(fixed, address) {
			a.refuse(DomainsClash, "global.hosts leads %s to %s, and the link's address is %s: remove it there, or leave the domain out in "+
				"spec.tcr.privateNetwork.domains", domain, fixed[0], address)
		}
		return // global.hosts writes the line
	}
	switch strings.ToUpper(name.Status) {
	case "ENABLED", "ENABLE":
		a.Resolved = append(a.Resolved, domain)
	default: // to a DNS that is in error or unknown, a line with the right address does no harm
		a.Hosts = append(a.Hosts, Host{domain, address})
	}
}

// isDomain says whether hosts-updater writes a line for a domain.
func isDomain(domain string) bool {
	labels := strings.Split(domain, ".")
	last := labels[len(labels)-1]
	return len(validation.IsDNS1123Subdomain(domain)) == 0 && len(labels) > 1 && last != "localhost" && last != "localdomain" &&
		strings.Trim(last, "0123456789") != "" && !slices.ContainsFunc(labels, func(label string) bool { return len(label) > 63 })
}

// refuse tells of the first thing that is wrong.
func (a *Answer) refuse(reason Reason, format string, args ...any) {
	if a.Reason == Linked {
		a.Reason, a.Message = reason, fmt.Sprintf(format, args...)
	}
}

// shared is for networks of providers, which no public route leads to (RFC 6598). On each node hostsd.ParseDiscovered refuses all but the
// same addresses once more, in words of its own: it trusts whoever wrote them with no more, and imports nothing of ours.
var shared = netip.MustParsePrefix("100.64.0.0/10")

func parseAddress(text string) (netip.Addr, error) {
	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%.50q is not an IP address", text)
	}
	if !address.IsPrivate() && !shared.Contains(address) || address.Zone() != "" || address.Is4In6() {
		return netip.Addr{}, fmt.Errorf("%s is not a private one", address)
	}
	return address, nil
}
