package hostsd

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
)

// Marker is at the end of every line that Edit writes, and marks it as ours.
const Marker = "# managed by tcr hosts-updater"

// Edit returns the hosts file with exactly the given entries as ours: one line for each, and
// all other bytes as they were.
//
// Our lines come first. A resolver takes the first line that names a host, so ours win over foreign lines for the same domain without
// touching them. And since nothing is ever written after a foreign byte, a last line without a newline is neither joined with ours nor
// lost.
//
// For every file f and entries e, Edit(Edit(f, e), e) equals Edit(f, e), and Edit(Edit(f, e), nil) equals f if f holds no line of ours. The
// order of entries does not matter; duplicates and zero entries are ignored. Neither argument is changed.
func Edit(file []byte, entries []Entry) []byte {
	entries = slices.Clone(entries)
	slices.SortFunc(entries, compareEntries)
	entries = slices.Compact(entries)

	out := make([]byte, 0, len(file)+len(entries)*(len(Marker)+64))
	for _, e := range entries {
		if e != (Entry{}) {
			out = append(out, e.line()...)
		}
	}
	for line := range bytes.Lines(file) {
		if _, ours := parseOwned(line); !ours {
			out = append(out, line...)
		}
	}
	return out
}

// Owned returns the entries of the lines in file that are ours, in the file's order.
func Owned(file []byte) []Entry {
	var entries []Entry
	for line := range bytes.Lines(file) {
		if e, ours := parseOwned(line); ours {
			entries = append(entries, e)
		}
	}
	return entries
}

// parseOwned reports whether line is ours: one address, one name, the marker, and nothing else. Whitespace may differ, and the line may end
// in CRLF: an editor may have done that, and the line is still in effect. Any other line that ends in our marker is not ours.
func parseOwned(line []byte) (Entry, bool) {
	text, ok := bytes.CutSuffix(bytes.TrimRight(line, " \t\r\n"), []byte(Marker))
	if !ok {
		return Entry{}, false
	}
	fields := bytes.FieldsFunc(text, isBlank)
	if len(fields) != 2 {
		return Entry{}, false
	}
	addr, err := netip.ParseAddr(string(fields[0]))
	if err != nil {
		return Entry{}, false
	}
	domain := normalName(string(fields[1]))
	if checkName(domain) != nil {
		return Entry{}, false
	}
	return Entry{domain: domain, addr: addr}, true
}

// Conflict is a foreign line that gives one of our domains another address. Ours comes before it and wins if a resolver takes the first
// match; a resolver that collects all matches returns both.
type Conflict struct {
	Line   int // counted from 1
	Domain string
	Addr   netip.Addr
}

// Conflicts returns the foreign lines of file that give a domain of entries an address that
// entries do not give it, in the file's order.
func Conflicts(file []byte, entries []Entry) []Conflict {
	ours := make(map[string][]netip.Addr, len(entries))
	for _, e := range entries {
		ours[e.domain] = append(ours[e.domain], e.addr)
	}
	var found []Conflict
	number := 0
	for line := range bytes.Lines(file) {
		number++
		if _, owned := parseOwned(line); owned {
			continue
		}
		text, _, _ := bytes.Cut(line, []byte{'#'})
		fields := bytes.FieldsFunc(text, isBlank)
		if len(fields) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(string(fields[0]))
		if err != nil {
			continue
		}
		for _, name := range fields[1:] {
			domain := normalName(string(name))
			if addrs, ok := ours[domain]; ok && !slices.Contains(addrs, addr.Unmap()) {
				found = append(found, Conflict{Line: number, Domain: domain, Addr: addr})
			}
		}
	}
	return found
}

func isBlank(r rune) bool { return r == ' ' || r == '\t' || r == '\r' || r == '\n' }

// normalName drops one trailing dot and lowers only ASCII letters: Unicode's rules would turn a Kelvin sign into a k.
func normalName(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r - 'A' + 'a'
		}
		return r
	}, strings.TrimSuffix(name, "."))
}
