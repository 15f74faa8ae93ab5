package pullsecret

import (
	"time"

	"github.com/tcr-assistant/tcr-assistant/jwt"
)

// Expiry is when a credential expires.
type Expiry struct {
	// At is zero where it is not known.
	At time.Time
	// Life is for how long the credential was issued, as it says itself; 0 where it does not say that, or not when it expires.
	Life time.Duration
	// Unread is why the expiry cannot be read where it should be; blank where it can.
	Unread string
}

func (e Expiry) equal(other Expiry) bool {
	return e.At.Equal(other.At) && e.Life == other.Life && e.Unread == other.Unread
}

// Ends returns when the rule's credential expires; zero where that is not known. What the cloud says takes precedence over what the
// credential says itself.
func (r *Rule) Ends() time.Time {
	if !r.Renewal.Expires.IsZero() {
		return r.Renewal.Expires
	}
	return r.Expiry.At
}

// ExpiryOf returns when a password expires, and how long it lives, if it is a JSON Web Token that says so.
func ExpiryOf(password string) Expiry {
	claims := jwt.Read(password)
	expiry := Expiry{At: claims.Expires}
	if !claims.Begins.IsZero() && claims.Begins.Before(claims.Expires) {
		expiry.Life = claims.Expires.Sub(claims.Begins)
	}
	return expiry
}
