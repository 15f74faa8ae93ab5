package plan

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// Problem is why one object could not be reconciled.
type Problem struct {
	// ImagePullSecret is the one whose rule it concerns.
	ImagePullSecret string
	// Account is whether the object is a ServiceAccount. Otherwise it is a Secret.
	Account bool
	v1.Failure
}

// local returns the key of its object within the namespace.
func (p Problem) local() localKey {
	_, name, _ := strings.Cut(p.NamespacedName, "/")
	return localKey{p.Account, name}
}

// ProblemsOf returns the problems that a failed write causes for the ImagePullSecrets that it was made for. A conflict is not a problem:
// it is retried at once.
func ProblemsOf(change Change, err error) []Problem {
	if err == nil || apierrors.IsConflict(err) || errors.Is(err, context.Canceled) {
		return nil
	}
	if undone := (*UndoneError)(nil); errors.As(err, &undone) && !undone.Repeated {
		return nil // so is a write that was undone once, which may not happen again
	}
	problems := concerned(change)
	for i := range problems {
		problems[i].Reason, problems[i].Message = ReasonOf(err), messageOf(err)
	}
	return problems
}

// concerned returns a problem, without reason and message, for each ImagePullSecret that a change is made for.
func concerned(change Change) []Problem {
	key := KeyOf(change)
	secrets := []string{key.Name}
	if edit, is := change.(EditAccount); is {
		secrets = edit.Secrets
	}
	problems := make([]Problem, len(secrets))
	for i, secret := range secrets {
		problems[i] = Problem{pullsecret.ImagePullSecretName(secret), key.Account, v1.Failure{NamespacedName: key.Namespace + "/" + key.Name}}
	}
	return problems
}

// Contended returns the problems of the ImagePullSecrets whose change is held back because it has been undone too often. namespace shows
// who wrote last.
func Contended(change Change, repairs Repairs, until time.Time, namespace Namespace) []Problem {
	who := "someone"
	if manager := lastWriter(change, namespace); manager != "" {
		who = fmt.Sprintf("%q", manager)
	}
	since, next := repairs.since.UTC().Format(time.RFC3339), until.UTC().Format(time.RFC3339)
	problems := concerned(change)
	for i := range problems {
		problems[i].Since.Time = repairs.since.Truncate(time.Second)
		if repairs.undone {
			problems[i].Reason = ReasonUndone
			problems[i].Message = fmt.Sprintf("%s; tried %d times since %s, next at %s",
				(&UndoneError{}).Error(), repairs.count, since, next)
			continue
		}
		problems[i].Reason = ReasonContended
		problems[i].Message = fmt.Sprintf(
			"%s undoes what is written here: repaired %d times since %s, next at %s. Make it leave this object alone",
			who, repairs.count, since, next)
	}
	return problems
}

// lastWriter returns the field manager that wrote the changed object after us; blank where that is not known.
func lastWriter(change Change, namespace Namespace) string {
	switch key := KeyOf(change); change.(type) {
	case IssueSecret, DeleteSecret:
		secret, _ := namespace.Secret(key.Name)
		return secret.Writer
	case EditAccount:
		account, _ := namespace.Account(key.Name)
		return account.Writer
	}
	return ""
}
