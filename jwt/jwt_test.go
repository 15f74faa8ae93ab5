package jwt_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/tcr-assistant/tcr-assistant/jwt"
)

func TestRead(t *testing.T) {
	token := func(claims string) string {
		return "eyJhbGciOiJSUzI1NiJ9." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2lnbmF0dXJl"
	}
	ends := time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)
	begins := ends.Add(-time.Hour)
	for _, c := range []struct {
		name, text string
		want       jwt.Claims
	}{
		{"a token that ends", token(`{"sub":"robot","exp":1801396800}`), jwt.Claims{Subject: "robot", Expires: ends}},
		{"a token that ends, padded", "a." + base64.URLEncoding.EncodeToString([]byte(`{"exp":1801396800}`)) + ".c", jwt.Claims{Expires: ends}},
		{"a fraction of a second", token(`{"exp":1801396800.9}`), jwt.Claims{Expires: ends}},
		{"since when it is issued", token(`{"exp":1801396800,"iat":1801393200}`), jwt.Claims{Expires: ends, Begins: begins}},
		{"since when it is good", token(`{"exp":1801396800,"nbf":1801393200}`), jwt.Claims{Expires: ends, Begins: begins}},
		{"the later of both", token(`{"exp":1801396800,"iat":1801393200,"nbf":1801393140}`), jwt.Claims{Expires: ends, Begins: begins}},
		{"the later of both, the other way round", token(`{"nbf":1801393200,"iat":1801393140}`), jwt.Claims{Begins: begins}},
		{"a claim of another form takes nothing from the others", token(`{"exp":1801396800,"iat":"now","sub":7}`), jwt.Claims{Expires: ends}},
		{"a token without an end", token(`{"sub":"robot"}`), jwt.Claims{Subject: "robot"}},
		{"an end that is no number", token(`{"exp":"1801396800"}`), jwt.Claims{}},
		{"an end that is null", token(`{"exp":null}`), jwt.Claims{}},
		{"no time before 1970", token(`{"exp":-1}`), jwt.Claims{}},
		{"no time that a status could not hold", token(`{"exp":253402300800}`), jwt.Claims{}},
		{"nor one beyond numbers", token(`{"exp":1e400}`), jwt.Claims{}},
		{"two parts", "a.b", jwt.Claims{}},
		{"a password with dots", "my.secret.word", jwt.Claims{}},
		{"no JSON", token("exp"), jwt.Claims{}},
		{"a list", token("[1]"), jwt.Claims{}},
		{"nothing", "", jwt.Claims{}},
		{"more than a token", token(`{"exp":1801396800,"x":"` + strings.Repeat("x", 1<<16) + `"}`), jwt.Claims{}},
	} {
		assert.Equal(t, c.want, jwt.Read(c.text), c.name)
	}
}
