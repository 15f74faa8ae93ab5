package pullsecret_test

import (
	"encoding/base64"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

func TestExpiryOf(t *testing.T) {
	token := func(claims string) string { return "a." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c" }
	ends := time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, password string
		want           pullsecret.Expiry
	}{
		{"a token that ends", token(`{"exp":1801396800}`), pullsecret.Expiry{At: ends}},
		{"a token that lives for an hour", token(`{"exp":1801396800,"iat":1801393200}`), pullsecret.Expiry{At: ends, Life: time.Hour}},
		{"a token that begins after its end has a life that nobody knows", token(`{"exp":1801396800,"iat":1801400000}`), pullsecret.Expiry{At: ends}},
		{"a token without an end", token(`{"iat":1801393200}`), pullsecret.Expiry{}},
		{"no token", "my.secret.word", pullsecret.Expiry{}},
	} {
		assert.Equal(t, c.want, pullsecret.ExpiryOf(c.password), c.name)
	}
}
