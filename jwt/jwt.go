// Package jwt reads what a JSON Web Token (RFC 7519) says about itself. It is pure. Nobody has verified the token: what it says is
// reported, and never trusted.
package jwt

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strings"
	"time"
)

// Claims are what a token says about itself. The zero Claims say nothing.
type Claims struct {
	// Subject is the claim "sub"; blank if there is none.
	Subject string
	// Expires is when the token expires, "exp"; zero if there is none.
	Expires time.Time
	// Begins is when the token becomes valid: the later of "iat" and "nbf"; zero if there is neither.
	Begins time.Time
}

// maxToken is how long a text that is read as a token may be, in bytes.
const maxToken = 1 << 16

// Read returns the claims of a token. A text that is not a token has none, and a malformed claim is ignored.
func Read(text string) Claims {
	parts := strings.Split(text, ".")
	if len(parts) != 3 || len(text) > maxToken {
		return Claims{}
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return Claims{}
	}
	var said map[string]json.RawMessage
	if json.Unmarshal(payload, &said) != nil {
		return Claims{}
	}
	claims := Claims{Expires: timeOf(said["exp"]), Begins: timeOf(said["iat"])}
	if notBefore := timeOf(said["nbf"]); notBefore.After(claims.Begins) {
		claims.Begins = notBefore
	}
	if json.Unmarshal(said["sub"], &claims.Subject) != nil {
		claims.Subject = ""
	}
	return claims
}

// endOfTime is the beginning of the year 10000, in seconds since 1970: no later time can be written into a status.
const endOfTime = 253402300800

// timeOf parses a number of seconds since 1970; zero if it is not one.
func timeOf(text json.RawMessage) time.Time {
	var seconds *float64
	if json.Unmarshal(text, &seconds) != nil || seconds == nil || math.IsNaN(*seconds) || *seconds <= 0 || *seconds >= endOfTime {
		return time.Time{}
	}
	return time.Unix(int64(*seconds), 0).UTC()
}
