package check

import (
	"context"
	"fmt"

	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/tcr-assistant/tcr-assistant/jwt"
)

// compared returns what a login with a token proves, compared with one without a credential: some services give anybody a token, whatever
// the password.
func (l *Login) compared(ctx context.Context, taken Result, path, token string) Result {
	guard := l.guard()
	status, err := l.attempt(ctx, guard, auth.EmptyCredential, path)
	last := guard.last(status, err)
	unknown := func(why Result) Result {
		why.Message = fmt.Sprintf("%s took the credential%s, but it is unknown whether it asks for one at all: %s",
			l.Server, l.forImage(), why.Message)
		return why
	}
	switch {
	case apart(token, guard.token):
		return taken
	case err == nil && succeeded(status):
		return Result{Unknown, "AnonymousAccess", fmt.Sprintf(
			"%s also lets in clients without a credential%s, so this proves nothing: name an image that is private", l.Server, l.forImage())}
	case guard.open:
		return unknown(l.unreached(guard, err))
	case fails(last.status):
		return unknown(failure(last.status, fmt.Sprintf("%s answered %d", guard.named(last.host), last.status)))
	default:
		return taken
	}
}

// apart reports whether both tokens exist, and the first names a subject that the other does not name.
func apart(token, other string) bool {
	subject := jwt.Read(token).Subject
	return subject != "" && other != "" && subject != jwt.Read(other).Subject
}
