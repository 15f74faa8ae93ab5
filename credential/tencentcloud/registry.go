package tencentcloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const version = "2019-09-24"

// Registry is a registry instance, as seen by a Caller.
type Registry struct {
	client     *Client
	caller     *Caller
	region, id string
}

// Registry returns the registry instance id of a region; caller makes its calls.
func (c *Client) Registry(caller *Caller, region, id string) *Registry {
	return &Registry{client: c, caller: caller, region: region, id: id}
}

// Token is a registry credential. ID is blank for a temporary one.
type Token struct {
	ID, Username, Password string
	Expires                time.Time
}

// String returns the token without its secrets.
func (t Token) String() string {
	return fmt.Sprintf("token %q, good until %s", t.ID, t.Expires.UTC().Format(time.RFC3339))
}

// GoString is String.
func (t Token) GoString() string { return t.String() }

// MarshalText is String: nothing prints a password by mistake.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// Listed is what the API says of a long-term token.
type Listed struct {
	ID, Description  string
	Enabled          bool
	Created, Expires time.Time
}

// call calls an action on the registry. Rejected keys are not used again.
func (r *Registry) call(ctx context.Context, action string, parameters map[string]any, response any) error {
	keys, err := r.caller.Keys(ctx)
	if err != nil {
		return err
	}
	err = r.client.send(ctx, call{
		service: "tcr", version: version, action: action, region: r.region, keys: &keys, parameters: parameters,
		resource: fmt.Sprintf("qcs::tcr:%s::instance/%s", r.region, r.id),
	}, response)
	var failure *Error
	if errors.As(err, &failure) && failure.Reason == CredentialRejected {
		r.caller.forget(keys)
		failure.advice = fmt.Sprintf("the key of the %s is wrong, disabled or expired: replace it", keys.Source)
	}
	return err
}

// CreateLongTermToken creates a token that can be listed and revoked.
func (r *Registry) CreateLongTermToken(ctx context.Context, description string) (Token, error) {
	return r.createToken(ctx, map[string]any{"RegistryId": r.id, "TokenType": "longterm", "Desc": description})
}

// CreateTemporaryToken creates a token that is valid for an hour and cannot be revoked.
func (r *Registry) CreateTemporaryToken(ctx context.Context) (Token, error) {
	return r.createToken(ctx, map[string]any{"RegistryId": r.id, "TokenType": "temp"})
}

// maxToken is the maximum length of a token: a Secret holds it for every domain, in two forms, and a record Secret holds those of many
// objects.
const maxToken = 16 << 10

func (r *Registry) createToken(ctx context.Context, parameters map[string]any) (Token, error) {
	const action = "CreateInstanceToken"
	var made struct {
		Username       text
		Token, TokenID string
		ExpTime        text
	}
	if err := r.call(ctx, action, parameters, &made); err != nil {
		return Token{}, err
	}
	token := Token{ID: made.TokenID, Username: string(made.Username), Password: made.Token, Expires: instant(string(made.ExpTime))}
	longTerm := parameters["TokenType"] == "longterm"
	if token.Username == "" || strings.Contains(token.Username, ":") || token.Password == "" || token.Expires.IsZero() ||
		longTerm && token.ID == "" {
		return Token{}, r.bad(action, "the answer lacks a part of the token")
	}
	if len(token.Username)+len(token.Password)+len(token.ID) > maxToken {
		return Token{}, r.bad(action, fmt.Sprintf("the token is longer than %d bytes", maxToken))
	}
	return token, nil
}

// Limits of listing: tokens per page, pages per attempt, and attempts.
const (
	pageSize    = 100
	maxPages    = 200
	maxListings = 3
)

// Tokens returns every long-term token of the registry.
func (r *Registry) Tokens(ctx context.Context) ([]Listed, error) {
	for range maxListings {
		tokens, whole, err := r.listTokens(ctx)
		if err != nil || whole {
			return tokens, err
		}
	}
	return nil, r.bad("DescribeInstanceToken", "the list of tokens changes faster than it is read: it is tried again")
}

// listTokens reads page by page; each page begins with the last token of the one before. whole is false if the list changed meanwhile, so
// that a token may be missing.
func (r *Registry) listTokens(ctx context.Context) (tokens []Listed, whole bool, err error) {
	seen := map[string]bool{}
	total, overlap := -1, ""
	for range maxPages {
		offset := len(tokens)
		if overlap != "" {
			offset--
		}
		listed, count, err := r.page(ctx, offset)
		switch {
		case err != nil:
			return nil, false, err
		case total >= 0 && count != total, overlap != "" && (len(listed) == 0 || listed[0].ID != overlap):
			return nil, false, nil
		}
		total = count
		before := len(tokens)
		for _, token := range listed {
			if !seen[token.ID] {
				seen[token.ID] = true
				tokens = append(tokens, token)
			}
		}
		if len(tokens) >= total || len(tokens) == before {
			return tokens, len(tokens) == total, nil
		}
		overlap = ""
		if len(listed) > 1 { // a page of one would bring nothing new
			overlap = listed[len(listed)-1].ID
		}
	}
	return nil, false, nil
}

// page returns the tokens from an offset, and how many there are.
func (r *Registry) page(ctx context.Context, offset int) (tokens []Listed, total int, err error) {
	const action = "DescribeInstanceToken"
	var page struct {
		TotalCount *int
		Tokens     []struct {
			ID, Desc, RegistryID string
			Enabled              bool
			CreatedAt            string
			ExpiredAt            text
		}
	}
	if err := r.call(ctx, action, map[string]any{"RegistryId": r.id, "Limit": pageSize, "Offset": offset}, &page); err != nil {
		return nil, 0, err
	}
	if page.TotalCount == nil { // else an empty answer would mean that there are no tokens
		return nil, 0, r.bad(action, "the answer does not say how many tokens there are")
	}
	for _, token := range page.Tokens {
		switch {
		case token.RegistryID != r.id:
			return nil, 0, r.another(action)
		case token.ID == "":
			return nil, 0, r.bad(action, "a token without an id is listed")
		}
		tokens = append(tokens, Listed{
			ID: token.ID, Description: token.Desc, Enabled: token.Enabled,
			Created: date(token.CreatedAt), Expires: instant(string(token.ExpiredAt)),
		})
	}
	return tokens, *page.TotalCount, nil
}

// DisableToken disables a token, so that nobody can log in with it.
func (r *Registry) DisableToken(ctx context.Context, id string) error {
	return r.call(ctx, "ModifyInstanceToken", map[string]any{"RegistryId": r.id, "TokenId": id, "Enable": false, "ModifyFlag": 2}, &struct{}{})
}

// DeleteToken deletes a token.
func (r *Registry) DeleteToken(ctx context.Context, id string) error {
	return r.call(ctx, "DeleteInstanceToken", map[string]any{"RegistryId": r.id, "TokenId": id}, &struct{}{})
}

// domainForm matches a default domain. Its first label leaves room for the suffix -vpc.
var domainForm = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,57}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)+$`)

const maxDomain = 249

// Domain returns the registry's default domain, in lower case.
func (r *Registry) Domain(ctx context.Context) (string, error) {
	const action = "DescribeInstances"
	var found struct {
		Registries []struct {
			RegistryID, PublicDomain string
		}
	}
	if err := r.call(ctx, action, map[string]any{"Registryids": []string{r.id}}, &found); err != nil {
		return "", err
	}
	for _, one := range found.Registries {
		if one.RegistryID != r.id {
			continue
		}
		domain := strings.ToLower(one.PublicDomain)
		if len(domain) > maxDomain || !domainForm.MatchString(domain) {
			return "", r.bad(action, fmt.Sprintf("the registry instance %q has no domain, or an invalid one: "+
				"wait until it is created", r.id))
		}
		return domain, nil
	}
	if len(found.Registries) > 0 {
		return "", r.another(action)
	}
	return "", &Error{Reason: InstanceNotFound, Action: "tcr:" + action, Region: r.region,
		advice: adviceOf(InstanceNotFound, call{region: r.region, parameters: map[string]any{"RegistryId": r.id}})}
}

// another returns the error for an answer about another registry.
func (r *Registry) another(action string) error {
	return r.bad(action, fmt.Sprintf("the answer is about another registry instance than %q: check what is in between, such as a proxy", r.id))
}

// bad returns the error for an answer that is not as documented.
func (r *Registry) bad(action, advice string) error {
	return &Error{Reason: BadAnswer, Action: "tcr:" + action, Region: r.region, advice: advice}
}

// Link is a link from a private network to the registry.
type Link struct {
	VPC, Subnet string
	// Status is as the API spells it, such as Running.
	Status string
	// Address is as the API returned it; blank if there is none yet.
	Address string
}

// Links returns the links from private networks to the registry.
func (r *Registry) Links(ctx context.Context) ([]Link, error) {
	const action = "DescribeInternalEndpoints"
	var found struct {
		TotalCount   *int
		AccessVpcSet []struct {
			VpcID, SubnetID, Status, AccessIP string
		}
	}
	if err := r.call(ctx, action, map[string]any{"RegistryId": r.id}, &found); err != nil {
		return nil, err
	}
	// Else an empty answer would mean that there are no links.
	if len(found.AccessVpcSet) == 0 && (found.TotalCount == nil || *found.TotalCount != 0) {
		return nil, r.bad(action, "the answer does not say which links there are")
	}
	links := make([]Link, 0, len(found.AccessVpcSet))
	for _, one := range found.AccessVpcSet {
		links = append(links, Link{VPC: one.VpcID, Subnet: one.SubnetID, Status: one.Status, Address: one.AccessIP})
	}
	return links, nil
}

// ResolvedName is the state of a domain in the cloud's DNS in a private network.
type ResolvedName struct {
	VPC string
	// Status is as the API spells it: ENABLED or ENABLE, DISABLED or DISABLE, ERROR.
	Status string
}

// NameStatus asks whether the cloud's own DNS resolves the default domain, or else the -vpc domain, to a link.
func (r *Registry) NameStatus(ctx context.Context, link Link, defaultDomain bool) ([]ResolvedName, error) {
	const action = "DescribeInternalEndpointDnsStatus"
	var found struct {
		VpcSet []struct{ VpcID, Status string }
	}
	err := r.call(ctx, action, map[string]any{"VpcSet": []map[string]any{{
		"InstanceId": r.id, "VpcId": link.VPC, "EniLBIp": link.Address, "UsePublicDomain": defaultDomain, "RegionName": r.region,
	}}}, &found)
	if err != nil {
		return nil, err
	}
	if len(found.VpcSet) == 0 {
		return nil, r.bad(action, "the answer does not say whether the cloud's DNS resolves the domain")
	}
	names := make([]ResolvedName, 0, len(found.VpcSet))
	for _, one := range found.VpcSet {
		names = append(names, ResolvedName{VPC: one.VpcID, Status: one.Status})
	}
	return names, nil
}

// text is a JSON string or number: the API's documentation has both for the same field.
type text string

// UnmarshalJSON reads null as blank.
func (t *text) UnmarshalJSON(data []byte) error {
	var number json.Number
	if string(data) == "null" {
		*t = ""
		return nil
	}
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, (*string)(t))
	}
	if err := json.Unmarshal(data, &number); err != nil {
		return err
	}
	*t = text(number.String())
	return nil
}

// end is the last time that can be written in JSON, at the end of the year 9999.
var end = time.Date(9999, time.December, 31, 0, 0, 0, 0, time.UTC)

// instant reads a time in milliseconds since 1970, or in seconds if it would otherwise be before March 1973; zero if it is neither. A time
// too far off is read as end.
func instant(number string) time.Time {
	value, err := strconv.ParseInt(number, 10, 64)
	switch {
	case err != nil || value <= 0:
		return time.Time{}
	case value < 1e11:
		return time.Unix(value, 0)
	case value > end.UnixMilli():
		return end
	default:
		return time.UnixMilli(value)
	}
}

// date reads a time in one of the forms that the API writes; zero if it is in none of them.
func date(text string) time.Time {
	for _, form := range []string{time.RFC3339Nano, "2006-01-02 15:04:05 -0700 MST", time.DateTime} {
		if at, err := time.Parse(form, text); err == nil && at.UTC().Before(end) && at.UTC().Year() > 0 {
			return at.UTC()
		}
	}
	return time.Time{}
}
