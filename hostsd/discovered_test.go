package hostsd

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func parsed(t *testing.T, text string) Config {
	t.Helper()
	config, err := ParseConfig([]byte(text))
	require.NoError(t, err)
	return config
}

func TestTheConfigurationWinsOverWhatWasFound(t *testing.T) {
	for name, test := range map[string]struct {
		config, found string
		want, loses   []string
	}{
		"both count for domains of their own": {"hosts: [{domain: a.b, ip: 10.0.0.1}]", "hosts: [{domain: c.d, ip: 10.0.0.2}]",
			[]string{"10.0.0.1 a.b", "10.0.0.2 c.d"}, []string{}},
		"the configuration wins": {"hosts: [{domain: a.b, ip: 10.0.0.1}]", "hosts: [{domain: a.b, ip: 10.0.0.2}]",
			[]string{"10.0.0.1 a.b"}, []string{"10.0.0.2 a.b"}},
		"with an address of either kind": {"hosts: [{domain: a.b, ip: 'fd00::1'}]", "hosts: [{domain: a.b, ip: 10.0.0.2}]",
			[]string{"fd00::1 a.b"}, []string{"10.0.0.2 a.b"}},
		"who agrees is not overruled": {"hosts: [{domain: a.b, ip: 10.0.0.1}]", "hosts: [{domain: a.b, ip: 10.0.0.1}]",
			[]string{"10.0.0.1 a.b"}, []string{}},
		"what is disabled is no entry": {"hosts: [{domain: a.b, ip: 10.0.0.1, disabled: true}]", "hosts: [{domain: a.b, ip: 10.0.0.2}]",
			[]string{"10.0.0.2 a.b"}, []string{}},
		"nor is what is refused": {"hosts: [{domain: a.b, ip: 10.0.0}]", "hosts: [{domain: a.b, ip: 10.0.0.2}]",
			[]string{"10.0.0.2 a.b"}, []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			all, overruled := parsed(t, test.config).With(parsed(t, test.found))
			assert.Equal(t, test.want, texts(all.Desired([]byte("10.0.0.9 a.b "+Marker+"\n"))), "nothing is retained of which there is an entry")
			assert.Equal(t, test.loses, texts(overruled))
		})
	}
}

func TestWhatWasFoundLeadsIntoPrivateNetworksAlone(t *testing.T) {
	found, err := ParseDiscovered([]byte("hosts: [{domain: a.b, ip: 8.8.8.8}, {domain: c.d, ip: 127.0.0.1}, {domain: e.f, ip: 169.254.0.23}, "+
		"{domain: g.h, ip: 100.64.0.1}, {domain: i.j, ip: 'fd00::1'}, {domain: node, ip: 10.0.0.1}]"), "node")
	require.NoError(t, err)
	assert.Equal(t, []string{"100.64.0.1 g.h", "fd00::1 i.j"}, texts(found.Entries))
	assert.Len(t, found.Refused, 4)
}
