package diagnose

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/image"
)

// Covers reports whether a kubelet uses the credential that is stored for a server to pull from a repository. Paths are prefixes,
// each label of a host may be a pattern, and ports have to be equal.
func Covers(server, repository string) bool {
	kept, ok := credential.Kept(server)
	if !ok {
		return false
	}
	target, err := url.Parse("https://" + repository)
	if err != nil {
		return false
	}
	// To a kubelet, a host without a dot or a port is a user of Docker Hub.
	if kept.Host == image.DockerHub && kept.Path == "" && (target.Host == "docker.io" || !strings.ContainsAny(target.Host, ".:")) {
		return true
	}
	keptLabels, keptPort := labels(kept.Host)
	targetLabels, targetPort := labels(target.Host)
	if keptPort != targetPort || len(keptLabels) != len(targetLabels) || !strings.HasPrefix(target.Path, kept.Path) {
		return false
	}
	for i, pattern := range keptLabels {
		if matched, err := path.Match(pattern, targetLabels[i]); err != nil || !matched {
			return false
		}
	}
	return true
}

func labels(hostport string) (labels []string, port string) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		host, port = hostport, ""
	}
	return strings.Split(host, "."), port
}

// entry is one server's credential. A kubelet reads these fields; an entry with additional fields is not broken.
type entry struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Email    string `json:"email"`
	Auth     string `json:"auth"`
}

// Read returns the servers that a .dockerconfigjson has credentials for, or an error if a kubelet cannot read it. Neither reveals
// anything of the credentials.
func Read(config []byte) ([]string, error) {
	var parsed struct {
		Auths map[string]entry `json:"auths"`
		// A kubelet reads these, too, and fails if it cannot.
		Headers map[string]string `json:"HttpHeaders"`
	}
	if err := json.Unmarshal(config, &parsed); err != nil {
		return nil, problem(err)
	}
	return readAuths(parsed.Auths)
}

// ReadLegacy is Read for a .dockercfg.
func ReadLegacy(config []byte) ([]string, error) {
	var auths map[string]entry
	if err := json.Unmarshal(config, &auths); err != nil {
		return nil, problem(err)
	}
	return readAuths(auths)
}

func readAuths(auths map[string]entry) ([]string, error) {
	servers := slices.Sorted(maps.Keys(auths))
	for _, server := range servers {
		auth := auths[server].Auth
		if auth == "" {
			continue
		}
		if _, err := credential.DecodeAuth(auth); err != nil {
			return nil, fmt.Errorf("the auth of %s %w", server, err)
		}
	}
	return servers, nil
}

// problem says what is wrong with a document without repeating any of it.
func problem(err error) error {
	var typed *json.UnmarshalTypeError
	if errors.As(err, &typed) {
		// The field's path may hold names of servers, but no value.
		kind, _, _ := strings.Cut(typed.Value, " ")
		return fmt.Errorf("its field %q is a JSON %s", typed.Field, kind)
	}
	return errors.New("it is not JSON")
}

// sum returns the checksum by which credentials are compared.
func sum(config []byte) string {
	sum := sha256.Sum256(config)
	return hex.EncodeToString(sum[:])
}
