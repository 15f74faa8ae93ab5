package tencentcloud

import (
	"crypto/rand"
	"net/http"
	"path"
	"time"
)

// Statement is one of a policy: what it allows, or denies, on what. A "*" stands for any text. Whatever no statement allows is
// denied.
type Statement struct {
	Deny      bool
	Actions   []string // such as tcr:CreateInstanceToken
	Resources []string // such as qcs::tcr:ap-guangzhou:uin/100012345678:instance/tcr-xxxxxxxx
}

// Everything allows all of it.
var Everything = Statement{Actions: []string{"*"}, Resources: []string{"*"}}

// Key is what somebody signs with. Token is blank but for temporary ones.
type Key struct{ SecretID, SecretKey, Token string }

type key struct {
	Key
	account string
	expires time.Time // zero for never
	policy  []Statement
}

type role struct {
	provider string
	policy   []Statement
}

type identity struct {
	provider, arn string
	expires       time.Time
}

type nodeRole struct {
	name    string
	policy  []Statement
	current *key
}

// AddKey makes a key of the account.
func (c *Cloud) AddKey(policy ...Statement) Key { return c.addKey(Account, policy) }

// AddForeignKey makes a key of another account, which may do everything there and nothing here.
func (c *Cloud) AddForeignKey() Key { return c.addKey("100087654321", []Statement{Everything}) }

func (c *Cloud) addKey(account string, policy []Statement) Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	made := &key{Key: Key{SecretID: "AKID" + rand.Text(), SecretKey: rand.Text()}, account: account, policy: policy}
	c.keys[made.SecretID] = made
	return made.Key
}

// RemoveKey lets a key be unknown from now on.
func (c *Cloud) RemoveKey(secretID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.keys, secretID)
}

// SetPolicy replaces what a key may do.
func (c *Cloud) SetPolicy(secretID string, policy ...Statement) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys[secretID].policy = policy
}

// AddRole makes a role that those with an identity of a provider may assume.
func (c *Cloud) AddRole(arn, provider string, policy ...Statement) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.roles[arn] = &role{provider, policy}
}

// AddIdentity returns a web identity token that a provider has issued for a role, as a cluster projects them into pods.
func (c *Cloud) AddIdentity(provider, arn string, lifetime time.Duration) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	token := webToken(map[string]any{"iss": provider, "sub": "system:serviceaccount"})
	c.identities[token] = identity{provider, arn, c.now().Add(lifetime)}
	return token
}

// BindNodeRole gives the machine that asks the metadata service a role; a blank name takes it away.
func (c *Cloud) BindNodeRole(name string, policy ...Statement) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodeRole = nil
	if name != "" {
		c.nodeRole = &nodeRole{name: name, policy: policy}
	}
}

// temporaryKey makes one that is good for a time.
func (c *Cloud) temporaryKey(policy []Statement, lifetime time.Duration) *key {
	made := &key{
		Key:     Key{SecretID: "AKID" + rand.Text(), SecretKey: rand.Text(), Token: rand.Text() + rand.Text()},
		account: Account, policy: policy, expires: c.now().Add(lifetime),
	}
	c.keys[made.SecretID] = made
	return made
}

// authenticate says whose request it is, and for which service it was signed.
func (c *Cloud) authenticate(r *http.Request, body []byte) (*key, string, *fault) {
	signed, wrong := parseAuthorization(r.Header.Get("Authorization"))
	if wrong != nil {
		return nil, "", wrong
	}
	who := c.keys[signed.secretID]
	if who == nil {
		return nil, signed.service, faultf("AuthFailure.SecretIdNotFound",
			"The SecretId is not found. Please ensure that your SecretId is correct.")
	}
	if wrong := signed.check(r, body, who.SecretKey, c.now()); wrong != nil {
		return nil, signed.service, wrong
	}
	if r.Header.Get("X-TC-Token") != who.Token || !who.expires.IsZero() && !c.now().Before(who.expires) {
		return nil, signed.service, faultf("AuthFailure.TokenFailure", "The token is wrong or has expired.")
	}
	return who, signed.service, nil
}

// may says whether the key's policy allows an action on a resource. What is denied is denied, whatever else is allowed.
func (k *key) may(action, resource string) bool {
	allowed := false
	for _, statement := range k.policy {
		if matchesAny(statement.Actions, action) && matchesAny(statement.Resources, resource) {
			if statement.Deny {
				return false
			}
			allowed = true
		}
	}
	return allowed
}

// matchesAny takes every "*" for any text: colons and slashes are no borders to it.
func matchesAny(patterns []string, text string) bool {
	for _, pattern := range patterns {
		if matched, err := path.Match(flat(pattern), flat(text)); err == nil && matched {
			return true
		}
	}
	return false
}

// flat replaces what path.Match would not let a "*" match.
func flat(text string) string {
	out := []byte(text)
	for i := range out {
		if out[i] == '/' {
			out[i] = 1
		}
	}
	return string(out)
}
