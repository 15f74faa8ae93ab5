package image

import "strings"

// PrivateHost returns the host that a registry instance of Tencent Cloud with this default domain has for private networks; blank where it
// is no domain.
func PrivateHost(domain string) string {
	name, rest, found := strings.Cut(domain, ".")
	if !found {
		return ""
	}
	return name + "-vpc." + rest
}
