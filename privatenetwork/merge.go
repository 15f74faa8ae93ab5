package privatenetwork

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Merge combines the answers for several ImagePullSecrets, by their names. If two lead a domain to different addresses, the first by name
// wins, and the answer for the other says so.
func Merge(found map[string]Answer) (hosts []Host, told map[string]Answer) {
	owners := map[string]string{}
	addresses := map[string]netip.Addr{}
	told = map[string]Answer{}
	for _, object := range slices.Sorted(maps.Keys(found)) {
		answer := found[object]
		all := answer.Hosts
		answer.Hosts = nil
		for _, host := range all {
			owner, taken := owners[host.Domain]
			if !taken {
				owners[host.Domain], addresses[host.Domain] = object, host.Address
				hosts = append(hosts, host)
			}
			if addresses[host.Domain] == host.Address {
				answer.Hosts = append(answer.Hosts, host)
			} else {
				answer.refuse(DomainsClash, "ImagePullSecret %s leads %s to %s, and this one to %s: leave the domain out in one of them",
					owner, host.Domain, addresses[host.Domain], host.Address)
			}
		}
		told[object] = answer
	}
	slices.SortFunc(hosts, compareHosts)
	return hosts, told
}

// Render returns the text that hosts-updater reads.
func Render(hosts []Host) string {
	if len(hosts) == 0 {
		return "hosts: []\n"
	}
	var text strings.Builder
	text.WriteString("hosts:\n")
	for _, host := range hosts {
		fmt.Fprintf(&text, "- domain: %q\n  ip: %q\n", host.Domain, host.Address)
	}
	return text.String()
}
