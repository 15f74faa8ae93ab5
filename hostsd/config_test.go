package hostsd

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func texts(entries []Entry) []string {
	out := make([]string, len(entries))
	for i, e := range entries {
		out[i] = e.String()
	}
	return out
}

func refusals(c Config) []string {
	var out []string
	for _, r := range c.Refused {
		out = append(out, r.String())
	}
	return out
}

func TestParseConfig(t *testing.T) {
	const demo = "10.0.0.5 demo.tencentcloudcr.com"
	for _, test := range []struct {
		name    string
		config  string
		want    []string
		refused string // the one refusal, in part
	}{
		{"an explicit empty list asks for no lines", "hosts: []\n", nil, ""},
		{"JSON is YAML", `{"hosts":[{"domain":"demo.tencentcloudcr.com","ip":"10.0.0.5","disabled":false}]}`, []string{demo}, ""},
		{"several domains share an address", "hosts:\n- {domain: a.example, ip: 10.0.0.5}\n- {domain: b.example, ip: 10.0.0.5}\n",
			[]string{"10.0.0.5 a.example", "10.0.0.5 b.example"}, ""},
		{"a domain has an IPv4 and an IPv6 address", "hosts:\n- {domain: a.example, ip: 10.0.0.5}\n- {domain: a.example, ip: 'FD00:0::5'}\n",
			[]string{"10.0.0.5 a.example", "fd00::5 a.example"}, ""},
		{"case, a trailing dot and blanks around make no difference", "hosts:\n- {domain: ' Demo.TencentCloudCR.com. ', ip: ' 10.0.0.5 '}\n",
			[]string{demo}, ""},
		{"a name of one label is a domain", "hosts: [{domain: registry, ip: 10.0.0.5}]", []string{"10.0.0.5 registry"}, ""},
		{"loopback may be a mirror on the node", "hosts: [{domain: a.example, ip: 127.0.0.1}]", []string{"127.0.0.1 a.example"}, ""},
		{"cloud services have link-local IPv4 addresses", "hosts: [{domain: a.example, ip: 169.254.0.47}]", []string{"169.254.0.47 a.example"},
			""},
		{"an alias is what it stands for", "hosts:\n- &a {domain: a.example, ip: &ip 10.0.0.5}\n- {domain: b.example, ip: *ip}\n",
			[]string{"10.0.0.5 a.example", "10.0.0.5 b.example"}, ""},

		{"disabled may be a boolean", "hosts: [{domain: a.example, ip: 10.0.0.5, disabled: true}]", nil, ""},
		{"disabled may be a text", "hosts: [{domain: a.example, ip: 10.0.0.5, disabled: 'True'}]", nil, ""},
		{"disabled may be false in a text", "hosts: [{domain: demo.tencentcloudcr.com, ip: 10.0.0.5, disabled: 'false'}]", []string{demo}, ""},
		{"disabled may be blank", "hosts: [{domain: demo.tencentcloudcr.com, ip: 10.0.0.5, disabled: }]", []string{demo}, ""},
		{"nothing of a disabled entry can be wrong", "hosts: [{domain: '', ip: tbd, disabled: true}]", nil, ""},
		{"a disabled entry leaves its domain to another",
			"hosts:\n- {domain: demo.tencentcloudcr.com, ip: 10.0.0.4, disabled: true}\n- {domain: demo.tencentcloudcr.com, ip: 10.0.0.5}\n",
			[]string{demo}, ""},
		{"disabled is nothing else", "hosts: [{domain: a.example, ip: 10.0.0.5, disabled: yes}]", nil,
			`hosts[0].disabled (line 1) "yes" is neither true nor false`},

		{"the valid entries apply beside a refused one",
			"hosts:\n- {domain: a.example, ip: 10.0.0.300}\n- {domain: demo.tencentcloudcr.com, ip: 10.0.0.5}\n", []string{demo},
			`hosts[0].ip (line 2) "10.0.0.300" is not an IP address: write one such as`},
		{"an unknown key is refused", "hosts:\n- domain: a.example\n  adress: 10.0.0.5\n", nil,
			"hosts[0].adress (line 2) is unknown: the keys are domain, ip and disabled"},
		{"a merge key is unknown", "hosts:\n- &a {domain: a.example, ip: 10.0.0.5}\n- {<<: *a, domain: b.example}\n",
			[]string{"10.0.0.5 a.example"}, "hosts[1].<< (line 3) is unknown"},
		{"a repeated key is refused", "hosts: [{domain: a.example, ip: 10.0.0.5, ip: 10.0.0.6}]", nil, "hosts[0].ip (line 1) is given twice"},
		{"a list is no address", "hosts: [{domain: a.example, ip: [10.0.0.5]}]", nil, "hosts[0].ip (line 1) must be plain text"},
		{"a text is no entry", "hosts: ['10.0.0.5 a.example']", nil, "hosts[0] (line 1) must be a mapping"},
		{"a missing address is refused", "hosts: [{domain: a.example}]", nil, "hosts[0].ip (line 1) is empty: write"},
		{"a missing domain is refused", "hosts: [{ip: 10.0.0.5}]", nil, "hosts[0].domain (line 1) is empty: write"},
		{"a repeated entry is refused",
			"hosts:\n- {domain: demo.tencentcloudcr.com, ip: 10.0.0.5}\n- {domain: DEMO.tencentcloudcr.com, ip: 10.0.0.5}\n", []string{demo},
			"hosts[1].domain (line 3) \"demo.tencentcloudcr.com\" has an address of this kind from hosts[0]"},
		{"a second IPv4 address is refused",
			"hosts:\n- {domain: demo.tencentcloudcr.com, ip: 10.0.0.5}\n- {domain: demo.tencentcloudcr.com, ip: 10.0.0.6}\n", []string{demo},
			"write one IPv4 and at most one IPv6 address"},

		{"localhost is refused", "hosts: [{domain: LocalHost., ip: 10.0.0.5}]", nil, "is the node's name for itself"},
		{"names below localhost are refused", "hosts: [{domain: a.localhost, ip: 10.0.0.5}]", nil, "is the node's name for itself"},
		{"the node's own name is refused", "hosts: [{domain: node-1.Example.com, ip: 10.0.0.5}]", nil,
			`hosts[0].domain (line 1) "node-1.example.com" is this node's own name`},
		{"the node's short name is refused", "hosts: [{domain: node-1, ip: 10.0.0.5}]", nil, "is this node's own name"},
		{"another name in the node's domain is a domain", "hosts: [{domain: registry.example.com, ip: 10.0.0.5}]",
			[]string{"10.0.0.5 registry.example.com"}, ""},

		{"a newline in a domain is refused", "hosts: [{domain: \"a.example\\n1.2.3.4 b\", ip: 10.0.0.5}]", nil, "holds '\\n'"},
		{"a blank in a domain is refused", "hosts: [{domain: a.example b.example, ip: 10.0.0.5}]", nil, "holds ' '"},
		{"a comment in a domain is refused", "hosts: [{domain: 'a.example#', ip: 10.0.0.5}]", nil, "holds '#'"},
		{"an underscore is refused", "hosts: [{domain: a_b.example, ip: 10.0.0.5}]", nil, "holds '_'"},
		{"a URL is refused", "hosts: [{domain: 'https://a.example', ip: 10.0.0.5}]", nil, "write it without scheme and path"},
		{"a port in a domain is refused", "hosts: [{domain: 'a.example:443', ip: 10.0.0.5}]", nil, "names a port"},
		{"a wildcard is refused", "hosts: [{domain: '*.tencentcloudcr.com', ip: 10.0.0.5}]", nil, "is a wildcard"},
		{"letters beyond ASCII are refused", "hosts: [{domain: 例.example, ip: 10.0.0.5}]", nil, "xn-- form"},
		{"a Kelvin sign is no k", "hosts: [{domain: \"\u212a.example\", ip: 10.0.0.5}]", nil, "xn-- form"},
		{"two dots are refused", "hosts: [{domain: a..example, ip: 10.0.0.5}]", nil, "has an empty label"},
		{"a hyphen at an end is refused", "hosts: [{domain: a-.example, ip: 10.0.0.5}]", nil, "hyphen"},
		{"a label of 64 characters is refused", "hosts: [{domain: " + strings.Repeat("a", 64) + ".example, ip: 10.0.0.5}]", nil,
			"a label has at most 63"},
		{"a name of 255 characters is refused", "hosts: [{domain: " + strings.Repeat("abc.", 63) + "abc, ip: 10.0.0.5}]", nil, "has at most 253"},
		{"an address as domain is refused", "hosts: [{domain: 10.0.0.5, ip: a.example}]", nil, "is an IP address: write the DNS name here"},
		{"a number as last label is refused", "hosts: [{domain: a.10, ip: 10.0.0.5}]", nil, "digits alone"},

		{"a resolver's error text is no address", "hosts: [{domain: a.example, ip: 'Host a.example not found: 3(NXDOMAIN)'}]", nil,
			"is not an IP address"},
		{"a newline in an address is refused", "hosts: [{domain: a.example, ip: \"10.0.0.5\\n1.2.3.4 b\"}]", nil, "is not an IP address"},
		{"an address with the length of its network is refused", "hosts: [{domain: a.example, ip: 10.0.0.5/32}]", nil,
			"has the length of a network: write 10.0.0.5"},
		{"so is one in a wide network", "hosts: [{domain: a.example, ip: 'fd00::5/64'}]", nil, "has the length of a network: write fd00::5"},
		{"a network is refused", "hosts: [{domain: a.example, ip: 10.0.0.0/8}]", nil,
			"is a network: write the address of a host, such as 10.0.0.5"},
		{"an IPv6 network is refused", "hosts: [{domain: a.example, ip: 'fd00::/8'}]", nil, "is a network: write the address of a host"},
		{"a port is refused", "hosts: [{domain: a.example, ip: '10.0.0.5:443'}]", nil,
			"names a port, which a hosts file cannot hold: write 10.0.0.5"},
		{"a zone is refused", "hosts: [{domain: a.example, ip: 'fe80::1%eth0'}]", nil, "has a zone"},
		{"link-local IPv6 is refused", "hosts: [{domain: a.example, ip: 'fe80::1'}]", nil, "is link-local"},
		{"a mapped address is refused", "hosts: [{domain: a.example, ip: '::ffff:10.0.0.5'}]", nil, "mapped into IPv6: write 10.0.0.5"},
		{"the unspecified address is refused", "hosts: [{domain: a.example, ip: 0.0.0.0}]", nil, "is the unspecified address"},
		{"a multicast address is refused", "hosts: [{domain: a.example, ip: 'ff02::1'}]", nil, "is a multicast or broadcast address"},
		{"the broadcast address is refused", "hosts: [{domain: a.example, ip: 255.255.255.255}]", nil, "is a multicast or broadcast address"},
		{"leading zeros are refused", "hosts: [{domain: a.example, ip: 10.0.0.05}]", nil, "is not an IP address"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := ParseConfig([]byte(test.config), "node-1.example.com\n", "10.0.0.9", "")
			require.NoError(t, err)
			assert.ElementsMatch(t, test.want, texts(c.Entries))
			if test.refused == "" {
				assert.Empty(t, refusals(c))
				return
			}
			require.Len(t, c.Refused, 1)
			assert.Contains(t, c.Refused[0].String(), test.refused)
		})
	}
}

func TestParseConfigRefusesWholeDocuments(t *testing.T) {
	for _, test := range []struct{ name, config, want string }{
		{"an empty file", "", `is empty: write "hosts: []"`},
		{"a comment alone", "# hosts\n", `is empty: write "hosts: []"`},
		{"nothing after the key", "hosts:\n", `line 1: "hosts" must be a list: write "hosts: []"`},
		{"a mapping of hosts", "hosts: {a.example: 10.0.0.5}", `"hosts" must be a list`},
		{"a misspelt key", "host: []\n", `line 1: unknown key "host": the only key is "hosts"`},
		{"a key beside hosts", "hosts: []\n\ninterval: 5\n", `line 3: unknown key "interval"`},
		{"hosts given twice", "hosts: []\nhosts: []\n", `line 2: the key "hosts" is given twice`},
		{"an empty mapping", "{}", `"hosts" must be a list`},
		{"a list", "- a\n", `line 1: must be a mapping with the key "hosts"`},
		{"two documents", "hosts: []\n---\nhosts: []\n", "more than one YAML document"},
		{"half a file", "hosts:\n- {domain: a.exam", "is not YAML: yaml: line "},
		{"a hosts file", "127.0.0.1\tlocalhost\n", "line 1"},
		{"bytes", "\x00\x01\xff", "is not YAML"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseConfig([]byte(test.config))
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestDesired(t *testing.T) {
	file := []byte(demoLine + demo6Line + vpcLine + ubuntuFile)
	desired := func(t *testing.T, config string) []string {
		t.Helper()
		c, err := ParseConfig([]byte(config), "node-1")
		require.NoError(t, err)
		return texts(c.Desired(file))
	}
	t.Run("a refused address leaves the domain's lines as they are", func(t *testing.T) {
		assert.Equal(t, []string{"10.0.0.5 demo.tencentcloudcr.com", "fd00::5 demo.tencentcloudcr.com"},
			desired(t, "hosts: [{domain: demo.tencentcloudcr.com, ip: 10.0.0.300}]"))
	})
	t.Run("a valid entry for the domain replaces them", func(t *testing.T) {
		assert.Equal(t, []string{"10.0.0.6 demo.tencentcloudcr.com"},
			desired(t, "hosts:\n- {domain: demo.tencentcloudcr.com, ip: 10.0.0.300}\n- {domain: demo.tencentcloudcr.com, ip: 10.0.0.6}\n"))
	})
	t.Run("a domain that left the list leaves the file, refused entries or not", func(t *testing.T) {
		assert.Empty(t, desired(t, "hosts: [{domain: other.example, ip: x}]"))
	})
	t.Run("a disabled entry leaves the file", func(t *testing.T) {
		assert.Empty(t, desired(t, "hosts: [{domain: demo.tencentcloudcr.com, ip: x, disabled: true}]"))
	})
	t.Run("a line for the node's own name is not kept", func(t *testing.T) {
		c, err := ParseConfig([]byte("hosts: [{domain: node-1, ip: 10.0.0.5}]"), "node-1")
		require.NoError(t, err)
		assert.Empty(t, c.Desired([]byte("10.0.0.5 node-1 "+Marker+"\n")))
	})
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("hosts:\n- {domain: a.example, ip: 10.0.0.5}\n- {domain: b.example, ip: x}\n- &a {disabled: 'true'}\n- *a\n"),
		[]byte(demoLine+ubuntuFile))
	f.Add([]byte(`{"hosts":[{"domain":"demo.tencentcloudcr.com","ip":"fd00::zz"}]}`), []byte("a\n"+demo6Line+vpcLine+"b"))
	f.Add([]byte("hosts: []\n---\n"), []byte("fe80::1%x demo "+Marker))
	f.Add([]byte("# no\n"), []byte(""))
	f.Add([]byte("&a [*a]"), []byte("\n"))
	f.Fuzz(func(t *testing.T, config, file []byte) {
		c, err := ParseConfig(config, "node-1")
		if err != nil {
			return
		}
		for _, e := range c.Entries {
			again, err := ParseEntry(e.Domain(), e.Addr().String())
			require.NoError(t, err)
			require.Equal(t, e, again)
		}
		for _, r := range c.Refused {
			require.NotEmpty(t, r.Reason)
			require.Positive(t, r.Line)
		}
		edited := Edit(file, c.Desired(file))
		require.Equal(t, edited, Edit(edited, c.Desired(edited)), "a second pass changes nothing")
		laws(t, file, c.Desired(file))
	})
}
