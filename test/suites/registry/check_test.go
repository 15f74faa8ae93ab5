package registry

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/tcr-assistant/tcr-assistant/credential/check"
)

func TestWhatARegistryAnswers(t *testing.T) {
	r := startRegistries(t)
	for _, s := range r.situations(t) {
		t.Run(s.name, func(t *testing.T) {
			login := check.Login{Server: s.server, Username: s.user, Password: s.password, Image: s.image, Realms: s.realms, Roots: r.roots()}
			if s.stranger {
				login.Roots = nil
			}
			came := check.Run(t.Context(), login)
			assert.Equal(t, check.Result{Verdict: s.verdict, Reason: s.reason, Message: came.Message}, came)
			assert.Contains(t, came.Message, s.says)
			assert.NotContains(t, came.Message, secret)
		})
	}
	t.Run("revoked", func(t *testing.T) {
		login := check.Login{Username: "revoked", Password: secret, Image: "team/app:v1", Realms: []string{r.tokened.Realm}, Roots: r.roots()}
		for _, server := range []string{r.passwords.Host, r.tokened.Host} {
			login.Server = server
			assert.Equal(t, check.Valid, check.Run(t.Context(), login).Verdict, server)
		}
		r.revoke(t)
		for _, server := range []string{r.passwords.Host, r.tokened.Host} {
			login.Server = server
			came := check.Run(t.Context(), login)
			assert.Equal(t, check.Refused, came.Verdict, server)
			assert.Equal(t, "Unauthorized", came.Reason, server)
		}
	})
}
