package tencentcloud

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// assumeRole answers with a key to whoever has an identity that a role trusts.
func (c *Cloud) assumeRole(r request) (map[string]any, *fault) {
	assumed := c.roles[r.RoleArn]
	who, known := c.identities[r.WebIdentityToken]
	switch {
	case r.ProviderID == "" || r.WebIdentityToken == "" || r.RoleSessionName == "":
		return nil, faultf("MissingParameter", "The request is missing a required parameter.")
	case assumed == nil:
		return nil, faultf("ResourceNotFound.RoleNotFound", "The role does not exist.")
	case !known || who.provider != r.ProviderID || assumed.provider != r.ProviderID || who.arn != r.RoleArn || !c.now().Before(who.expires):
		return nil, faultf("InvalidParameter.WebIdentityTokenError", "The web identity token is wrong or has expired.")
	case r.DurationSeconds < 0 || r.DurationSeconds > 43200:
		return nil, faultf("InvalidParameter.OverTimeError", "The duration is over the limit.")
	}
	lifetime := time.Duration(r.DurationSeconds) * time.Second
	if lifetime == 0 {
		lifetime = 2 * time.Hour
	}
	made := c.temporaryKey(assumed.policy, lifetime)
	return map[string]any{
		"ExpiredTime": made.expires.Unix(), "Expiration": made.expires.UTC().Format(time.RFC3339),
		"Credentials": map[string]any{"Token": made.Token, "TmpSecretId": made.SecretID, "TmpSecretKey": made.SecretKey},
	}, nil
}

// credentialsPath is where the metadata service has the key of the machine's role.
const credentialsPath = "/latest/meta-data/cam/security-credentials/"

// answerMetadata answers one request to the metadata service.
func (c *Cloud) answerMetadata(w http.ResponseWriter, r *http.Request) {
	if failure := c.failing("metadata"); failure != nil && failure.instead(w, r) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	name, found := strings.CutPrefix(r.URL.Path, credentialsPath)
	bound := c.nodeRole
	call := Call{At: c.now(), Service: "metadata", Action: r.URL.Path}
	if !found || bound == nil || name != "" && name != bound.name {
		call.Code = "404"
		http.NotFound(w, r)
	} else if name == "" {
		_, _ = w.Write([]byte(bound.name))
	} else {
		if bound.current == nil || c.now().After(bound.current.expires.Add(-c.session/10)) {
			bound.current = c.temporaryKey(bound.policy, c.session)
		}
		key := bound.current
		data, _ := json.Marshal(map[string]any{
			"TmpSecretId": key.SecretID, "TmpSecretKey": key.SecretKey, "Token": key.Token, "Code": "Success",
			"ExpiredTime": key.expires.Unix(), "Expiration": key.expires.UTC().Format(time.RFC3339),
		})
		_, _ = w.Write(data)
	}
	c.calls = append(c.calls, call)
}
