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

// The words for the registry's own domains; anything else is a literal domain.
const (
	Default = "default"
	VPC     = "vpc"
)

// Link is a link from a private network to a registry, as the cloud describes it.
type Link struct {
	VPC     string `json:"vpcId"`
	Subnet  string `json:"subnetId,omitempty"`
	Status  string `json:"status,omitempty"`
	Address string `json:"address,omitempty"`
}

// NameStatus is whether the cloud's DNS resolves a domain to a link, as the cloud spells it.
type NameStatus struct {
	VPC    string `json:"vpcId"`
	Status string `json:"status"`
}

// Question is what an ImagePullSecret asks for, and what the cloud answered.
type Question struct {
	// Registry is the id of the registry instance, and Region is where it is.
	Registry, Region string
	// VPC is the private network; blank for the only one that is linked.
	VPC string
	// Domain is the registry's default domain.
	Domain string
	// Domains are Default, VPC, or literal domains; if empty, they are Default and VPC.
	Domains []string
	Links   []Link
	// Names holds the DNS states of Default and VPC, as far as the cloud was asked.
	Names map[string]NameStatus
	// Fixed are the addresses of global.hosts, by domain. They take precedence.
	Fixed map[string][]netip.Addr
}

// Host is a line of a hosts file.
type Host struct {
	Domain  string
	Address netip.Addr
}

// Reason is why the private network is ready, or is not.
type Reason string

// The reasons. Only Linked means that it is ready.
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

// Answer is the answer to a Question.
type Answer struct {
	// Hosts are the lines, by domain.
	Hosts []Host
	// Link is the link that the status shows; zero if there is none.
	Link Link
	// Resolved are the domains that the cloud's own DNS resolves to the link: they need no line.
	Resolved []string
	Reason   Reason
	// Message says what to do if the Reason is not Linked.
	Message string
}

// Ready reports whether every domain that was asked for leads to the link.
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
			"the link of registry %s from %s has an address that is not used: %v", q.Registry, link.VPC, err)}
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

// Linked returns the link that the question is about; false if none is up with a private address.
func (q Question) Linked() (Link, bool) {
	link, refused := q.link()
	return link, refused == nil && link.rank() == 0
}

// Asked returns which of Default and VPC the question is about: for a literal domain the cloud does not report a DNS state.
func (q Question) Asked() []string {
	return slices.DeleteFunc(q.words(), func(word string) bool { return word != Default && word != VPC })
}

// link returns the link from the private network, or why there is none.
func (q Question) link() (Link, *Answer) {
	var links []Link // one network may have several, such as while one replaces another
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

// compareLinks sorts the links that are up and have a private address first. The order of the cloud's answer does not matter.
func compareLinks(a, b Link) int {
	return cmp.Or(a.rank()-b.rank(), strings.Compare(a.Address, b.Address), strings.Compare(a.Status, b.Status))
}

func (l Link) rank() int {
	if _, err := parseAddress(l.Address); err != nil || !strings.EqualFold(l.Status, "running") {
		return 1
	}
	return 0
}

// running returns a link if it is up, or else what it waits for.
func (q Question) running(link Link) (Link, *Answer) {
	switch status := strings.ToLower(link.Status); {
	case status == "running" && link.Address != "":
		return link, nil
	case status == "running":
		return Link{}, &Answer{Link: link, Reason: LinkPending, Message: fmt.Sprintf(
			"the link of registry %s from %s has no address yet: it is checked again every minute", q.Registry, link.VPC)}
	case status == "pending" || status == "creating":
		return Link{}, &Answer{Link: link, Reason: LinkPending, Message: fmt.Sprintf(
			"the link of registry %s from %s is being created: it is checked again every minute", q.Registry, link.VPC)}
	default:
		return Link{}, &Answer{Link: link, Reason: LinkBroken, Message: fmt.Sprintf(
			"the link of registry %s from %s is in state %.20q: create it again in the registry's console", q.Registry, link.VPC, link.Status)}
	}
}

// words returns the domains that were asked for, without duplicates.
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

// add adds a domain. If it is refused, the others can still be added.
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
	default: // if the DNS fails or its state is unknown, a line with the right address does no harm
		a.Hosts = append(a.Hosts, Host{domain, address})
	}
}

// isDomain reports whether hosts-updater writes a line for a domain.
func isDomain(domain string) bool {
	labels := strings.Split(domain, ".")
	last := labels[len(labels)-1]
	return len(validation.IsDNS1123Subdomain(domain)) == 0 && len(labels) > 1 && last != "localhost" && last != "localdomain" &&
		strings.Trim(last, "0123456789") != "" && !slices.ContainsFunc(labels, func(label string) bool { return len(label) > 63 })
}

// refuse records a reason, unless an earlier one is recorded.
func (a *Answer) refuse(reason Reason, format string, args ...any) {
	if a.Reason == Linked {
		a.Reason, a.Message = reason, fmt.Sprintf(format, args...)
	}
}

// shared is the shared address space of providers, which is not routed publicly (RFC 6598). On each node, hostsd.ParseDiscovered applies
// the same rule once more, in code of its own: it does not trust the writer of the addresses, and imports no other package of ours.
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
