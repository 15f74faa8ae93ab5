package hostsd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
)

// LinesPath is where a Daemon's Handler serves the lines in effect, as Lines in JSON.
const LinesPath = "/lines"

// maxLines is the maximum number of domains in Lines.
const maxLines = 1000

// Lines is what a resolver takes from a hosts file for the managed domains. It says nothing of other names.
type Lines struct {
	// Lines has, for each domain, the first line of the file that names it. A domain that no line names is missing.
	Lines []Line `json:"lines"`
	// More is whether there were too many domains to look for all of them.
	More bool `json:"more,omitempty"`
}

// Line gives a domain an address.
type Line struct {
	Domain string `json:"domain"`
	IP     string `json:"ip"`
}

// ReadLines finds the first line of each domain of entries in a hosts file. It needs little memory, however long the lines are, and reads
// no further than necessary.
func ReadLines(file io.Reader, entries []Entry) (Lines, error) {
	found := Lines{Lines: []Line{}}
	wanted := map[string]bool{}
	for _, entry := range entries {
		switch {
		case entry == (Entry{}) || wanted[entry.domain]:
		case len(wanted) == maxLines:
			found.More = true
		default:
			wanted[entry.domain] = true
		}
	}
	words := words{Reader: bufio.NewReader(file)}
	var addr netip.Addr // of the line
	for len(wanted) > 0 {
		word, first, err := words.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Lines{}, fmt.Errorf("reading the hosts file: %w", err)
		}
		if first {
			addr, _ = netip.ParseAddr(word) // a line without an address counts for nothing
			continue
		}
		if domain := normalName(word); addr.IsValid() && wanted[domain] {
			delete(wanted, domain)
			found.Lines = append(found.Lines, Line{Domain: domain, IP: addr.Unmap().WithZone("").String()})
		}
	}
	return found, nil
}

// words reads the words of a hosts file, without its comments.
type words struct {
	*bufio.Reader
	inLine bool // a word of the line was returned
}

// maxWord is how much is kept of a word, in bytes: a longer one is neither a domain nor an address.
const maxWord = maxDomain + 2

// next returns the next word, and whether it is the first one of its line.
func (w *words) next() (word string, first bool, err error) {
	var text []byte
	comment := false
	for {
		c, err := w.ReadByte()
		ended := err != nil || c == '\n' || c == '#' || isBlank(rune(c))
		if ended && len(text) > 0 {
			if err == nil && (c == '\n' || c == '#') {
				_ = w.UnreadByte() // it was just read
			}
			first, w.inLine = !w.inLine, true
			return string(text), first, nil
		}
		switch {
		case err != nil:
			return "", false, err
		case c == '\n':
			comment, w.inLine = false, false
		case comment, ended && c != '#':
		case c == '#':
			comment = true
		case len(text) < maxWord:
			text = append(text, c)
		}
	}
}
