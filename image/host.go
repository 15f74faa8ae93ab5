package image

import "strings"

// PrivateHost returns the host that a Tencent Cloud registry instance with this default domain has in private networks; blank if the
// domain has no dot.
func PrivateHost(domain string) string {
	name, rest, found := strings.Cut(domain, ".")
	if !found {
		return ""
	}
	return name + "-vpc." + rest
}
