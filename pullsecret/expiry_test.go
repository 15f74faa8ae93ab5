package pullsecret_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

func TestExpiryOf(t *testing.T) {
	token := func(claims string) string {
		return "eyJhbGciOiJSUzI1NiJ9." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2lnbmF0dXJl"
	}
	ends := time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, password string
		want           time.Time
	}{
		{"a token that ends", token(`{"sub":"robot","exp":1801396800}`), ends},
		{"a token that ends, padded", "a." + base64.URLEncoding.EncodeToString([]byte(`{"exp":1801396800}`)) + ".c", ends},
		{"a fraction of a second", token(`{"exp":1801396800.9}`), ends},
		{"a token without an end", token(`{"sub":"robot"}`), time.Time{}},
		{"an end that is no number", token(`{"exp":"1801396800"}`), time.Time{}},
		{"an end that is null", token(`{"exp":null}`), time.Time{}},
		{"no time before 1970", token(`{"exp":-1}`), time.Time{}},
		{"no time that a status could not hold", token(`{"exp":253402300800}`), time.Time{}},
		{"nor one beyond numbers", token(`{"exp":1e400}`), time.Time{}},
		{"two parts", "a.b", time.Time{}},
		{"a password with dots", "my.secret.word", time.Time{}},
		{"no JSON", token("exp"), time.Time{}},
		{"nothing", "", time.Time{}},
		{"more than a token", token(`{"exp":1801396800,"x":"` + strings.Repeat("x", 1<<16) + `"}`), time.Time{}},
	} {
		assert.Equal(t, pullsecret.Expiry{At: c.want}, pullsecret.ExpiryOf(c.password), c.name)
	}
}
