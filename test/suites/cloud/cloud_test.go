// Package cloud tests how the cloud's API is called, against one that is as strict.
package cloud

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/credential/tencentcloud"
	standin "github.com/tcr-assistant/tcr-assistant/test/harness/tencentcloud"
)

const (
	region = "ap-guangzhou"
	demo   = "tcr-demo0001"
)

// world is a cloud with a registry, and a client of it.
type world struct {
	*standin.Cloud
	t      *testing.T
	key    standin.Key
	client *tencentcloud.Client
	caFile string
}

func start(t *testing.T, adjust ...func(*tencentcloud.Options)) *world {
	t.Helper()
	cloud, err := standin.Start(standin.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, cloud.Close()) })
	cloud.AddRegistry(standin.Registry{ID: demo, Region: region, Domain: "demo.tencentcloudcr.com"})
	w := &world{Cloud: cloud, t: t, key: cloud.AddKey(standin.Everything), caFile: filepath.Join(t.TempDir(), "ca.crt")}
	require.NoError(t, os.WriteFile(w.caFile, cloud.Authority(), 0o600))
	options := tencentcloud.Options{
		Endpoint: cloud.URL(), MetadataEndpoint: cloud.MetadataURL(), CAFile: w.caFile, Timeout: 5 * time.Second, PerSecond: 10000,
	}
	for _, change := range adjust {
		change(&options)
	}
	w.client, err = tencentcloud.New(options)
	require.NoError(t, err)
	return w
}

// registry returns the registry as the owner of the key sees it.
func (w *world) registry() *tencentcloud.Registry {
	return w.client.Registry(w.client.GivenCaller(w.key.SecretID, w.key.SecretKey, "Secret tcr-assistant-system/cam"), region, demo)
}

// failure returns an error of the API, which has to be one, and to keep secrets.
func (w *world) failure(err error) *tencentcloud.Error {
	w.t.Helper()
	require.Error(w.t, err)
	var failure *tencentcloud.Error
	require.ErrorAs(w.t, err, &failure)
	w.keepsSecrets(err)
	return failure
}

// keepsSecrets looks for everything secret that the cloud knows in every form in which a value may be printed.
func (w *world) keepsSecrets(values ...any) {
	w.t.Helper()
	var printed bytes.Buffer
	for _, value := range values {
		fmt.Fprintf(&printed, "%v\n%+v\n%#v\n", value, value, value)
		slog.New(slog.NewJSONHandler(&printed, nil)).Error("x", "value", value)
		slog.New(slog.NewTextHandler(&printed, nil)).Error("x", "value", value)
		for err, is := value.(error); is && err != nil; err = errors.Unwrap(err) {
			fmt.Fprintf(&printed, "%+v\n", err)
		}
	}
	secrets := []string{w.key.SecretKey, w.key.SecretID, "Signature=", "eyJ", "a body of somebody's"}
	for _, token := range w.Tokens(demo) {
		secrets = append(secrets, token.Password)
	}
	for _, secret := range secrets {
		assert.NotContains(w.t, printed.String(), secret)
	}
}

func TestTokensLiveAndDie(t *testing.T) {
	t.Parallel()
	w := start(t)
	registry, ctx := w.registry(), t.Context()
	token, err := registry.CreateLongTermToken(ctx, "somebody's")
	require.NoError(t, err)
	assert.True(t, w.Check(token.Username, token.Password))
	assert.WithinDuration(t, time.Now().AddDate(10, 0, 0), token.Expires, 5*24*time.Hour)
	w.keepsSecrets(token, &token)

	temporary, err := registry.CreateTemporaryToken(ctx)
	require.NoError(t, err)
	assert.Empty(t, temporary.ID)
	assert.WithinDuration(t, time.Now().Add(time.Hour), temporary.Expires, time.Minute)
	assert.True(t, w.Check(temporary.Username, temporary.Password))

	listed, err := registry.Tokens(ctx)
	require.NoError(t, err)
	require.Len(t, listed, 1, "temporary ones are not listed")
	assert.Equal(t, tencentcloud.Listed{
		ID: token.ID, Description: "somebody's", Enabled: true, Created: listed[0].Created, Expires: listed[0].Expires,
	}, listed[0])
	assert.WithinDuration(t, time.Now(), listed[0].Created, time.Minute)
	assert.True(t, listed[0].Expires.Equal(token.Expires))

	require.NoError(t, registry.DisableToken(ctx, token.ID))
	assert.False(t, w.Check(token.Username, token.Password))
	listed, err = registry.Tokens(ctx)
	require.NoError(t, err)
	assert.False(t, listed[0].Enabled)
	require.NoError(t, registry.DeleteToken(ctx, token.ID))
	assert.Equal(t, tencentcloud.TokenNotFound, w.failure(registry.DeleteToken(ctx, token.ID)).Reason)
}

func TestEveryTokenIsListed(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.SetRate("DescribeInstanceToken", 1000)
	w.SetPage(3)
	registry := w.registry()
	none, err := registry.Tokens(t.Context())
	require.NoError(t, err)
	assert.Empty(t, none)
	for i := range 10 {
		_, err := registry.CreateLongTermToken(t.Context(), fmt.Sprint(i))
		require.NoError(t, err)
	}
	listed, err := registry.Tokens(t.Context())
	require.NoError(t, err)
	assert.ElementsMatch(t, w.ids(), ids(listed))

	// One of the first page goes after that was read: what follows moves up, and one would be missed.
	newest := listed[0]
	before := w.Count("DescribeInstanceToken")
	w.Fail("DescribeInstanceToken", 1, standin.Failure{})
	w.Fail("DescribeInstanceToken", 1, standin.Failure{Late: 500 * time.Millisecond})
	done := make(chan error)
	go func() {
		for w.Count("DescribeInstanceToken") == before {
			time.Sleep(time.Millisecond)
		}
		done <- registry.DeleteToken(t.Context(), newest.ID)
	}()
	listed, err = registry.Tokens(t.Context())
	require.NoError(t, err)
	require.NoError(t, <-done)
	require.Len(t, listed, 9)
	assert.ElementsMatch(t, w.ids(), ids(listed))

	// One that answers every page with the same token has not told of them all.
	w.Fail("DescribeInstanceToken", 0, standin.Failure{Status: 200,
		Body: `{"Response": {"TotalCount": 2, "Tokens": [{"Id": "x", "RegistryId": "tcr-demo0001"}]}}`})
	_, err = registry.Tokens(t.Context())
	assert.Equal(t, tencentcloud.BadAnswer, w.failure(err).Reason)
}

// ids returns those of the cloud's tokens.
func (w *world) ids() []string {
	var ids []string
	for _, token := range w.Tokens(demo) {
		ids = append(ids, token.ID)
	}
	return ids
}

func ids(listed []tencentcloud.Listed) []string {
	var ids []string
	for _, token := range listed {
		ids = append(ids, token.ID)
	}
	return ids
}

func TestRegistriesAndLinks(t *testing.T) {
	t.Parallel()
	w := start(t)
	registry, ctx := w.registry(), t.Context()
	domain, err := registry.Domain(ctx)
	require.NoError(t, err)
	assert.Equal(t, "demo.tencentcloudcr.com", domain)
	links, err := registry.Links(ctx)
	require.NoError(t, err)
	assert.Empty(t, links, "the API answers null")
	w.SetLinks(demo,
		standin.Link{VPC: "vpc-a", Subnet: "subnet-a", Status: "Running", Address: "10.0.0.5"}, standin.Link{VPC: "vpc-b", Status: "Pending"})
	w.SetDNS(demo, "vpc-a", true, "ENABLE")
	links, err = registry.Links(ctx)
	require.NoError(t, err)
	require.Equal(t, []tencentcloud.Link{
		{VPC: "vpc-a", Subnet: "subnet-a", Status: "Running", Address: "10.0.0.5"}, {VPC: "vpc-b", Status: "Pending"},
	}, links)
	for defaultDomain, status := range map[bool]string{true: "ENABLE", false: "DISABLED"} {
		names, err := registry.NameStatus(ctx, links[0], defaultDomain)
		require.NoError(t, err)
		assert.Equal(t, []tencentcloud.ResolvedName{{VPC: "vpc-a", Status: status}}, names)
	}
	_, err = w.client.Registry(w.client.GivenCaller(w.key.SecretID, w.key.SecretKey, "x"), "ap-beijing", demo).Domain(ctx)
	failure := w.failure(err)
	assert.Equal(t, tencentcloud.InstanceNotFound, failure.Reason)
	assert.ErrorContains(t, err, `region ap-beijing has no registry instance "tcr-demo0001"`)
}

func TestAnswersAboutAnotherRegistryAreRefused(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.Fail("DescribeInstances", 1, standin.Failure{Status: 200,
		Body: `{"Response": {"Registries": [{"RegistryId": "tcr-other001", "PublicDomain": "other.example.com"}]}}`})
	_, err := w.registry().Domain(t.Context())
	assert.Equal(t, tencentcloud.BadAnswer, w.failure(err).Reason)
	assert.ErrorContains(t, err, `about another registry instance than "tcr-demo0001"`)
	w.Fail("DescribeInstanceToken", 1, standin.Failure{Status: 200,
		Body: `{"Response": {"TotalCount": 1, "Tokens": [{"Id": "x", "RegistryId": "tcr-other001"}]}}`})
	_, err = w.registry().Tokens(t.Context())
	assert.Equal(t, tencentcloud.BadAnswer, w.failure(err).Reason)
}

// TestUsernamesAndTimesThatAreNumbersOrTexts reads both: the documentation's examples have both.
func TestUsernamesAndTimesThatAreNumbersOrTexts(t *testing.T) {
	t.Parallel()
	w := start(t)
	at := time.UnixMilli(1893456000000)
	for _, body := range []string{
		`{"Username": 100012345678, "Token": "t", "ExpTime": 1893456000000, "TokenId": "i"}`,
		`{"Username": "100012345678", "Token": "t", "ExpTime": "1893456000000", "TokenId": "i"}`,
		`{"Username": "100012345678", "Token": "t", "ExpTime": 1893456000, "TokenId": "i"}`,
	} {
		w.Fail("CreateInstanceToken", 1, standin.Failure{Status: 200, Body: `{"Response": ` + body + `}`})
		token, err := w.registry().CreateLongTermToken(t.Context(), "x")
		require.NoError(t, err)
		assert.Equal(t, "100012345678", token.Username)
		assert.True(t, token.Expires.Equal(at), token.Expires)
	}
	for _, body := range []string{
		`{"Username": null, "Token": "t", "ExpTime": 1893456000000, "TokenId": "i"}`,
		`{"Username": "a:b", "Token": "t", "ExpTime": 1893456000000, "TokenId": "i"}`,
		`{"Username": "a", "Token": "", "ExpTime": 1893456000000, "TokenId": "i"}`,
		`{"Username": "a", "Token": "t", "ExpTime": null, "TokenId": "i"}`,
		`{"Username": "a", "Token": "t", "ExpTime": 1893456000000, "TokenId": null}`,
		`{"Username": ["a body of somebody's"], "Token": "t"}`,
		`{}`,
	} {
		w.Fail("CreateInstanceToken", 1, standin.Failure{Status: 200, Body: `{"Response": ` + body + `}`})
		_, err := w.registry().CreateLongTermToken(t.Context(), "x")
		assert.Equal(t, tencentcloud.BadAnswer, w.failure(err).Reason, body)
	}
}

// TestTimesThatNobodyCanWrite are told in another unit, or never come: they can be stored all the same.
func TestTimesThatNobodyCanWrite(t *testing.T) {
	t.Parallel()
	o := newObject(start(t))
	o.Fail("CreateInstanceToken", 1, standin.Failure{Status: 200,
		Body: `{"Response": {"Username": "a", "Token": "t", "ExpTime": 9223372036854775807, "TokenId": "i"}}`})
	list := standin.Failure{Status: 200, Body: `{"Response": {"TotalCount": 1, "Tokens": [{"Id": "lost", "RegistryId": "tcr-demo0001",
		"Enabled": true, "Desc": "TKE cluster (cls-abcdefgh) dedicated access credential, ImagePullSecret demo, ` + uid + `",
		"CreatedAt": "9999-12-31T23:59:59-24:00", "ExpiredAt": 1893456000000000000}]}}`}
	o.Fail("DescribeInstanceToken", 1, standin.Failure{})
	o.Fail("DescribeInstanceToken", 1, list)
	outcome, err := o.sync(100)
	require.NoError(t, err)
	assert.Equal(t, "i", outcome.Issue.ID)
	assert.True(t, outcome.Issue.Expires.After(o.now.AddDate(1000, 0, 0)))
}

func TestWhatNoTokenAndNoDomainIsIsRefused(t *testing.T) {
	t.Parallel()
	w := start(t)
	answer := func(action, body string) {
		w.Fail(action, 1, standin.Failure{Status: 200, Body: `{"Response": ` + body + `}`})
	}
	answer("CreateInstanceToken", `{"Username": "a", "Token": "`+strings.Repeat("t", 100000)+`", "ExpTime": 1893456000000, "TokenId": "i"}`)
	_, err := w.registry().CreateLongTermToken(t.Context(), "x")
	assert.Equal(t, tencentcloud.BadAnswer, w.failure(err).Reason)
	answer("DescribeInstanceToken", `{"TotalCount": 1, "Tokens": [{"RegistryId": "tcr-demo0001", "Enabled": true}]}`)
	_, err = w.registry().Tokens(t.Context())
	assert.Equal(t, tencentcloud.BadAnswer, w.failure(err).Reason)
	answer("DescribeInstanceToken", `{}`)
	_, err = w.registry().Tokens(t.Context())
	assert.Equal(t, tencentcloud.BadAnswer, w.failure(err).Reason)
	answer("ModifyInstanceToken", `{"Error": {"Message": "it could not be disabled"}}`)
	assert.Equal(t, tencentcloud.BadAnswer, w.failure(w.registry().DisableToken(t.Context(), "x")).Reason)
	for _, domain := range []string{
		"", "localhost", "https://demo.example.com", "demo.example.com/a", "demo.example.com:443", "a b.c", "demo.", "*.a.b",
	} {
		answer("DescribeInstances", `{"Registries": [{"RegistryId": "tcr-demo0001", "PublicDomain": "`+domain+`"}]}`)
		_, err = w.registry().Domain(t.Context())
		assert.Equal(t, tencentcloud.BadAnswer, w.failure(err).Reason, domain)
	}
}

// TestKeysWithALineBreakBehindThem are what "echo" puts into a Secret.
func TestKeysWithALineBreakBehindThem(t *testing.T) {
	t.Parallel()
	w := start(t)
	given := w.client.GivenCaller(w.key.SecretID+"\n", w.key.SecretKey+"\n", "Secret x")
	_, err := w.client.Registry(given, region, demo).Domain(t.Context())
	require.NoError(t, err)
}

// TestManyCallsAreNoBurst has many ask at once, as after a start: no more than the cloud answers.
func TestManyCallsAreNoBurst(t *testing.T) {
	t.Parallel()
	w := start(t, func(options *tencentcloud.Options) { options.PerSecond = 0 })
	var asking sync.WaitGroup
	for range 8 {
		asking.Go(func() {
			for range 5 {
				_, err := w.registry().Tokens(t.Context())
				assert.NoError(t, err)
			}
		})
	}
	asking.Wait()
	for _, call := range w.Calls() {
		assert.Empty(t, call.Code)
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.registry().Tokens(ended)
	require.ErrorIs(t, err, context.Canceled)
	_ = w.failure(err) // which looks for secrets in it
}
