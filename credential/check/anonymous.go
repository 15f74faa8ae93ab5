package check

import (
	"context"
	"fmt"

	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/tcr-assistant/tcr-assistant/jwt"
)

// compared returns what a login proves that was made with a token, beside what somebody gets who shows no credential: there are services
// that give anybody a token, whatever password they are shown.
func (l *Login) compared(ctx context.Context, taken Result, path, token string) Result {
	guard := l.guard()
	status, err := l.attempt(ctx, guard, auth.EmptyCredential, path)
	last := guard.last(status, err)
	unknown := func(why Result) Result {
		why.Message = fmt.Sprintf("%s took the credential%s, and whether it asks for one at all cannot be told: %s", l.Server, l.forImage(), why.Message)
		return why
	}
	switch {
	case apart(token, guard.token):
		return taken
	case err == nil && succeeded(status):
		return Result{Unknown, "AnonymousAccess", fmt.Sprintf(
			"%s lets in whoever shows no credential, too%s, which proves nothing: name an image that is private", l.Server, l.forImage())}
	case guard.open:
		return unknown(l.unreached(guard, err))
	case fails(last.status):
		return unknown(failure(last.status, fmt.Sprintf("%s answered %d", guard.named(last.host), last.status)))
	default:
		return taken
	}
}

// apart reports whether two tokens say of themselves that the first is of somebody whom the other is not of.
func apart(token, other string) bool {
	subject := jwt.Read(token).Subject
	return subject != "" && other != "" && subject != jwt.Read(other).Subject
}
