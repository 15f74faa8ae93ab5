package tencentcloud

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Registry is what the cloud has one of.
type Registry struct {
	ID, Region string
	// Domain is the default one.
	Domain string
	// Quota is how many long-term tokens it may have; 0 for 50.
	Quota int
	// Lifetime is how long its long-term tokens are good; 0 for ten years.
	Lifetime time.Duration
	// Status is Running where it is blank.
	Status string
}

// Link is a way to a registry from a private network, in one of the states Pending, Running, Deleting, Failed.
type Link struct{ VPC, Subnet, Status, Address string }

type registry struct {
	Registry
	links []Link
	// dns holds the status of domains in a network, by network and whether it is the default domain.
	dns map[string]map[bool]string
}

// Token is a credential of a registry. ID is blank for temporary ones, which nothing lists or revokes.
type Token struct {
	ID, Registry, Description string
	Username, Password        string
	Enabled                   bool
	Created, Expires          time.Time
}

// AddRegistry creates a registry, or replaces what is known of one.
func (c *Cloud) AddRegistry(made Registry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if made.Quota == 0 {
		made.Quota = 50
	}
	if made.Lifetime == 0 {
		made.Lifetime = 10 * 365 * 24 * time.Hour
	}
	if made.Status == "" {
		made.Status = "Running"
	}
	links := []Link(nil)
	dns := map[string]map[bool]string{}
	if before := c.registries[made.ID]; before != nil {
		links, dns = before.links, before.dns
	}
	c.registries[made.ID] = &registry{made, links, dns}
}

// RemoveRegistry deletes one with its tokens.
func (c *Cloud) RemoveRegistry(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.registries, id)
	c.tokens = slices.DeleteFunc(c.tokens, func(token *Token) bool { return token.Registry == id })
}

// SetLinks says how a registry is reached from private networks. With none, the API answers null.
func (c *Cloud) SetLinks(id string, links ...Link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.registries[id].links = links
}

// SetDNS says whether a private network resolves the default domain of a registry, or its -vpc one, in the API's words: ENABLED and
// ENABLE, DISABLED and DISABLE, ERROR.
func (c *Cloud) SetDNS(id, vpc string, publicDomain bool, status string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	dns := c.registries[id].dns
	if dns[vpc] == nil {
		dns[vpc] = map[bool]string{}
	}
	dns[vpc][publicDomain] = status
}

// Check says whether any registry lets somebody in: with a token that is enabled and neither deleted nor expired.
func (c *Cloud) Check(username, password string) bool { return c.admits("", username, password) }

// admits says whether a registry lets somebody in, or, with a blank id, any does.
func (c *Cloud) admits(id, username, password string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.tokens, func(token *Token) bool {
		return (id == "" || token.Registry == id) &&
			token.Username == username && token.Password == password && token.Enabled && c.now().Before(token.Expires)
	})
}

// Tokens returns what is not deleted of a registry's tokens, the oldest first.
func (c *Cloud) Tokens(id string) []Token {
	c.mu.Lock()
	defer c.mu.Unlock()
	var tokens []Token
	for _, token := range c.tokens {
		if token.Registry == id {
			tokens = append(tokens, *token)
		}
	}
	return tokens
}

// registry returns the one that a request names, where it is in the request's region and the caller may do that.
func (c *Cloud) registry(r request, id string) (*registry, *fault) {
	if id == "" {
		return nil, faultf("MissingParameter", "The request is missing the required parameter `RegistryId`.")
	}
	resource := fmt.Sprintf("qcs::tcr:%s:uin/%s:instance/%s", r.region, Account, id)
	if r.caller.account != Account || !r.caller.may("tcr:"+r.action, resource) {
		return nil, faultf("UnauthorizedOperation",
			"[request id:00000000]you are not authorized to perform operation (tcr:%s)\nresource (%s) has no permission\n", r.action, resource)
	}
	found := c.registries[id]
	if found == nil || found.Region != r.region {
		return nil, faultf("ResourceNotFound.TcrResourceNotFound", "The resource %s was not found.", id)
	}
	if found.Status != "Running" {
		return nil, faultf("ResourceInsufficient.ErrorInstanceNotRunning", "The instance is not running.")
	}
	return found, nil
}

func (c *Cloud) createToken(r request) (map[string]any, *fault) {
	found, wrong := c.registry(r, r.RegistryID)
	if wrong != nil {
		return nil, wrong
	}
	token := &Token{Registry: found.ID, Username: Account, Enabled: true, Created: c.now()}
	claims := map[string]any{"iat": c.now().Unix(), "owner": Account, "jti": rand.Text()}
	response := map[string]any{}
	switch r.TokenType {
	case "", "temp":
		token.Expires = c.now().Add(time.Hour)
		claims["exp"] = token.Expires.Unix()
		response["TokenId"] = nil
	case "longterm":
		if c.longTerm(found.ID) >= found.Quota {
			return nil, faultf("InternalError.ErrorOverLimit", "The number of long-term access credentials is over the limit of %d.", found.Quota)
		}
		token.ID, token.Description, token.Expires = strings.ToLower(rand.Text()), r.Desc, c.now().Add(found.Lifetime)
		response["TokenId"] = token.ID
	default:
		return nil, faultf("InvalidParameter.ErrorTcrInvalidParameter", "TokenType is neither temp nor longterm.")
	}
	token.Password = webToken(claims)
	c.tokens = append(c.tokens, token)
	response["Username"], response["Token"], response["ExpTime"] = token.Username, token.Password, token.Expires.UnixMilli()
	return response, nil
}

// longTerm counts the long-term tokens of a registry.
func (c *Cloud) longTerm(id string) int {
	count := 0
	for _, token := range c.tokens {
		if token.Registry == id && token.ID != "" {
			count++
		}
	}
	return count
}

// listTokens lists the newest first, so that one that is made meanwhile moves all others.
func (c *Cloud) listTokens(r request) (map[string]any, *fault) {
	if _, wrong := c.registry(r, r.RegistryID); wrong != nil {
		return nil, wrong
	}
	all := []map[string]any{}
	for _, token := range slices.Backward(c.tokens) {
		if token.Registry == r.RegistryID && token.ID != "" {
			all = append(all, map[string]any{
				"Id": token.ID, "Desc": token.Description, "RegistryId": token.Registry, "Enabled": token.Enabled,
				"CreatedAt": token.Created.UTC().Format(time.RFC3339Nano), "ExpiredAt": token.Expires.UnixMilli(),
			})
		}
	}
	limit := 20
	if r.Limit != nil {
		limit = *r.Limit
	}
	if limit < 0 || r.Offset < 0 {
		return nil, faultf("InvalidParameter.ErrorTcrInvalidParameter", "Limit and Offset must not be negative.")
	}
	from := min(r.Offset, len(all))
	to := min(from+min(limit, c.page), len(all))
	return map[string]any{"TotalCount": len(all), "Tokens": all[from:to]}, nil
}

// token returns the long-term one that a request names.
func (c *Cloud) token(r request) (int, *fault) {
	if _, wrong := c.registry(r, r.RegistryID); wrong != nil {
		return 0, wrong
	}
	at := slices.IndexFunc(c.tokens, func(token *Token) bool {
		return r.TokenID != "" && token.ID == r.TokenID && token.Registry == r.RegistryID
	})
	if at < 0 {
		return 0, faultf("ResourceNotFound.TcrResourceNotFound", "The token was not found.")
	}
	return at, nil
}

func (c *Cloud) modifyToken(r request) (map[string]any, *fault) {
	at, wrong := c.token(r)
	if wrong != nil {
		return nil, wrong
	}
	switch {
	case r.ModifyFlag != nil && *r.ModifyFlag == 1:
		c.tokens[at].Description = r.Desc
	case r.Enable == nil:
		return nil, faultf("MissingParameter", "The request is missing the required parameter `Enable`.")
	default:
		c.tokens[at].Enabled = *r.Enable
	}
	return map[string]any{}, nil
}

func (c *Cloud) deleteToken(r request) (map[string]any, *fault) {
	at, wrong := c.token(r)
	if wrong != nil {
		return nil, wrong
	}
	c.tokens = slices.Delete(c.tokens, at, at+1)
	return map[string]any{}, nil
}

func (c *Cloud) listRegistries(r request) (map[string]any, *fault) {
	found := []map[string]any{}
	for _, id := range r.RegistryIDs {
		one, wrong := c.registry(r, id)
		if wrong != nil && wrong.code == "ResourceNotFound.TcrResourceNotFound" {
			continue
		}
		if wrong != nil {
			return nil, wrong
		}
		found = append(found, map[string]any{"RegistryId": one.ID, "RegionName": one.Region, "Status": one.Status, "PublicDomain": one.Domain})
	}
	return map[string]any{"TotalCount": len(found), "Registries": found}, nil
}

func (c *Cloud) listLinks(r request) (map[string]any, *fault) {
	found, wrong := c.registry(r, r.RegistryID)
	if wrong != nil {
		return nil, wrong
	}
	if len(found.links) == 0 {
		return map[string]any{"AccessVpcSet": nil, "TotalCount": 0}, nil
	}
	links := []map[string]any{}
	for _, link := range found.links {
		links = append(links, map[string]any{"VpcId": link.VPC, "SubnetId": link.Subnet, "Status": link.Status, "AccessIp": link.Address})
	}
	return map[string]any{"AccessVpcSet": links, "TotalCount": len(links)}, nil
}

func (c *Cloud) dnsStatus(r request) (map[string]any, *fault) {
	statuses := []map[string]any{}
	for _, asked := range r.VPCSet {
		found, wrong := c.registry(r, asked.InstanceID)
		if wrong != nil {
			return nil, wrong
		}
		status := found.dns[asked.VPCID][asked.UsePublicDomain]
		if status == "" {
			status = "DISABLED"
		}
		statuses = append(statuses, map[string]any{"Region": asked.RegionName, "VpcId": asked.VPCID, "Status": status})
	}
	return map[string]any{"VpcSet": statuses}, nil
}

// webToken returns a token of the form of a JWT, which nobody can verify.
func webToken(claims map[string]any) string {
	header, _ := json.Marshal(map[string]any{"alg": "RS256", "typ": "JWT"})
	payload, _ := json.Marshal(claims)
	encode := base64.RawURLEncoding.EncodeToString
	return encode(header) + "." + encode(payload) + "." + encode([]byte(rand.Text()+rand.Text()+rand.Text()))
}
