package tencentcloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"
)

// oidcRole is the role that TKE lets a pod assume with the token that is projected into it.
type oidcRole struct {
	client *Client
	getenv func(string) string
}

func (o oidcRole) name() string { return "OIDC role" }

// The variables that TKE sets in a pod whose service account has a role.
const (
	envRegion   = "TKE_REGION"
	envProvider = "TKE_PROVIDER_ID"
	envIdentity = "TKE_WEB_IDENTITY_TOKEN_FILE"
	envRole     = "TKE_ROLE_ARN"
)

// session is the requested lifetime of a role's keys, in seconds.
const session = 7200

// maxIdentity is the maximum length of a projected token.
const maxIdentity = 64 << 10

func (o oidcRole) keys(ctx context.Context) (Keys, error) {
	values := map[string]string{}
	for _, name := range []string{envRegion, envProvider, envIdentity, envRole} {
		values[name] = strings.TrimSpace(o.getenv(name))
	}
	if lacks := missing(values, envRegion, envProvider, envIdentity, envRole); lacks != "" {
		return Keys{}, absence{lacks}
	}
	// The token is read each time: the kubelet replaces it.
	identity, err := readIdentity(values[envIdentity])
	if err != nil {
		return Keys{}, err
	}
	var granted struct {
		ExpiredTime int64
		Credentials struct{ Token, TmpSecretID, TmpSecretKey string }
	}
	err = o.client.send(ctx, call{
		service: "sts", version: "2018-08-13", action: "AssumeRoleWithWebIdentity", region: values[envRegion],
		parameters: map[string]any{
			"ProviderId": values[envProvider], "WebIdentityToken": identity, "RoleArn": values[envRole],
			"RoleSessionName": "tcr-assistant", "DurationSeconds": session,
		},
		resource: values[envRole],
	}, &granted)
	var failure *Error
	if errors.As(err, &failure) && failure.Reason == CredentialRejected {
		failure.advice = fmt.Sprintf("role %s does not trust this pod's identity: compare its provider and service account with the role's",
			values[envRole])
	}
	if err != nil {
		return Keys{}, err
	}
	held := granted.Credentials
	return o.client.temporary(held.TmpSecretID, held.TmpSecretKey, held.Token, granted.ExpiredTime)
}

func readIdentity(path string) (string, error) {
	file, err := os.Open(path)
	if err == nil {
		defer file.Close()
		var text []byte
		text, err = io.ReadAll(io.LimitReader(file, maxIdentity))
		if token := strings.TrimSpace(string(text)); err == nil && token != "" {
			return token, nil
		}
	}
	why := "is empty"
	var known *fs.PathError
	if errors.As(err, &known) {
		why = known.Err.Error()
	}
	return "", &Error{Reason: CredentialRejected, advice: fmt.Sprintf("file %s of %s: %s", path, envIdentity, why)}
}

// temporary returns keys that expire, once it has checked them.
func (c *Client) temporary(secretID, secretKey, token string, expires int64) (Keys, error) {
	keys := Keys{SecretID: secretID, SecretKey: secretKey, Token: token, Expires: time.Unix(expires, 0)}
	if secretID == "" || secretKey == "" || token == "" || !keys.Expires.After(c.now()) {
		return Keys{}, &Error{Reason: BadAnswer,
			advice: "the answer lacks a part of the keys, or they have expired: check this machine's clock"}
	}
	return keys, nil
}

// nodeRole is the CAM role of the machine that the manager runs on.
type nodeRole struct{ client *Client }

func (n nodeRole) name() string { return "node's role" }

const (
	credentialsPath = "/latest/meta-data/cam/security-credentials/"
	// metadataTimeout is short: the service is on the same machine, or there is none.
	metadataTimeout = 3 * time.Second
)

var roleForm = regexp.MustCompile(`^[A-Za-z0-9+=,.@_-]{1,128}$`)

func (n nodeRole) keys(ctx context.Context) (Keys, error) {
	text, err := n.get(ctx, "")
	if err != nil {
		return Keys{}, err
	}
	role := strings.TrimSpace(string(text))
	if !roleForm.MatchString(role) {
		return Keys{}, &Error{Reason: BadAnswer,
			advice: "the metadata service answers with something other than a role's name: check --tencentcloud-metadata-endpoint"}
	}
	text, err = n.get(ctx, role)
	if err != nil {
		return Keys{}, err
	}
	var granted struct {
		TmpSecretID, TmpSecretKey, Token, Code string
		ExpiredTime                            int64
	}
	if json.Unmarshal(text, &granted) != nil || granted.Code != "Success" {
		return Keys{}, &Error{Reason: BadAnswer,
			advice: fmt.Sprintf("the metadata service has no keys for role %s: check whether the role still exists", role)}
	}
	return n.client.temporary(granted.TmpSecretID, granted.TmpSecretKey, granted.Token, granted.ExpiredTime)
}

// get asks the metadata service. On a machine that is not of the cloud there is none, and so no role.
func (n nodeRole) get(ctx context.Context, role string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, n.client.metadata+credentialsPath+role, nil)
	if err != nil {
		return nil, absence{"the address of the metadata service is invalid"}
	}
	answer, err := n.client.local.RoundTrip(request)
	if err != nil {
		return nil, absence{"the metadata service does not answer"}
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxIdentity))
	switch {
	case answer.StatusCode == http.StatusNotFound:
		return nil, absence{"no role is bound to the node"}
	case answer.StatusCode != http.StatusOK:
		return nil, &Error{Reason: Internal, advice: fmt.Sprintf("the metadata service answers with status %d", answer.StatusCode)}
	case err != nil:
		return nil, &Error{Reason: BadAnswer, advice: "the metadata service's answer is truncated"}
	}
	return text, nil
}
