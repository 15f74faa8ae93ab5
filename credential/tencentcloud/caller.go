package tencentcloud

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Keys are the keys that sign requests.
type Keys struct {
	SecretID, SecretKey string
	// Token is the session token of temporary keys; blank for others.
	Token string
	// Expires is zero for keys that do not expire.
	Expires time.Time
	// Source says in words where they are from.
	Source string
}

// String returns where the keys are from.
func (k Keys) String() string { return "keys of the " + k.Source }

// GoString is String.
func (k Keys) GoString() string { return k.String() }

// MarshalText is String: nothing prints a key by mistake.
func (k Keys) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// source is a place where keys may be. It returns an absence if it has none; any other error means that it is configured, but does not
// work.
type source interface {
	name() string
	keys(ctx context.Context) (Keys, error)
}

// absence says what a source lacks.
type absence struct{ lacks string }

func (a absence) Error() string { return a.lacks }

// Caller is an identity that calls the API. It keeps its keys, and gets new ones before they expire, once for all callers that wait.
type Caller struct {
	sources []source
	now     func() time.Time
	advice  string

	mu      sync.Mutex
	current Keys
	renewAt time.Time // zero without keys
	pending *fetch
}

// fetch is one attempt to get keys. All callers share it.
type fetch struct {
	done chan struct{}
	keys Keys
	err  error
}

const (
	// renewalPause is how long valid keys are used after a failed renewal, before the next attempt.
	renewalPause = 30 * time.Second
	// spare is how long before their expiry keys are no longer used: a request takes its time.
	spare = 30 * time.Second
	// fetchTimeout is how long one attempt may take.
	fetchTimeout = 30 * time.Second
)

// GivenCaller returns a Caller that uses these keys and no others. from says where they are from, such as Secret tcr-assistant-system/cam.
func (c *Client) GivenCaller(secretID, secretKey, from string) *Caller {
	return &Caller{
		sources: []source{given{secretID, secretKey, from}}, now: c.now,
		advice: "write both into that Secret",
	}
}

// AmbientCaller returns a Caller that uses the manager's own identity: the first that exists of the OIDC role, the environment and the
// node's role. One that is configured and does not work is not skipped: a call must not come from an unexpected identity.
func (c *Client) AmbientCaller(getenv func(string) string) *Caller {
	return &Caller{
		sources: []source{oidcRole{c, getenv}, environment{getenv}, nodeRole{c}}, now: c.now,
		advice: "give the manager's service account an OIDC role, or name a Secret in spec.tcr.credentialsSecretRef",
	}
}

// Keys returns valid keys.
func (c *Caller) Keys(ctx context.Context) (Keys, error) {
	c.mu.Lock()
	if !c.renewAt.IsZero() && c.now().Before(c.renewAt) {
		defer c.mu.Unlock()
		return c.current, nil
	}
	attempt := c.pending
	if attempt == nil {
		attempt = &fetch{done: make(chan struct{})}
		c.pending = attempt
		// If this caller gives up, the others that wait still get the keys.
		go c.fetch(context.WithoutCancel(ctx), attempt)
	}
	c.mu.Unlock()
	select {
	case <-attempt.done:
		return attempt.keys, attempt.err
	case <-ctx.Done():
		return Keys{}, &Error{Reason: NoRoute, advice: "keys for the cloud's API did not come in time", cause: ctx.Err()}
	}
}

// fetch gets keys. If that fails, the present ones stay while they are valid.
func (c *Caller) fetch(ctx context.Context, attempt *fetch) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	keys, err := c.search(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	switch {
	case err == nil:
		c.current, c.renewAt = keys, renewal(keys, now)
	case !c.renewAt.IsZero() && now.Before(c.current.Expires.Add(-spare)):
		keys, err = c.current, nil
		c.renewAt = now.Add(renewalPause)
	default:
		c.current, c.renewAt = Keys{}, time.Time{}
	}
	attempt.keys, attempt.err = keys, err
	c.pending = nil
	close(attempt.done)
}

// renewal returns when to replace keys: after three quarters of their remaining life. Keys that do not expire are read again every hour,
// since the user may have replaced them.
func renewal(keys Keys, now time.Time) time.Time {
	if keys.Expires.IsZero() {
		return now.Add(time.Hour)
	}
	return now.Add(keys.Expires.Sub(now) * 3 / 4)
}

// forget drops keys that the API has rejected: the next call gets new ones.
func (c *Caller) forget(rejected Keys) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == rejected {
		c.current, c.renewAt = Keys{}, time.Time{}
	}
}

// search asks the sources in order.
func (c *Caller) search(ctx context.Context) (Keys, error) {
	var lacking []string
	for _, source := range c.sources {
		keys, err := source.keys(ctx)
		var absent absence
		switch {
		case err == nil:
			keys.Source = source.name()
			return keys, nil
		case errors.As(err, &absent):
			lacking = append(lacking, source.name()+": "+absent.lacks)
		default:
			return Keys{}, c.failed(source, lacking, err)
		}
	}
	return Keys{}, &Error{
		Reason: CredentialMissing,
		advice: fmt.Sprintf("no keys for the cloud's API (%s): %s", strings.Join(lacking, "; "), c.advice),
	}
}

// failed returns an error that says which source does not work, and what those before it lacked.
func (c *Caller) failed(source source, lacking []string, err error) error {
	failure := &Error{Reason: CredentialRejected}
	var known *Error
	if errors.As(err, &known) {
		copied := *known
		failure = &copied
	}
	before := ""
	if len(lacking) > 0 {
		before = " (" + strings.Join(lacking, "; ") + ")"
	}
	failure.advice = fmt.Sprintf("getting keys from the %s%s: %s", source.name(), before, failure.advice)
	return failure
}

// given is a source of keys from a Secret, whose values may end in a line break.
type given struct{ secretID, secretKey, from string }

func (g given) name() string { return g.from }

func (g given) keys(context.Context) (Keys, error) {
	if lacks := missing(map[string]string{"secretId": g.secretID, "secretKey": g.secretKey}, "secretId", "secretKey"); lacks != "" {
		return Keys{}, absence{lacks}
	}
	return Keys{SecretID: strings.TrimSpace(g.secretID), SecretKey: strings.TrimSpace(g.secretKey)}, nil
}

// environment is a source of keys from the variables that Tencent's tools read, too.
type environment struct{ getenv func(string) string }

func (e environment) name() string { return "environment" }

func (e environment) keys(context.Context) (Keys, error) {
	const id, key, token = "TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY", "TENCENTCLOUD_SESSION_TOKEN"
	values := map[string]string{id: strings.TrimSpace(e.getenv(id)), key: strings.TrimSpace(e.getenv(key))}
	if lacks := missing(values, id, key); lacks != "" {
		return Keys{}, absence{lacks}
	}
	return Keys{SecretID: values[id], SecretKey: values[key], Token: strings.TrimSpace(e.getenv(token))}, nil
}

// missing says which of these values are blank; it returns "" if none is.
func missing(values map[string]string, names ...string) string {
	var blank []string
	for _, name := range names {
		if strings.TrimSpace(values[name]) == "" {
			blank = append(blank, name)
		}
	}
	switch len(blank) {
	case 0:
		return ""
	case 1:
		return blank[0] + " is not set"
	default:
		return strings.Join(blank[:len(blank)-1], ", ") + " and " + blank[len(blank)-1] + " are not set"
	}
}
