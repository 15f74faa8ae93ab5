package certs

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// good is a configuration that nothing is wrong with.
func good() Config {
	return Config{Namespace: "tcr-assistant-system", DNSNames: []string{"webhook.example.svc"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}}
}

func TestValidate(t *testing.T) {
	require.Empty(t, good().Validate(), "defaults need no saying")

	for _, tc := range []struct {
		name  string
		spoil func(*Config)
		want  string // in the only error; nothing: accepted
	}{
		{"ten minutes are the least", func(c *Config) { c.Duration = MinDuration }, ""},
		{"ten years are the most", func(c *Config) { c.Duration = MaxDuration }, ""},
		{"less than ten minutes", func(c *Config) { c.Duration = MinDuration - time.Second },
			`duration: Invalid value: "9m59s": must be from 10m`},
		{"more than ten years", func(c *Config) { c.Duration = MaxDuration + time.Second },
			`duration: Invalid value: "87600h0m1s": must be from 10m`},
		{"a negative duration", func(c *Config) { c.Duration = -time.Hour }, `duration: Invalid value: "-1h0m0s"`},
		{"another domain's signer", func(c *Config) { c.Signer = "beta.eks.amazonaws.com/app-serving" }, ""},
		{"a signer of a cert-manager issuer", func(c *Config) { c.Signer = "issuers.cert-manager.io/ns.name" }, ""},
		{"a signer without a domain", func(c *Config) { c.Signer = "kubelet-serving" },
			`signer: Invalid value: "kubelet-serving": must be a domain and a name, such as kubernetes.io/kubelet-serving`},
		{"a signer without a name", func(c *Config) { c.Signer = "example.com/" }, `must be a domain and a name`},
		{"a signer with two slashes", func(c *Config) { c.Signer = "example.com/a/b" }, `must be a domain and a name`},
		{"a signer with blanks", func(c *Config) { c.Signer = "example.com/a b" }, `must be a domain and a name`},
		{"a signer whose domain has no dot", func(c *Config) { c.Signer = "example/serving" }, `must be a domain and a name`},
		{"a misspelt built-in signer", func(c *Config) { c.Signer = "kubernetes.io/kubelet-servign" }, `must be a signer that exists`},
		{"a client signer", func(c *Config) { c.Signer = "kubernetes.io/kube-apiserver-client" },
			`this one issues client certificates: use kubernetes.io/kubelet-serving`},
		{"the legacy signer", func(c *Config) { c.Signer = "kubernetes.io/legacy-unknown" },
			`must be a signer that certificates.k8s.io/v1 accepts`},
		{"no namespace", func(c *Config) { c.Namespace = "" }, `namespace: Invalid value: ""`},
		{"a namespace that is none", func(c *Config) { c.Namespace = "A_b" }, `namespace: Invalid value: "A_b"`},
		{"a secret name that is none", func(c *Config) { c.SecretName = "a/b" }, `secretName: Invalid value: "a/b"`},
		{"no name to serve", func(c *Config) { c.DNSNames, c.IPs = nil, nil }, `dnsNames: Required value: must name at least one`},
		{"a URL for a name", func(c *Config) { c.DNSNames = []string{"webhook.svc", "https://x"} }, `dnsNames[1]: Invalid value: "https://x"`},
		{"an address that is none", func(c *Config) { c.IPs = []net.IP{{1, 2}} }, `ips[0]: Invalid value`},
		{"the unspecified address", func(c *Config) { c.IPs = []net.IP{net.IPv4zero} }, `ips[0]: Invalid value: "0.0.0.0"`},
		{"a negative interval", func(c *Config) { c.Grace = -1 }, `grace: Invalid value: "-1ns": must not be negative`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := good()
			tc.spoil(&cfg)
			errs := cfg.Validate()
			if tc.want == "" {
				assert.Empty(t, errs)
				return
			}
			require.Len(t, errs, 1)
			assert.Contains(t, errs[0].Error(), tc.want)
		})
	}

	t.Run("everything that is wrong is told at once", func(t *testing.T) {
		assert.Len(t, Config{Signer: "x", Duration: 1}.Validate(), 4)
	})
	t.Run("a serving with a bad configuration is refused", func(t *testing.T) {
		_, err := NewServing(nil, Config{}, nil)
		assert.ErrorContains(t, err, "namespace")
	})
}

func TestCommonNameFitsX509(t *testing.T) {
	assert.LessOrEqual(t, len(requestCommonName), 64, "RFC 5280, ub-common-name")
}
