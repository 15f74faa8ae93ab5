package hostsd

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Limits of RFC 1123, section 2.1, and RFC 1035, section 2.3.4, in bytes.
const (
	maxDomain = 253
	maxLabel  = 63
)

// Entry maps one domain to one address. Create one with ParseEntry: its domain is then a lower-case DNS name without a trailing dot, and
// its address one that a client can connect to. The zero Entry stands for nothing.
type Entry struct {
	domain string
	addr   netip.Addr
}

// ParseEntry returns the Entry of a domain and an IP address as a user writes them. The error says which of the two is wrong and what to
// write instead.
func ParseEntry(domain, ip string) (Entry, error) {
	d, err := parseDomain(domain)
	if err != nil {
		return Entry{}, fmt.Errorf("domain: %w", err)
	}
	a, err := parseAddr(ip)
	if err != nil {
		return Entry{}, fmt.Errorf("ip: %w", err)
	}
	return Entry{domain: d, addr: a}, nil
}

// Domain returns the DNS name, in lower case and without a trailing dot.
func (e Entry) Domain() string { return e.domain }

// Addr returns the address, without a zone and never an IPv4 address mapped into IPv6.
func (e Entry) Addr() netip.Addr { return e.addr }

// String returns the entry as it stands in a hosts file, without the marker.
func (e Entry) String() string { return e.addr.String() + " " + e.domain }

func (e Entry) line() string { return e.String() + " " + Marker + "\n" }

func compareEntries(a, b Entry) int {
	return cmp.Or(strings.Compare(a.domain, b.domain), a.addr.Compare(b.addr))
}

// localNames are names with a special meaning in every hosts file (RFC 6761, section 6.3, and the files that Linux distributions ship).
var localNames = map[string]bool{
	"localhost": true, "localhost4": true, "localhost6": true,
	"localhost.localdomain": true, "localhost4.localdomain4": true, "localhost6.localdomain6": true,
	"ip6-localhost": true, "ip6-loopback": true, "ip6-localnet": true, "ip6-mcastprefix": true,
	"ip6-allnodes": true, "ip6-allrouters": true, "ip6-allhosts": true,
	"broadcasthost": true,
}

// parseDomain returns the name in lower case, without surrounding blanks and without one trailing dot.
func parseDomain(s string) (string, error) {
	name := normalName(strings.TrimFunc(s, isBlank))
	switch {
	case name == "":
		return "", errors.New("is empty: write a DNS name such as demo-vpc.tencentcloudcr.com")
	case strings.Contains(name, "://") || strings.Contains(name, "/"):
		return "", fmt.Errorf("%q is not a host name: write it without scheme and path", s)
	case strings.Contains(name, "*"):
		return "", fmt.Errorf("%q is a wildcard, which a hosts file cannot hold: write one entry for each domain", s)
	case isAddr(name):
		return "", fmt.Errorf("%q is an IP address: write the DNS name here and the address in ip", s)
	case strings.Contains(name, ":"):
		return "", fmt.Errorf("%q names a port, which a hosts file cannot hold: write the DNS name alone", s)
	}
	if err := checkName(name); err != nil {
		return "", fmt.Errorf("%q %w", s, err)
	}
	if localNames[name] || strings.HasSuffix(name, ".localhost") {
		return "", fmt.Errorf("%q is the node's name for itself: write a registry's domain", s)
	}
	return name, nil
}

// checkName checks a lower-case name against RFC 1123. This rule, and not parseDomain's, decides whether a line is ours, so that a stricter
// release still removes what an older one wrote.
func checkName(name string) error {
	if len(name) > maxDomain {
		return fmt.Errorf("has %d characters: a DNS name has at most %d", len(name), maxDomain)
	}
	numeric := false // whether the last label is one number
	for label := range strings.SplitSeq(name, ".") {
		if label == "" {
			return errors.New("has an empty label: write one dot between labels")
		}
		if len(label) > maxLabel {
			return fmt.Errorf("has a label of %d characters: a label has at most %d", len(label), maxLabel)
		}
		if label[0] == '-' || label[len(label)-1] == '-' {
			return errors.New("has a label that begins or ends with a hyphen: write it without")
		}
		numeric = true
		for i := range len(label) {
			c := label[i]
			switch {
			case c >= '0' && c <= '9':
			case c >= 'a' && c <= 'z', c == '-':
				numeric = false
			case c >= 0x80:
				return errors.New("holds characters other than ASCII: write an international name in its xn-- form")
			default:
				return fmt.Errorf("holds %q: a DNS name holds only letters, digits, hyphens and dots", c)
			}
		}
	}
	if numeric {
		return errors.New("ends in a label of digits alone, which resolvers read as an address: write a DNS name")
	}
	return nil
}

func isAddr(s string) bool {
	_, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return err == nil
}

// parseAddr accepts a unicast address that does not depend on an interface.
func parseAddr(s string) (netip.Addr, error) {
	text := strings.TrimFunc(s, isBlank)
	if text == "" {
		return netip.Addr{}, errors.New("is empty: write an IPv4 or IPv6 address such as 10.0.0.5")
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		if p, err := netip.ParsePrefix(text); err == nil {
			if p == p.Masked() && !p.IsSingleIP() {
				return netip.Addr{}, fmt.Errorf("%q is a network: write the address of a host, such as 10.0.0.5 or fd00::5", s)
			}
			return netip.Addr{}, fmt.Errorf("%q has the length of a network: write %s", s, p.Addr())
		}
		if p, err := netip.ParseAddrPort(text); err == nil {
			return netip.Addr{}, fmt.Errorf("%q names a port, which a hosts file cannot hold: write %s", s, p.Addr())
		}
		return netip.Addr{}, fmt.Errorf("%q is not an IP address: write one such as 10.0.0.5 or fd00::5", s)
	}
	switch {
	case a.Zone() != "":
		return netip.Addr{}, fmt.Errorf("%q has a zone, which names an interface of one node: write a routable address", s)
	case a.Is4In6():
		return netip.Addr{}, fmt.Errorf("%q is an IPv4 address mapped into IPv6: write %s", s, a.Unmap())
	case a.IsUnspecified():
		return netip.Addr{}, fmt.Errorf("%q is the unspecified address: write the registry's address, or disabled: true", s)
	case a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return netip.Addr{}, fmt.Errorf("%q is a multicast or broadcast address: write the registry's own", s)
	case a.Is6() && a.IsLinkLocalUnicast():
		return netip.Addr{}, fmt.Errorf("%q is link-local, which says nothing without an interface: write a routable address", s)
	}
	return a, nil
}
