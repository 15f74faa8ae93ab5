package hostsd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ConfigFile is the key of the ConfigMap, and so the file's name in the mounted folder.
const ConfigFile = "hosts.yaml"

// Config is what a configuration asks for. ParseConfig returns one.
type Config struct {
	// Entries are the valid ones that are not disabled, in the configuration's order.
	Entries []Entry
	// Refused are the invalid ones. The others have effect nonetheless.
	Refused []Refusal

	retained map[string]bool // domains of refused entries that have no valid one
}

// Refusal says why one entry of a configuration has no effect.
type Refusal struct {
	Path   string // such as hosts[2].ip
	Domain string // of the entry, as it is written; blank if it has none
	Line   int    // in the configuration, counted from 1
	Reason string // what is wrong and what to write instead
}

// String returns the refusal as one line of text.
func (r Refusal) String() string {
	return fmt.Sprintf("%s (line %d) %s", r.Path, r.Line, r.Reason)
}

// Desired returns the entries that file should hold: those of the configuration, and for a domain whose only entries were refused, those
// that are in file already: a typo in an address leaves the last good one in effect.
func (c Config) Desired(file []byte) []Entry {
	if len(c.retained) == 0 {
		return c.Entries
	}
	entries := slices.Clone(c.Entries)
	for _, e := range Owned(file) {
		if c.retained[e.domain] {
			if good, err := ParseEntry(e.domain, e.addr.String()); err == nil {
				entries = append(entries, good)
			}
		}
	}
	return entries
}

// ParseConfig reads a configuration: a YAML or JSON document with the one key hosts, a list of mappings of domain, ip and disabled. An
// entry for one of nodeNames is refused, since a node must resolve its own name.
//
// A document that is not of this form is an error as a whole, so that half a file, an empty
// one or a misspelt key never reads as "no hosts". Only an explicit empty list does.
func ParseConfig(data []byte, nodeNames ...string) (Config, error) {
	hosts, err := parseDocument(data)
	if err != nil {
		return Config{}, err
	}
	p := parser{taken: map[takenKey]int{}, reserved: reservedNames(nodeNames)}
	for i, node := range hosts {
		p.entry(i, node)
	}
	for _, e := range p.config.Entries {
		delete(p.config.retained, e.domain)
	}
	return p.config, nil
}

// parseDocument returns the elements of the hosts list.
func parseDocument(data []byte) ([]*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, errors.New(`is empty: write "hosts: []" to have no lines`)
	} else if err != nil {
		return nil, fmt.Errorf("is not YAML: %w", err)
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("holds more than one YAML document: write one")
	}
	root := resolve(doc.Content[0])
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf(`line %d: must be a mapping with the key "hosts"`, root.Line)
	}
	var hosts *yaml.Node
	for i := 0; i < len(root.Content); i += 2 {
		key := root.Content[i]
		if key.Value != "hosts" {
			return nil, fmt.Errorf(`line %d: unknown key %q: the only key is "hosts"`, key.Line, key.Value)
		}
		if hosts != nil {
			return nil, fmt.Errorf(`line %d: the key "hosts" is given twice: write one list`, key.Line)
		}
		hosts = resolve(root.Content[i+1])
	}
	if hosts == nil || hosts.Kind != yaml.SequenceNode {
		return nil, fmt.Errorf(`line %d: "hosts" must be a list: write "hosts: []" to have no lines`, root.Line)
	}
	return hosts.Content, nil
}

// resolve follows a YAML alias.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// takenKey is what only one entry may claim. A resolver that takes the first of two IPv4
// addresses and one that tries both would pull from different places.
type takenKey struct {
	domain string
	ipv4   bool
}

type parser struct {
	config   Config
	taken    map[takenKey]int // index of the entry that claimed it
	reserved map[string]bool
}

func (p *parser) entry(i int, node *yaml.Node) {
	path, line := fmt.Sprintf("hosts[%d]", i), node.Line
	domain, written := "", ""
	refuse := func(key, format string, args ...any) {
		if key != "" {
			key = "." + key
		}
		p.config.Refused = append(p.config.Refused, Refusal{Path: path + key, Domain: written, Line: line, Reason: fmt.Sprintf(format, args...)})
		if domain != "" {
			if p.config.retained == nil {
				p.config.retained = map[string]bool{}
			}
			p.config.retained[domain] = true
		}
	}

	node = resolve(node)
	if node.Kind != yaml.MappingNode {
		refuse("", "must be a mapping with the keys domain and ip")
		return
	}
	values, badKey, err := fields(node)
	written = values["domain"]
	domain, domainErr := parseDomain(values["domain"])
	if err != nil {
		refuse(badKey, "%v", err)
		return
	}
	switch strings.ToLower(values["disabled"]) {
	case "true":
		return // a disabled entry has no effect, so nothing in it can be wrong
	case "false", "":
	default:
		refuse("disabled", `%q is neither true nor false: write one of them`, values["disabled"])
		return
	}
	if domainErr != nil {
		refuse("domain", "%v", domainErr)
		return
	}
	if p.reserved[domain] {
		own := domain
		domain = "" // a line for it, however it got there, is not kept
		refuse("domain", "%q is this node's own name: write a registry's domain", own)
		return
	}
	addr, err := parseAddr(values["ip"])
	if err != nil {
		refuse("ip", "%v", err)
		return
	}
	claim := takenKey{domain, addr.Is4()}
	if first, ok := p.taken[claim]; ok {
		refuse("domain", "%q has an address of this kind from hosts[%d]: write one IPv4 and at most one IPv6 address for a domain", domain, first)
		return
	}
	p.taken[claim] = i
	p.config.Entries = append(p.config.Entries, Entry{domain: domain, addr: addr})
}

// fields returns the texts of an entry's keys. On an error it also returns the key at fault,
// and whatever it could read.
func fields(node *yaml.Node) (values map[string]string, badKey string, err error) {
	values = map[string]string{}
	for i := 0; i < len(node.Content); i += 2 {
		key, value := node.Content[i].Value, resolve(node.Content[i+1])
		_, twice := values[key]
		switch {
		case key != "domain" && key != "ip" && key != "disabled":
			badKey, err = key, errors.New("is unknown: the keys are domain, ip and disabled")
		case twice:
			badKey, err = key, errors.New("is given twice: write it once")
		case value.Kind != yaml.ScalarNode:
			badKey, err = key, errors.New("must be plain text")
		case value.Tag == "!!null":
			values[key] = ""
		default:
			values[key] = value.Value
		}
	}
	return values, badKey, err
}

// reservedNames returns the names in the form that parseDomain returns, each also without its domain: hosts files have a node's own name in
// both forms.
func reservedNames(names []string) map[string]bool {
	reserved := map[string]bool{}
	for _, name := range names {
		name = normalName(strings.TrimFunc(name, isBlank))
		short, _, _ := strings.Cut(name, ".")
		reserved[name], reserved[short] = true, true
	}
	return reserved
}
