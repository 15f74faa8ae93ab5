package tencentcloud_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common"
	sdkhttp "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/http"
	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/profile"

	"github.com/tcr-assistant/tcr-assistant/test/harness/tencentcloud"
)

const (
	region  = "ap-guangzhou"
	demo    = "tcr-demo0001"
	account = "qcs::tcr:ap-guangzhou:uin/" + tencentcloud.Account
)

// world is a cloud with one registry and a key that may do everything.
func world(t *testing.T) (*tencentcloud.Cloud, tencentcloud.Key) {
	t.Helper()
	cloud, err := tencentcloud.Start(tencentcloud.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, cloud.Close()) })
	cloud.AddRegistry(tencentcloud.Registry{ID: demo, Region: region, Domain: "demo.tencentcloudcr.com"})
	return cloud, cloud.AddKey(tencentcloud.Everything)
}

// tampering changes requests on their way.
type tampering struct {
	http.RoundTripper
	change func(*http.Request)
}

func (t tampering) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.change != nil {
		t.change(r)
	}
	return t.RoundTripper.RoundTrip(r)
}

func transport(t *testing.T, cloud *tencentcloud.Cloud) *http.Transport {
	trusted := x509.NewCertPool()
	require.True(t, trusted.AppendCertsFromPEM(cloud.Authority()))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// ask asks the cloud by means of Tencent's own SDK.
func ask(t *testing.T, cloud *tencentcloud.Cloud, key tencentcloud.Key, action string, parameters map[string]any,
	change func(*http.Request),
) (response map[string]any, err error) {
	t.Helper()
	settings := profile.NewClientProfile()
	settings.HttpProfile.Endpoint = strings.TrimPrefix(cloud.URL(), "https://")
	client := common.NewCommonClient(common.NewTokenCredential(key.SecretID, key.SecretKey, key.Token), region, settings)
	client.WithHttpTransport(tampering{transport(t, cloud), change})
	asked := sdkhttp.NewCommonRequest("tcr", "2019-09-24", action)
	require.NoError(t, asked.SetActionParameters(parameters))
	answer := sdkhttp.NewCommonResponse()
	if err := client.Send(asked, answer); err != nil {
		return nil, err
	}
	var envelope struct{ Response map[string]any }
	require.NoError(t, json.Unmarshal(answer.GetBody(), &envelope))
	return envelope.Response, nil
}

func create(kind string) map[string]any {
	return map[string]any{"RegistryId": demo, "TokenType": kind, "Desc": "a test"}
}

// TestSignatures holds the cloud's reading of signatures against that of the SDK.
func TestSignatures(t *testing.T) {
	t.Parallel()
	cloud, key := world(t)
	body := func(text string) func(*http.Request) {
		return func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		}
	}
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for _, test := range []struct {
		name   string
		key    tencentcloud.Key
		change func(*http.Request)
		code   string
	}{
		{"the SDK's signature is taken", key, nil, ""},
		{"a changed body is refused", key, body(`{"RegistryId":"tcr-demo0001","TokenType":"longterm"}`), "AuthFailure.SignatureFailure"},
		{"a changed host is refused", key, func(r *http.Request) { r.Host = "tcr.tencentcloudapi.com" }, "AuthFailure.SignatureFailure"},
		{"another timestamp is refused", key, header("X-TC-Timestamp", strconv.FormatInt(time.Now().Unix()-2, 10)),
			"AuthFailure.SignatureFailure"},
		{"a query is refused", key, func(r *http.Request) { r.URL.RawQuery = "a=b" }, "AuthFailure.SignatureFailure"},
		{"another secret key is refused", tencentcloud.Key{SecretID: key.SecretID, SecretKey: "another"}, nil, "AuthFailure.SignatureFailure"},
		{"an unknown key is refused", tencentcloud.Key{SecretID: "AKIDunknown", SecretKey: key.SecretKey}, nil, "AuthFailure.SecretIdNotFound"},
		{"a token that the key has not is refused", tencentcloud.Key{SecretID: key.SecretID, SecretKey: key.SecretKey, Token: "x"}, nil,
			"AuthFailure.TokenFailure"},
		{"no signature is refused", key, header("Authorization", "SKIP"), "AuthFailure.InvalidAuthorization"},
		{"half a signature is refused", key, header("Authorization", "TC3-HMAC-SHA256 Credential=a/b/tcr/tc3_request"),
			"AuthFailure.InvalidAuthorization"},
		{"another version is refused", key, header("X-TC-Version", "2019-01-01"), "NoSuchVersion"},
		{"an unknown action is refused", key, header("X-TC-Action", "Nothing"), "InvalidAction"},
		{"the key of another account is refused", cloud.AddForeignKey(), nil, "UnauthorizedOperation"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ask(t, cloud, test.key, "CreateInstanceToken", create("temp"), test.change)
			if test.code == "" {
				require.NoError(t, err)
				return
			}
			assert.ErrorContains(t, err, "Code="+test.code+",")
		})
	}
}

func TestClocks(t *testing.T) {
	t.Parallel()
	cloud, key := world(t)
	for _, test := range []struct {
		name string
		off  time.Duration
		code string
	}{
		{"four minutes behind", -4 * time.Minute, ""},
		{"four minutes ahead", 4 * time.Minute, ""},
		{"six minutes behind", -6 * time.Minute, "AuthFailure.SignatureExpire"},
		{"six minutes ahead", 6 * time.Minute, "AuthFailure.SignatureExpire"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cloud.SetClock(func() time.Time { return time.Now().Add(test.off) })
			_, err := ask(t, cloud, key, "DescribeInstanceToken", map[string]any{"RegistryId": demo}, nil)
			if test.code == "" {
				require.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, test.code)
			}
		})
	}
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	cloud, _ := world(t)
	cloud.AddRegistry(tencentcloud.Registry{ID: "tcr-other001", Region: region})
	allow := func(action, resource string) tencentcloud.Statement {
		return tencentcloud.Statement{Actions: []string{action}, Resources: []string{resource}}
	}
	deny := allow("tcr:*", "*")
	deny.Deny = true
	for _, test := range []struct {
		name   string
		policy []tencentcloud.Statement
		want   bool
	}{
		{"nothing is allowed by itself", nil, false},
		{"an action on a registry", []tencentcloud.Statement{allow("tcr:DescribeInstanceToken", account+":instance/"+demo)}, true},
		{"an action on another registry", []tencentcloud.Statement{allow("tcr:DescribeInstanceToken", account+":instance/tcr-other001")}, false},
		{"another action", []tencentcloud.Statement{allow("tcr:CreateInstanceToken", account+":instance/"+demo)}, false},
		{"any action on any registry", []tencentcloud.Statement{allow("tcr:*", account+":instance/*")}, true},
		{"what is denied is denied", []tencentcloud.Statement{tencentcloud.Everything, deny}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ask(t, cloud, cloud.AddKey(test.policy...), "DescribeInstanceToken", map[string]any{"RegistryId": demo}, nil)
			if test.want {
				require.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, "perform operation (tcr:DescribeInstanceToken)\nresource ("+account+":instance/"+demo+")")
			}
		})
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	cloud, key := world(t)
	cloud.AddRegistry(tencentcloud.Registry{ID: demo, Region: region, Quota: 3})
	made, err := ask(t, cloud, key, "CreateInstanceToken", create("longterm"), nil)
	require.NoError(t, err)
	username, password, id := made["Username"].(string), made["Token"].(string), made["TokenId"].(string)
	require.True(t, cloud.Check(username, password))
	assert.False(t, cloud.Check(username, password+"x"))
	assert.False(t, cloud.Check("somebody", password))

	modify := func(enable bool) map[string]any {
		return map[string]any{"RegistryId": demo, "TokenId": id, "Enable": enable, "ModifyFlag": 2}
	}
	_, err = ask(t, cloud, key, "ModifyInstanceToken", modify(false), nil)
	require.NoError(t, err)
	assert.False(t, cloud.Check(username, password), "a disabled one lets nobody in")
	_, err = ask(t, cloud, key, "ModifyInstanceToken", modify(true), nil)
	require.NoError(t, err)
	assert.True(t, cloud.Check(username, password), "it can be enabled again")

	temporary, err := ask(t, cloud, key, "CreateInstanceToken", create("temp"), nil)
	require.NoError(t, err)
	assert.Nil(t, temporary["TokenId"])
	assert.True(t, cloud.Check(temporary["Username"].(string), temporary["Token"].(string)))

	cloud.SetPage(2)
	for range 2 {
		_, err := ask(t, cloud, key, "CreateInstanceToken", create("longterm"), nil)
		require.NoError(t, err)
	}
	_, err = ask(t, cloud, key, "CreateInstanceToken", create("longterm"), nil)
	assert.ErrorContains(t, err, "InternalError.ErrorOverLimit", "the temporary one does not count")
	page, err := ask(t, cloud, key, "DescribeInstanceToken", map[string]any{"RegistryId": demo, "Limit": 100}, nil)
	require.NoError(t, err)
	assert.Len(t, page["Tokens"], 2)
	assert.EqualValues(t, 3, page["TotalCount"])
	page, err = ask(t, cloud, key, "DescribeInstanceToken", map[string]any{"RegistryId": demo, "Offset": 2}, nil)
	require.NoError(t, err)
	assert.Equal(t, id, page["Tokens"].([]any)[0].(map[string]any)["Id"], "the oldest is the last")

	_, err = ask(t, cloud, key, "DeleteInstanceToken", map[string]any{"RegistryId": demo, "TokenId": id}, nil)
	require.NoError(t, err)
	assert.False(t, cloud.Check(username, password))
	_, err = ask(t, cloud, key, "DeleteInstanceToken", map[string]any{"RegistryId": demo, "TokenId": id}, nil)
	assert.ErrorContains(t, err, "ResourceNotFound.TcrResourceNotFound")

	cloud.SetClock(func() time.Time { return time.Now().Add(time.Hour) })
	assert.False(t, cloud.Check(temporary["Username"].(string), temporary["Token"].(string)), "an hour is its life")
}

func TestRates(t *testing.T) {
	t.Parallel()
	cloud, key := world(t)
	at := time.Now()
	cloud.SetClock(func() time.Time { return at })
	cloud.SetRate("DescribeInstanceToken", 2)
	list := func() error {
		_, err := ask(t, cloud, key, "DescribeInstanceToken", map[string]any{"RegistryId": demo}, nil)
		return err
	}
	require.NoError(t, list())
	require.NoError(t, list())
	require.ErrorContains(t, list(), "RequestLimitExceeded")
	at = at.Add(time.Second)
	require.NoError(t, list())
	assert.Equal(t, 3, cloud.Count("DescribeInstanceToken"))
	assert.Equal(t, "RequestLimitExceeded", cloud.Calls()[2].Code)
}

func TestFailures(t *testing.T) {
	t.Parallel()
	cloud, key := world(t)
	failing := func(failure tencentcloud.Failure) error {
		cloud.Fail("CreateInstanceToken", 1, failure)
		_, err := ask(t, cloud, key, "CreateInstanceToken", create("longterm"), nil)
		return err
	}
	assert.ErrorContains(t, failing(tencentcloud.Failure{Code: "InternalError.DbError", Message: "x"}), "InternalError.DbError")
	assert.ErrorContains(t, failing(tencentcloud.Failure{Status: 403, Echo: true}), "Signature=", "the SDK prints what a proxy echoes")
	assert.Error(t, failing(tencentcloud.Failure{Status: 500, Body: "oops"}))
	assert.Error(t, failing(tencentcloud.Failure{Refused: true}))
	assert.Empty(t, cloud.Tokens(demo))
	assert.Error(t, failing(tencentcloud.Failure{Lost: true}))
	assert.Len(t, cloud.Tokens(demo), 1, "it was made, and nobody heard of it")
	assert.Error(t, failing(tencentcloud.Failure{Cut: true}))
	assert.Len(t, cloud.Tokens(demo), 2)
	start := time.Now()
	assert.NoError(t, failing(tencentcloud.Failure{Late: 300 * time.Millisecond}))
	assert.GreaterOrEqual(t, time.Since(start), 300*time.Millisecond)
	cloud.Fail("*", 0, tencentcloud.Failure{Code: "InternalError"})
	for range 3 {
		_, err := ask(t, cloud, key, "CreateInstanceToken", create("longterm"), nil)
		assert.Error(t, err)
	}
	cloud.Recover()
	_, err := ask(t, cloud, key, "CreateInstanceToken", create("longterm"), nil)
	assert.NoError(t, err)
}

// TestTemporaryKeysExpire asks with one of the machine's role after its time.
func TestTemporaryKeysExpire(t *testing.T) {
	t.Parallel()
	cloud, _ := world(t)
	cloud.SetSession(200 * time.Millisecond)
	cloud.BindNodeRole("worker", tencentcloud.Everything)
	answer, err := http.Get(cloud.MetadataURL() + "/latest/meta-data/cam/security-credentials/worker")
	require.NoError(t, err)
	defer answer.Body.Close()
	var held struct{ TmpSecretID, TmpSecretKey, Token string }
	require.NoError(t, json.NewDecoder(answer.Body).Decode(&held))
	key := tencentcloud.Key{SecretID: held.TmpSecretID, SecretKey: held.TmpSecretKey, Token: held.Token}
	require.Eventually(t, func() bool {
		_, err := ask(t, cloud, key, "DescribeInstanceToken", map[string]any{"RegistryId": demo}, nil)
		return err != nil && strings.Contains(err.Error(), "AuthFailure.TokenFailure")
	}, 10*time.Second, 100*time.Millisecond)
}

func TestRolesAndMetadata(t *testing.T) {
	t.Parallel()
	cloud, _ := world(t)
	const arn = "qcs::cam::uin/" + tencentcloud.Account + ":roleName/assistant"
	cloud.AddRole(arn, "cls-abc", tencentcloud.Everything)
	token := cloud.AddIdentity("cls-abc", arn, time.Hour)
	assume := func(token string) (map[string]any, int) {
		body, err := json.Marshal(map[string]any{
			"ProviderId": "cls-abc", "WebIdentityToken": token, "RoleArn": arn, "RoleSessionName": "test", "DurationSeconds": 7200,
		})
		require.NoError(t, err)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, cloud.URL(), bytes.NewReader(body))
		require.NoError(t, err)
		for name, value := range map[string]string{
			"Content-Type": "application/json", "X-TC-Action": "AssumeRoleWithWebIdentity", "X-TC-Version": "2018-08-13",
			"X-TC-Region": region, "Authorization": "SKIP",
		} {
			r.Header.Set(name, value)
		}
		answer, err := transport(t, cloud).RoundTrip(r)
		require.NoError(t, err)
		defer answer.Body.Close()
		var envelope struct{ Response map[string]any }
		require.NoError(t, json.NewDecoder(answer.Body).Decode(&envelope))
		return envelope.Response, answer.StatusCode
	}
	refused, status := assume(token + "x")
	assert.Equal(t, http.StatusOK, status, "errors are answers, too")
	assert.Equal(t, "InvalidParameter.WebIdentityTokenError", refused["Error"].(map[string]any)["Code"])
	granted, _ := assume(token)
	held := granted["Credentials"].(map[string]any)
	key := tencentcloud.Key{SecretID: held["TmpSecretId"].(string), SecretKey: held["TmpSecretKey"].(string), Token: held["Token"].(string)}
	_, err := ask(t, cloud, key, "CreateInstanceToken", create("temp"), nil)
	require.NoError(t, err)
	_, err = ask(t, cloud, tencentcloud.Key{SecretID: key.SecretID, SecretKey: key.SecretKey}, "CreateInstanceToken", create("temp"), nil)
	require.ErrorContains(t, err, "AuthFailure.TokenFailure", "the key is nothing without its token")

	get := func(path string) (string, int) {
		answer, err := http.Get(cloud.MetadataURL() + "/latest/meta-data/cam/security-credentials/" + path)
		require.NoError(t, err)
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return string(body), answer.StatusCode
	}
	_, status = get("")
	assert.Equal(t, http.StatusNotFound, status, "no role is bound")
	cloud.BindNodeRole("worker", tencentcloud.Everything)
	name, _ := get("")
	assert.Equal(t, "worker", name)
	first, _ := get(name)
	second, _ := get(name)
	assert.Equal(t, first, second, "it is the same until it is about to expire")
	assert.Contains(t, first, `"Code":"Success"`)
}
