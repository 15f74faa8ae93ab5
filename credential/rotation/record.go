package rotation

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Kind is a kind of token, in the API's words.
type Kind string

// The kinds.
const (
	// LongTerm tokens are listed and can be revoked.
	LongTerm Kind = "longterm"
	// Temporary ones live for an hour, and nothing lists or revokes them.
	Temporary Kind = "temp"
)

// Instance is a registry.
type Instance struct {
	Region string `json:"region"`
	ID     string `json:"id"`
}

// Place is where tokens of an object may be, and by which key they are revoked.
type Place struct {
	Instance
	// Key names the Secret of the keys to call with; blank for the manager's own identity.
	Key string `json:"key,omitempty"`
	// LongTerm says whether there may be tokens that can be listed.
	LongTerm bool `json:"longTerm,omitempty"`
	// Domain is the registry's default one; blank while it is not known. It is kept, so that a token is issued while the cloud is away.
	Domain string `json:"domain,omitempty"`
}

// Token is one that is stored.
type Token struct {
	// Serial grows with each token of a record.
	Serial   int
	Kind     Kind
	Instance Instance
	// ID is blank for temporary ones.
	ID                 string
	Username, Password string
	// Created is by the manager's clock.
	Created, Expires time.Time
	// Replaced is when every Secret was first seen to have a newer one; zero before.
	Replaced time.Time
	// Disabled is when it was first seen to be disabled, or gone; zero before.
	Disabled time.Time
	// Abandoned says that it was created and not stored by who did, so that no Secret has ever had it.
	Abandoned bool
}

// String returns it without what is secret.
func (t Token) String() string { return fmt.Sprintf("%s token %d (%s)", t.Kind, t.Serial, t.ID) }

// GoString is String.
func (t Token) GoString() string { return t.String() }

// MarshalText is String: nothing prints a password by mistake.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// isFound says whether it was found without its password, of which the record was lost. It cannot be issued.
func (t Token) isFound() bool { return t.ID != "" && t.Password == "" && !t.Abandoned }

// dead says whether nobody can log in with it any more.
func (t Token) dead(now time.Time) bool { return !t.Disabled.IsZero() || !now.Before(t.Expires) }

// Record is what is stored of an ImagePullSecret's tokens, in a Secret that outlives it. The zero Record is of one that has none yet.
type Record struct {
	// UID and Name are the object's.
	UID, Name string
	// Keep says that the tokens stay when the object goes.
	Keep   bool
	Places []Place
	Tokens []Token
	// Last is the highest serial so far.
	Last int
}

// With returns the record with a token that was just created.
func (r Record) With(token Token) Record {
	r = r.clone()
	r.Last++
	token.Serial = r.Last
	r.Tokens = append(r.Tokens, token)
	return r
}

// Domain returns the default one of a registry; blank where it is not known.
func (r Record) Domain(of Instance) string {
	for _, place := range r.Places {
		if place.Instance == of {
			return place.Domain
		}
	}
	return ""
}

func (r Record) clone() Record {
	r.Places, r.Tokens = slices.Clone(r.Places), slices.Clone(r.Tokens)
	return r
}

// Current returns the token that the Secrets are to hold: the newest that somebody can log in with. One that was replaced everywhere is
// never issued again, since it may be disabled at any time.
func (r Record) Current(now time.Time) (Token, bool) {
	for _, token := range slices.Backward(r.Tokens) {
		if !token.Abandoned && !token.isFound() && !token.dead(now) && token.Replaced.IsZero() {
			return token, true
		}
	}
	return Token{}, false
}

// equal compares what is stored of both.
func (r Record) equal(other Record) bool {
	return r.UID == other.UID && r.Name == other.Name && r.Keep == other.Keep && r.Last == other.Last &&
		slices.Equal(r.Places, other.Places) && slices.EqualFunc(r.Tokens, other.Tokens, func(a, b Token) bool {
		same := a.Created.Equal(b.Created) && a.Expires.Equal(b.Expires) && a.Replaced.Equal(b.Replaced) && a.Disabled.Equal(b.Disabled)
		a.Created, a.Expires, a.Replaced, a.Disabled = b.Created, b.Expires, b.Replaced, b.Disabled
		return same && a == b
	})
}

// format is that of stored records.
const format = 1

type storedRecord struct {
	Format int           `json:"format"`
	UID    string        `json:"uid"`
	Name   string        `json:"name"`
	Keep   bool          `json:"keep,omitempty"`
	Places []Place       `json:"places,omitempty"`
	Tokens []storedToken `json:"tokens,omitempty"`
	Last   int           `json:"last"`
}

type storedToken struct {
	Serial    int       `json:"serial"`
	Kind      Kind      `json:"kind"`
	Instance  Instance  `json:"instance"`
	ID        string    `json:"id,omitempty"`
	Username  string    `json:"username,omitempty"`
	Password  string    `json:"password,omitempty"`
	Created   time.Time `json:"created,omitzero"`
	Expires   time.Time `json:"expires,omitzero"`
	Replaced  time.Time `json:"replaced,omitzero"`
	Disabled  time.Time `json:"disabled,omitzero"`
	Abandoned bool      `json:"abandoned,omitempty"`
}

// Encode returns the record as it is stored in a Secret.
func Encode(r Record) []byte {
	stored := storedRecord{Format: format, UID: r.UID, Name: r.Name, Keep: r.Keep, Places: r.Places, Last: r.Last}
	for _, token := range r.Tokens {
		stored.Tokens = append(stored.Tokens, storedToken(token))
	}
	data, err := json.Marshal(stored)
	if err != nil { // a year beyond 9999
		panic(fmt.Sprintf("encoding the record of %s: %v", r.Name, err))
	}
	return data
}

// Decode reads what Encode has made. What it does not understand is an error that repeats none of it: to take it for an empty record
// would forget tokens.
func Decode(data []byte) (Record, error) {
	var stored storedRecord
	if err := json.Unmarshal(data, &stored); err != nil {
		return Record{}, errors.New("decoding a record of tokens: it is not JSON of a record")
	}
	if stored.Format != format {
		return Record{}, fmt.Errorf("decoding a record of tokens: its format is %d, and this release knows %d", stored.Format, format)
	}
	record := Record{UID: stored.UID, Name: stored.Name, Keep: stored.Keep, Places: stored.Places, Last: stored.Last}
	serial := 0
	for _, token := range stored.Tokens {
		if token.Serial <= serial || token.Serial > stored.Last {
			return Record{}, errors.New("decoding a record of tokens: its serials are in disorder")
		}
		serial = token.Serial
		record.Tokens = append(record.Tokens, Token(token))
	}
	if record.UID == "" {
		return Record{}, errors.New("decoding a record of tokens: it does not say whose it is")
	}
	return record, nil
}
