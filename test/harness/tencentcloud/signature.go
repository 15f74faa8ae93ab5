package tencentcloud

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// algorithm is the one way of signing that is taken.
const algorithm = "TC3-HMAC-SHA256"

// maxSkew is how far a caller's clock may be off.
const maxSkew = 5 * time.Minute

// fault is an error as the API answers it.
type fault struct{ code, message string }

func faultf(code, format string, args ...any) *fault {
	return &fault{code, fmt.Sprintf(format, args...)}
}

// authorization is a signature as a header carries it.
type authorization struct {
	secretID, date, service string
	headers                 []string
	signature               []byte
}

// parseAuthorization reads an Authorization header.
func parseAuthorization(text string) (authorization, *fault) {
	invalid := faultf("AuthFailure.InvalidAuthorization", "The Authorization header is not as it should be.")
	parameters, found := strings.CutPrefix(text, algorithm+" ")
	if !found {
		return authorization{}, invalid
	}
	values := map[string]string{}
	for parameter := range strings.SplitSeq(parameters, ",") {
		name, value, found := strings.Cut(strings.TrimSpace(parameter), "=")
		if _, twice := values[name]; !found || twice {
			return authorization{}, invalid
		}
		values[name] = value
	}
	scope := strings.Split(values["Credential"], "/")
	signature, err := hex.DecodeString(values["Signature"])
	if len(values) != 3 || len(scope) != 4 || scope[3] != "tc3_request" || err != nil || len(signature) != sha256.Size {
		return authorization{}, invalid
	}
	return authorization{scope[0], scope[1], scope[2], strings.Split(values["SignedHeaders"], ";"), signature}, nil
}

// check says whether a request bears the signature of a secret key and is of now.
func (a authorization) check(r *http.Request, body []byte, secretKey string, now time.Time) *fault {
	seconds, err := strconv.ParseInt(r.Header.Get("X-TC-Timestamp"), 10, 64)
	if err != nil {
		return faultf("InvalidParameter", "X-TC-Timestamp is not a number.")
	}
	at := time.Unix(seconds, 0).UTC()
	if at.Format(time.DateOnly) != a.date {
		return faultf("AuthFailure.SignatureFailure", "The date of the credential scope is not that of X-TC-Timestamp.")
	}
	if at.Before(now.Add(-maxSkew)) || at.After(now.Add(maxSkew)) {
		return faultf("AuthFailure.SignatureExpire",
			"The signature has expired: the timestamp differs from the server's by more than five minutes.")
	}
	if !slices.Contains(a.headers, "host") || !slices.Contains(a.headers, "content-type") || !slices.IsSorted(a.headers) {
		return faultf("AuthFailure.InvalidAuthorization", "SignedHeaders must hold content-type and host, in order.")
	}
	if !hmac.Equal(a.signature, a.expected(r, body, secretKey)) {
		return faultf("AuthFailure.SignatureFailure", "The provided credentials could not be validated. Please check your signature is correct.")
	}
	return nil
}

// expected returns the signature that a request would bear.
func (a authorization) expected(r *http.Request, body []byte, secretKey string) []byte {
	var canonical strings.Builder
	fmt.Fprintf(&canonical, "%s\n/\n%s\n", r.Method, r.URL.RawQuery)
	for _, name := range a.headers {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		fmt.Fprintf(&canonical, "%s:%s\n", name, strings.TrimSpace(value))
	}
	fmt.Fprintf(&canonical, "\n%s\n%x", strings.Join(a.headers, ";"), sha256.Sum256(body))
	toSign := fmt.Sprintf("%s\n%s\n%s/%s/tc3_request\n%x",
		algorithm, r.Header.Get("X-TC-Timestamp"), a.date, a.service, sha256.Sum256([]byte(canonical.String())))
	signing := []byte("TC3" + secretKey)
	for _, part := range []string{a.date, a.service, "tc3_request", toSign} {
		mac := hmac.New(sha256.New, signing)
		mac.Write([]byte(part))
		signing = mac.Sum(nil)
	}
	return signing
}
