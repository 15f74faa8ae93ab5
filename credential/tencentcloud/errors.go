package tencentcloud

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/tcr-assistant/tcr-assistant/backoff"
)

// Reason is why a call failed, in one word that conditions and metrics use.
type Reason string

// The reasons.
const (
	// Unauthorized: the caller is known, but its policy does not allow the action on the resource.
	Unauthorized Reason = "Unauthorized"
	// InstanceNotFound: the region has no registry of this id.
	InstanceNotFound Reason = "InstanceNotFound"
	// InstanceNotRunning: the registry is being created, or was stopped.
	InstanceNotRunning Reason = "InstanceNotRunning"
	// TokenNotFound: the token is gone, or the registry is.
	TokenNotFound Reason = "TokenNotFound"
	// QuotaExceeded: the registry has reached its quota of long-term tokens.
	QuotaExceeded Reason = "QuotaExceeded"
	// RateLimited: the account calls too often.
	RateLimited Reason = "RateLimited"
	// ClockSkew: this machine's clock is off by more than five minutes.
	ClockSkew Reason = "ClockSkew"
	// NoRoute: the API could not be reached, or the connection broke.
	NoRoute Reason = "NoRoute"
	// BadAnswer: the answer was not the API's, or not as documented.
	BadAnswer Reason = "BadAnswer"
	// CredentialRejected: the keys, or the identity that asked for keys, are wrong, revoked or expired.
	CredentialRejected Reason = "CredentialRejected"
	// CredentialMissing: there are no keys to call with.
	CredentialMissing Reason = "CredentialMissing"
	// Unsupported: the API says that it cannot do this, or does not understand it.
	Unsupported Reason = "Unsupported"
	// Internal: an error of the API itself.
	Internal Reason = "Internal"
)

// Error is the failure of a call. It contains no text of the other side, except for a code and an ID of the documented form.
type Error struct {
	Reason Reason
	// Action is what was called, such as tcr:CreateInstanceToken.
	Action string
	// Resource is what an Unauthorized action was called on, as policies spell it.
	Resource string
	Region   string
	// Skew is how far this machine's clock is ahead if the Reason is ClockSkew; negative if it is behind.
	Skew time.Duration
	// Code and RequestID are those of the API's answer; blank without one.
	Code, RequestID string

	advice string
	cause  error
}

// Error says what happened and what to do.
func (e *Error) Error() string {
	var text strings.Builder
	if e.Action != "" {
		fmt.Fprintf(&text, "calling %s: ", e.Action)
	}
	text.WriteString(e.advice)
	if e.Code != "" {
		text.WriteString(" (" + e.Code)
		if e.RequestID != "" {
			text.WriteString(", request " + e.RequestID)
		}
		text.WriteString(")")
	}
	return text.String()
}

// Unwrap returns the context's error if that ended the call.
func (e *Error) Unwrap() error { return e.cause }

// Transient reports whether the next try may succeed without any action of the user.
func (e *Error) Transient() bool {
	switch e.Reason {
	case RateLimited, NoRoute, BadAnswer, Internal, InstanceNotRunning:
		return true
	default:
		return false
	}
}

// Backoff returns how long to wait before the next try after that many failures in a row, at least 1. Transient failures are retried within
// a minute, all others within ten. random, in [0, 1), spreads the retries.
func (e *Error) Backoff(failures int, random float64) time.Duration {
	first, longest := 2*time.Second, 50*time.Second
	if !e.Transient() {
		first, longest = 15*time.Second, 8*time.Minute
	}
	wait := backoff.Doubled(first, failures-1, longest)
	return wait + time.Duration(float64(wait)*random/5)
}

var (
	codeForm     = regexp.MustCompile(`^[A-Z][A-Za-z]{2,50}(\.[A-Z][A-Za-z]{1,60})?$`)
	requestForm  = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	resourceForm = regexp.MustCompile(`resource \((qcs::[a-z]{2,20}:[a-z0-9-]{0,30}:(?:uin/[0-9]{1,20})?:[a-z]{1,20}/[a-z0-9*-]{1,60})\)`)
)

// classify returns what an error of the API means. skew is how far this machine's clock is ahead of the server's.
func classify(made call, code, message, requestID string, skew time.Duration) *Error {
	failure := &Error{Action: made.name(), Region: made.region}
	if codeForm.MatchString(code) {
		failure.Code = code
	}
	if requestForm.MatchString(requestID) {
		failure.RequestID = requestID
	}
	failure.Reason = reasonOf(code, made)
	switch failure.Reason {
	case Unauthorized:
		failure.Resource = made.resource
		if named := resourceForm.FindStringSubmatch(message); named != nil {
			failure.Resource = named[1]
		}
		failure.advice = fmt.Sprintf("allow the action %s on the resource %s in the caller's CAM policy", failure.Action, failure.Resource)
	case ClockSkew:
		failure.Skew = skew
		failure.advice = "set this machine's clock: it is off by more than five minutes"
		if skew != 0 {
			failure.advice = fmt.Sprintf("set this machine's clock: it is %s", offBy(skew))
		}
	default:
		failure.advice = adviceOf(failure.Reason, made)
	}
	return failure
}

func offBy(skew time.Duration) string {
	if skew < 0 {
		return skew.Abs().String() + " behind the API's"
	}
	return skew.String() + " ahead of the API's"
}

// reasonOf returns the reason for a code. The order matters: the API reports an exhausted quota as an internal error.
func reasonOf(code string, made call) Reason {
	family, detail, _ := strings.Cut(code, ".")
	switch {
	case detail == "SignatureExpire":
		return ClockSkew
	case family == "UnauthorizedOperation", detail == "UnauthorizedOperation", strings.HasPrefix(detail, "ErrUnauthorized"),
		detail == "ErrorTcrUnauthorized":
		return Unauthorized
	case family == "RequestLimitExceeded":
		return RateLimited
	case family == "LimitExceeded", detail == "ErrorOverLimit", strings.Contains(detail, "Quota"):
		return QuotaExceeded
	case family == "AuthFailure", detail == "WebIdentityTokenError", detail == "RoleNotFound":
		return CredentialRejected
	case detail == "ErrorInstanceNotRunning":
		return InstanceNotRunning
	case family == "ResourceNotFound", detail == "ErrNotExist":
		if _, ofToken := made.parameters["TokenId"]; ofToken {
			return TokenNotFound
		}
		return InstanceNotFound
	case family == "InternalError", family == "FailedOperation", family == "ResourceUnavailable":
		return Internal
	default:
		return Unsupported
	}
}

// adviceOf returns what to do, for the reasons whose advice depends on the call alone.
func adviceOf(reason Reason, made call) string {
	id, _ := made.parameters["RegistryId"].(string)
	switch reason {
	case InstanceNotFound:
		return fmt.Sprintf("region %s has no registry instance %q: correct spec.tcr.registryId or spec.tcr.region", made.region, id)
	case InstanceNotRunning:
		return fmt.Sprintf("the registry instance %q is not running: start it, or wait until it is created", id)
	case TokenNotFound:
		return fmt.Sprintf("the registry instance %q has no such token", id)
	case QuotaExceeded:
		return fmt.Sprintf("the registry instance %q has reached its quota of long-term access credentials: delete some, or raise the quota", id)
	case RateLimited:
		return "the account exceeds the API's rate limit: it is tried again"
	case CredentialRejected:
		return "the caller's key or identity is wrong, disabled or expired: replace it"
	case Internal:
		return "an error of the API itself: it is tried again"
	default:
		return "the API refuses this request: correct spec.tcr, or report it with the ID of the request"
	}
}
