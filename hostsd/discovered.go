package hostsd

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// DiscoveredFile is the name of the file, beside ConfigFile, with the entries that the manager has found. It may be missing.
const DiscoveredFile = "discovered.yaml"

// ParseDiscovered parses what was found as ParseConfig parses a configuration. It also refuses every address that is not private: whoever
// can write that file can lead a domain into a private network, and nowhere else.
func ParseDiscovered(data []byte, nodeNames ...string) (Config, error) {
	config, err := ParseConfig(data, nodeNames...)
	if err != nil {
		return Config{}, err
	}
	config.Entries = slices.DeleteFunc(config.Entries, func(e Entry) bool {
		if isPrivate(e.addr) {
			return false
		}
		config.Refused = append(config.Refused, Refusal{
			Path: "hosts", Domain: e.domain, Reason: fmt.Sprintf("%s is not a private address", e.addr),
		})
		return true
	})
	return config, nil
}

// shared is the shared address space of providers, which is not routed publicly (RFC 6598). The manager checks what it writes by the same
// rule, in code of its own: none of the manager's code is linked into the daemon.
var shared = netip.MustParsePrefix("100.64.0.0/10")

func isPrivate(addr netip.Addr) bool { return addr.IsPrivate() || shared.Contains(addr) }

// With returns c together with what was found for domains that c has no entry for. overruled are the found entries whose domain has other
// addresses in c.
func (c Config) With(found Config) (all Config, overruled []Entry) {
	own := map[string][]netip.Addr{}
	for _, e := range c.Entries {
		own[e.domain] = append(own[e.domain], e.addr)
	}
	all = Config{Entries: slices.Clone(c.Entries), Refused: slices.Concat(c.Refused, found.Refused), retained: map[string]bool{}}
	maps.Copy(all.retained, c.retained)
	maps.Copy(all.retained, found.retained)
	for _, e := range found.Entries {
		switch addrs, has := own[e.domain]; {
		case !has:
			all.Entries = append(all.Entries, e)
		case !slices.Contains(addrs, e.addr):
			overruled = append(overruled, e)
		}
	}
	for _, e := range all.Entries {
		delete(all.retained, e.domain)
	}
	return all, overruled
}

// Keeping returns c together with the entries that file holds for domains that c has no entry for, if the manager may have found them.
func (c Config) Keeping(file []byte) Config {
	held := Config{Entries: slices.DeleteFunc(Owned(file), func(e Entry) bool { return !isPrivate(e.addr) })}
	all, _ := c.With(held)
	return all
}
