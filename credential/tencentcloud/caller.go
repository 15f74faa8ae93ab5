package tencentcloud

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Keys are what requests are signed with.
type Keys struct {
	SecretID, SecretKey string
	// Token goes with temporary ones.
	Token string
	// Expires is zero for keys that stay good.
	Expires time.Time
	// Source says where they are from, in words.
	Source string
}

// String returns where the keys are from.
func (k Keys) String() string { return "keys of the " + k.Source }

// GoString is String.
func (k Keys) GoString() string { return k.String() }

// MarshalText is String: nothing prints a key by mistake.
func (k Keys) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// source is a place where keys may be. It returns an absence where it has none; any other error is of one that is set up and does
// not work.
type source interface {
	name() string
	keys(ctx context.Context) (Keys, error)
}

// absence says what a source lacks.
type absence struct{ lacks string }

func (a absence) Error() string { return a.lacks }

// Caller is who calls the API. It keeps the keys, and gets new ones ahead of their expiry, once for all who wait.
type Caller struct {
	sources []source
	now     func() time.Time
	advice  string

	mu      sync.Mutex
	current Keys
	renewAt time.Time // zero without keys
	pending *fetch
}

// fetch is one attempt to get keys, which everybody waits for.
type fetch struct {
	done chan struct{}
	keys Keys
	err  error
}

const (
	// renewalPause is how long keys that are still good are used before their renewal is tried again.
	renewalPause = 30 * time.Second
	// spare is how long before their expiry keys are no longer used: a request takes its time.
	spare = 30 * time.Second
	// fetchTimeout is how long one attempt may take.
	fetchTimeout = 30 * time.Second
)

// GivenCaller returns one that calls with these keys and with no others. from says where they are from, such as Secret
// tcr-assistant-system/cam.
func (c *Client) GivenCaller(secretID, secretKey, from string) *Caller {
	return &Caller{
		sources: []source{given{secretID, secretKey, from}}, now: c.now,
		advice: "write both into that Secret",
	}
}

// AmbientCaller returns one that calls with what the manager runs with: the first that there is of the OIDC role, the environment and
// the node's role. One that is set up and does not work is not passed over: nobody is to be surprised by who has called.
func (c *Client) AmbientCaller(getenv func(string) string) *Caller {
	return &Caller{
		sources: []source{oidcRole{c, getenv}, environment{getenv}, nodeRole{c}}, now: c.now,
		advice: "give the manager's service account an OIDC role, or name a Secret in spec.tcr.credentialsSecretRef",
	}
}

// Keys returns keys that are good.
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
		// Whoever gives up does not take the keys away from those who wait with them.
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

// fetch gets keys, or, where that fails, leaves those that are still good.
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

// renewal returns when keys are to be replaced: after three quarters of what is left of their life. Those that stay good are looked
// up again now and then, for somebody may have replaced them.
func renewal(keys Keys, now time.Time) time.Time {
	if keys.Expires.IsZero() {
		return now.Add(time.Hour)
	}
	return now.Add(keys.Expires.Sub(now) * 3 / 4)
}

// forget lets the API's rejection of keys be known: the next call gets new ones.
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

// failed says which source does not work, and what those before it lacked.
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

// given are keys that somebody wrote down, perhaps with a line break behind them.
type given struct{ secretID, secretKey, from string }

func (g given) name() string { return g.from }

func (g given) keys(context.Context) (Keys, error) {
	if lacks := missing(map[string]string{"secretId": g.secretID, "secretKey": g.secretKey}, "secretId", "secretKey"); lacks != "" {
		return Keys{}, absence{lacks}
	}
	return Keys{SecretID: strings.TrimSpace(g.secretID), SecretKey: strings.TrimSpace(g.secretKey)}, nil
}

// environment are keys in variables, which Tencent's tools read too.
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

// missing says which of some values are blank; blank where none is.
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
