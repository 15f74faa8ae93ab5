package rotation

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Kind is a kind of token, as the API spells it.
type Kind string

// The kinds.
const (
	// LongTerm tokens are listed and can be revoked.
	LongTerm Kind = "longterm"
	// Temporary tokens live for an hour, and can be neither listed nor revoked.
	Temporary Kind = "temp"
)

// Instance is a registry.
type Instance struct {
	Region string `json:"region"`
	ID     string `json:"id"`
}

// Place is a registry where tokens of an object may be, with the keys that revoke them.
type Place struct {
	Instance
	// Key names the Secret with the keys for the cloud's API; blank for the manager's own identity.
	Key string `json:"key,omitempty"`
	// LongTerm says that there may be tokens that can be listed.
	LongTerm bool `json:"longTerm,omitempty"`
	// Domain is the registry's default domain; blank while it is not known. It is stored, so that a token can be issued while the cloud does
	// not answer.
	Domain string `json:"domain,omitempty"`
}

// Token is a token in a record.
type Token struct {
	// Serial grows with each token of a record.
	Serial   int
	Kind     Kind
	Instance Instance
	// ID is blank for temporary tokens.
	ID                 string
	Username, Password string
	// Created is when it was created, by the manager's clock.
	Created, Expires time.Time
	// Replaced is when every Secret was first seen to hold a newer one; zero before.
	Replaced time.Time
	// Disabled is when it was first seen to be disabled, or gone; zero before.
	Disabled time.Time
	// Abandoned says that the process that created it did not store it, so that no Secret has ever held it.
	Abandoned bool
}

// String returns the token without its secrets.
func (t Token) String() string { return fmt.Sprintf("%s token %d (%s)", t.Kind, t.Serial, t.ID) }

// GoString is String.
func (t Token) GoString() string { return t.String() }

// MarshalText is String: nothing prints a password by mistake.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// isFound reports whether it was found in a listing, since its record was lost. Without its password it cannot be issued.
func (t Token) isFound() bool { return t.ID != "" && t.Password == "" && !t.Abandoned }

// dead reports whether nobody can log in with it any more.
func (t Token) dead(now time.Time) bool { return !t.Disabled.IsZero() || !now.Before(t.Expires) }

// Record is what is stored of an ImagePullSecret's tokens, in a Secret that outlives it. The zero Record means that nothing is stored yet.
type Record struct {
	// UID and Name are those of the object.
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

// Domain returns the default domain of a registry; blank if it is not known.
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

// Current returns the token that the Secrets should hold: the newest that is valid. One that was replaced everywhere is never issued again,
// since it may be disabled at any time.
func (r Record) Current(now time.Time) (Token, bool) {
	for _, token := range slices.Backward(r.Tokens) {
		if !token.Abandoned && !token.isFound() && !token.dead(now) && token.Replaced.IsZero() {
			return token, true
		}
	}
	return Token{}, false
}

// equal reports whether both are stored alike.
func (r Record) equal(other Record) bool {
	return r.UID == other.UID && r.Name == other.Name && r.Keep == other.Keep && r.Last == other.Last &&
		slices.Equal(r.Places, other.Places) && slices.EqualFunc(r.Tokens, other.Tokens, func(a, b Token) bool {
		same := a.Created.Equal(b.Created) && a.Expires.Equal(b.Expires) && a.Replaced.Equal(b.Replaced) && a.Disabled.Equal(b.Disabled)
		a.Created, a.Expires, a.Replaced, a.Disabled = b.Created, b.Expires, b.Replaced, b.Disabled
		return same && a == b
	})
}

// format is the version of the format of stored records.
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

// Decode reads what Encode returns. If it does not understand the data, it returns an error that quotes none of it: to take that for an
// empty record would lose tokens.
func Decode(data []byte) (Record, error) {
	var stored storedRecord
	if err := json.Unmarshal(data, &stored); err != nil {
		return Record{}, errors.New("decoding a record of tokens: it is not JSON of a record")
	}
	if stored.Format != format {
		return Record{}, fmt.Errorf("decoding a record of tokens: its format is %d, but this release knows only %d", stored.Format, format)
	}
	record := Record{UID: stored.UID, Name: stored.Name, Keep: stored.Keep, Places: stored.Places, Last: stored.Last}
	serial := 0
	for _, token := range stored.Tokens {
		if token.Serial <= serial || token.Serial > stored.Last {
			return Record{}, errors.New("decoding a record of tokens: its serials are out of order")
		}
		serial = token.Serial
		record.Tokens = append(record.Tokens, Token(token))
	}
	if record.UID == "" {
		return Record{}, errors.New("decoding a record of tokens: it does not say which object it is of")
	}
	return record, nil
}
