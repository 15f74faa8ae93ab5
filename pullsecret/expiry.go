package pullsecret

import (
	"time"

	"github.com/tcr-assistant/tcr-assistant/jwt"
)

// Expiry is when a credential ends.
type Expiry struct {
	// At is zero where it is not known.
	At time.Time
	// Life is for how long it was issued, as it says itself; 0 where it does not, or does not say itself when it ends.
	Life time.Duration
	// Unread is why what should tell cannot be read; blank where it can.
	Unread string
}

func (e Expiry) equal(other Expiry) bool {
	return e.At.Equal(other.At) && e.Life == other.Life && e.Unread == other.Unread
}

// Ends returns when the rule's credential ends; zero where that is not known. What the cloud says counts for more than what the credential
// says itself.
func (r *Rule) Ends() time.Time {
	if !r.Renewal.Expires.IsZero() {
		return r.Renewal.Expires
	}
	return r.Expiry.At
}

// ExpiryOf returns when a password ends, and how long it lives, where it is a JSON Web Token that says so.
func ExpiryOf(password string) Expiry {
	claims := jwt.Read(password)
	expiry := Expiry{At: claims.Expires}
	if !claims.Begins.IsZero() && claims.Begins.Before(claims.Expires) {
		expiry.Life = claims.Expires.Sub(claims.Begins)
	}
	return expiry
}
