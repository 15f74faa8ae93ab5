package pullsecret

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// Credential is what is known about the credential of a rule whose ImagePullSecret does not hold it.
type Credential struct {
	// Config is the .dockerconfigjson to issue; nil where it is not known.
	Config []byte
	// Renewal is how far the cloud has got with issuing it.
	Renewal Renewal
	// Expiry is when it expires, according to itself or to the Secret that holds it.
	Expiry Expiry
	// Unread is why it cannot be read; nil where it can.
	Unread *Unread
}

// Unread is why a credential cannot be read. It holds no part of the credential.
type Unread struct {
	// Reason is a CamelCase word, Object the "namespace/name" of the object concerned. Message says what to write.
	Reason, Object, Message string
}

// Equal reports whether both say the same, or both are nil.
func (u *Unread) Equal(other *Unread) bool {
	return u == other || u != nil && other != nil && *u == *other
}

// hold gives a rule its credential. Nobody may have seen the rule yet.
func (r *Rule) hold(config []byte) {
	r.Config, r.Sum = config, sha256.Sum256(config)
}

// With returns the rule with that credential: the rule itself if it already has it.
func (r *Rule) With(credential Credential) *Rule {
	servers := r.Servers
	if r.Registry != nil {
		servers = r.Registry.servers(credential.Renewal.Domain)
	}
	if r.Unread.Equal(credential.Unread) && r.Known() == (credential.Config != nil) && bytes.Equal(r.Config, credential.Config) &&
		slices.Equal(r.Servers, servers) && r.Renewal.equal(credential.Renewal) && r.Expiry.equal(credential.Expiry) {
		return r
	}
	next := *r
	next.Config, next.Sum, next.Unread = nil, [sha256.Size]byte{}, credential.Unread
	next.Servers, next.Renewal, next.Expiry = servers, credential.Renewal, credential.Expiry
	if credential.Config != nil {
		next.hold(credential.Config)
	}
	return &next
}

// inherits gives a new rule the credential of its predecessor, if both have the same source.
func (r *Rule) inherits(before *Rule) {
	if before != nil && r.sameSource(before) {
		r.Config, r.Sum, r.Unread, r.Servers = before.Config, before.Sum, before.Unread, before.Servers
		r.Renewal, r.Expiry = before.Renewal, before.Expiry
	}
}

// sameSource reports whether both rules have the same credential: that of one Secret, for the same servers, or the one that the cloud
// issues for one object.
func (r *Rule) sameSource(other *Rule) bool {
	if r.Registry != nil && other.Registry != nil {
		return r.UID == other.UID && r.Registry.same(other.Registry)
	}
	return r.Registry == nil && other.Registry == nil && r.Reference != "" && r.Reference == other.Reference &&
		slices.Equal(r.Servers, other.Servers)
}

// Supply takes in the credentials of rules whose ImagePullSecrets do not hold them. If a rule has been replaced meanwhile, the current
// one gets the credential if it has the same source, since nobody would supply it again; else the credential is dropped.
func (i *Index) Supply(credentials map[*Rule]Credential) {
	i.mu.Lock()
	defer i.mu.Unlock()
	edit := i.edit()
	for rule, credential := range credentials {
		current, valid := edit.byName.get(rule.Name)
		if !valid || !current.sameSource(rule) {
			continue
		}
		next := current.With(credential)
		if next == current {
			continue
		}
		seen := i.seen[rule.Name] // the ImagePullSecret itself has not changed
		edit.set(rule.Name, next, invalid{})
		i.seen[rule.Name] = seen
	}
	edit.commit()
}

// Oversized reports whether a rendered credential is more than a Secret may hold.
func Oversized(size int) bool { return size > corev1.MaxSecretSize }

// Render returns the .dockerconfigjson of a credential, byte for byte as "kubectl create secret docker-registry" writes it. Each
// additional server is one more entry.
func Render(credential v1.DockerCredential) []byte {
	type entry struct {
		Username string `json:"username,omitempty"`
		Password string `json:"password,omitempty"`
		Auth     string `json:"auth,omitempty"`
	}
	one := entry{
		Username: credential.Username,
		Password: credential.Password,
		Auth:     base64.StdEncoding.EncodeToString([]byte(credential.Username + ":" + credential.Password)),
	}
	auths := map[string]entry{credential.Server: one}
	for _, server := range credential.AdditionalServers {
		auths[server] = one
	}
	config, err := json.Marshal(struct {
		Auths map[string]entry `json:"auths"`
	}{auths})
	if err != nil {
		panic(err) // a map of strings always marshals
	}
	return config
}

// MaxAdditionalServers is how many servers there may be besides the first.
const MaxAdditionalServers = 16

// How long the fields of a credential may be, in characters. The CRD has the same bounds.
const (
	maxUsername = 4096
	maxPassword = 262144
	maxServer   = 512
)

// renderedSize returns the size of what Render returns, in bytes.
func renderedSize(credential v1.DockerCredential) int {
	quoted := func(text string) int {
		encoded, _ := json.Marshal(text) // a string always marshals
		return len(encoded)
	}
	entry := len(`:{"username":,"password":,"auth":""},`) + quoted(credential.Username) + quoted(credential.Password) +
		base64.StdEncoding.EncodedLen(len(credential.Username)+1+len(credential.Password))
	size := len(`{"auths":{}}`) - len(",") + entry + quoted(credential.Server)
	for _, server := range credential.AdditionalServers {
		size += entry + quoted(server)
	}
	return size
}

func checkCredential(path *field.Path, credential v1.DockerCredential) field.ErrorList {
	errs := checkSource(path, credential)
	errs = append(errs, checkServer(path.Child("server"), credential.Server)...)
	return append(errs, checkAdditional(path, credential)...)
}

// checkSource checks that the credential has exactly one source, and that the source is valid.
func checkSource(path *field.Path, credential v1.DockerCredential) field.ErrorList {
	inline := credential.Username != "" || credential.Password != ""
	switch {
	case credential.SecretRef != nil && inline:
		return field.ErrorList{field.Forbidden(path.Child("secretRef"),
			"must be the only source of the credential: leave out spec.docker.username and spec.docker.password, or spec.docker.secretRef")}
	case credential.SecretRef != nil:
		return checkReference(path.Child("secretRef", "name"), credential.SecretRef.Name)
	case !inline:
		return field.ErrorList{field.Required(path,
			"must hold a credential: write spec.docker.username and spec.docker.password, or in spec.docker.secretRef the name of a Secret that "+
				"holds them, or spec.tcr")}
	}
	errs := CheckUsername(path.Child("username"), credential.Username)
	errs = append(errs, CheckPassword(path.Child("password"), credential.Password)...)
	if len(errs) == 0 && len(credential.AdditionalServers) <= MaxAdditionalServers && Oversized(renderedSize(credential)) {
		errs = append(errs, field.Forbidden(path.Child("password"),
			"makes a Secret of more than 1 MiB, which cannot be stored: write a shorter password, or fewer servers"))
	}
	return errs
}

// CheckUsername checks the user name of a registry. No error repeats it.
func CheckUsername(path *field.Path, username string) field.ErrorList {
	switch {
	case tooLong(username, maxUsername):
		return field.ErrorList{field.TooLong(path, "", maxUsername)}
	case strings.Trim(username, blanks) == "":
		return field.ErrorList{field.Required(path, "must not be blank: write the registry's user name")}
	case strings.Contains(username, ":"):
		// What follows the colon may be a password: the value is not repeated.
		return field.ErrorList{field.Forbidden(path,
			`must not hold ":", which separates user name and password in HTTP basic authentication`)}
	}
	return nil
}

// CheckPassword checks the password of a registry. No error repeats it.
func CheckPassword(path *field.Path, password string) field.ErrorList {
	switch {
	case password == "":
		return field.ErrorList{field.Required(path, "must not be empty: write the registry's password or token")}
	case tooLong(password, maxPassword):
		return field.ErrorList{field.TooLong(path, "", maxPassword)}
	}
	return nil
}

// checkReference checks the name of a Secret. An invalid one may be a password by mistake: it is not repeated.
func checkReference(path *field.Path, name string) field.ErrorList {
	switch {
	case name == "":
		return field.ErrorList{field.Required(path, "must be the name of a Secret in the manager's namespace")}
	case tooLong(name, validation.DNS1123SubdomainMaxLength):
		return field.ErrorList{field.TooLong(path, "", validation.DNS1123SubdomainMaxLength)}
	case len(validation.IsDNS1123Subdomain(name)) > 0:
		return field.ErrorList{field.Forbidden(path,
			`must be the name of a Secret in the manager's namespace: lower case letters, digits, "-" and ".", such as "registry-credential"`)}
	case strings.HasPrefix(name, SecretPrefix):
		return field.ErrorList{field.Forbidden(path, "must not be a Secret that an ImagePullSecret issues, named "+SecretPrefix+
			"…: name one that holds a credential of its own")}
	}
	return nil
}

func checkAdditional(path *field.Path, credential v1.DockerCredential) (errs field.ErrorList) {
	at, servers := path.Child("additionalServers"), credential.AdditionalServers
	if len(servers) > MaxAdditionalServers {
		return field.ErrorList{field.TooMany(at, len(servers), MaxAdditionalServers)}
	}
	errs = checkHosts(at, servers)
	if slices.Contains(servers, credential.Server) {
		errs = append(errs, field.Forbidden(at, "must not hold spec.docker.server: leave it out here"))
	}
	return errs
}
