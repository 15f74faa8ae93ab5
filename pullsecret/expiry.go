package pullsecret

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strings"
	"time"
)

// Expiry is when a credential ends.
type Expiry struct {
	// At is zero where it is not known.
	At time.Time
	// Unread is why what should tell cannot be read; blank where it can.
	Unread string
}

func (e Expiry) equal(other Expiry) bool { return e.At.Equal(other.At) && e.Unread == other.Unread }

// Ends returns when the rule's credential ends; zero where that is not known. What the cloud says counts for more than what the credential
// says itself.
func (r *Rule) Ends() time.Time {
	if !r.Renewal.Expires.IsZero() {
		return r.Renewal.Expires
	}
	return r.Expiry.At
}

// maxToken is how long a password may be that is read as a token.
const maxToken = 1 << 16

// ExpiryOf returns when a password ends that is a JSON Web Token (RFC 7519) with the claim "exp". Nobody has verified the token: what it
// says of itself is told, and trusted with nothing.
func ExpiryOf(password string) Expiry {
	parts := strings.Split(password, ".")
	if len(parts) != 3 || len(password) > maxToken {
		return Expiry{}
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return Expiry{}
	}
	var claims struct {
		Expires *float64 `json:"exp"`
	}
	if json.Unmarshal(payload, &claims) != nil || claims.Expires == nil {
		return Expiry{}
	}
	seconds := *claims.Expires
	if math.IsNaN(seconds) || seconds <= 0 || seconds >= endOfTime {
		return Expiry{}
	}
	return Expiry{At: time.Unix(int64(seconds), 0).UTC()}
}

// endOfTime is the beginning of the year 10000, in seconds since 1970: no later time can be written into a status.
const endOfTime = 253402300800
