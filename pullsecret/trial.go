package pullsecret

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// Trial says how to find out whether registries take the credential, as an ImagePullSecret asks for it.
type Trial struct {
	// Image is one that the credential should be able to pull; blank where only a login is tried.
	Image string
	// Interval is about how long after one login the next one follows.
	Interval time.Duration
	// Realms are hosts of other domains that the credential may be sent to.
	Realms []string
	// CA names the Secret in the manager's namespace that holds the CAs to trust for the registry; blank for those of the system.
	CA string
	// Disabled leaves the credential unchecked.
	Disabled bool
}

// Equal reports whether both make the same check, however often.
func (t Trial) Equal(other Trial) bool {
	return t.Image == other.Image && t.CA == other.CA && t.Disabled == other.Disabled && slices.Equal(t.Realms, other.Realms)
}

const (
	// defaultInterval is how often a credential is checked where spec.check.interval is blank.
	defaultInterval = time.Hour
	maxImage        = 1024
)

// imageForm is the pattern that the name of an image must match, as in the CRD.
var imageForm = regexp.MustCompile(`^(([a-z0-9.-]+(:[0-9]{1,5})?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*` +
	`(:[A-Za-z0-9_][-.A-Za-z0-9_]{0,127})?(@sha256:[0-9a-f]{64})?)?$`)

// MaxRealms is how many realms there may be.
const MaxRealms = 16

// parseCheck parses spec.check, which may be absent. Any text in it may be a password by mistake: no error repeats one.
func parseCheck(path *field.Path, spec *v1.CredentialCheck) (Trial, field.ErrorList) {
	trial := Trial{Interval: defaultInterval}
	if spec == nil {
		return trial, nil
	}
	var errs field.ErrorList
	form := func(path *field.Path, value string, longest int, form *regexp.Regexp, says string) {
		checkForm(&errs, path, value, longest, form, says)
	}
	form(path.Child("image"), spec.Image, maxImage, imageForm,
		"must be the name of an image, such as team/app:v1, without a scheme or blanks and with a path in lower case")
	form(path.Child("interval"), spec.Interval, maxPeriod, periodForm,
		"must be at least 1m and at most 99999h, in hours, minutes and seconds, such as 1h or 1m30s")
	at := path.Child("realms")
	if len(spec.Realms) > MaxRealms {
		errs = append(errs, field.TooMany(at, len(spec.Realms), MaxRealms))
	} else {
		errs = append(errs, checkHosts(at, spec.Realms)...)
	}
	trial.Image, trial.Realms, trial.Disabled = spec.Image, spec.Realms, spec.Disabled
	if period, err := time.ParseDuration(spec.Interval); err == nil {
		trial.Interval = period
	}
	if reference := spec.CASecretRef; reference != nil {
		errs = append(errs, checkReference(path.Child("caSecretRef", "name"), reference.Name)...)
		trial.CA = reference.Name
	}
	return trial, errs
}

// CheckRealms checks the hosts that a credential may be sent to. No error repeats one that may be a password.
func CheckRealms(path *field.Path, hosts []string) field.ErrorList { return checkHosts(path, hosts) }

// checkHosts checks a list of hosts. None may be in it twice.
func checkHosts(path *field.Path, hosts []string) (errs field.ErrorList) {
	for i, host := range hosts {
		errs = append(errs, checkServer(path.Index(i), host)...)
		if slices.Contains(hosts[:i], host) {
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("must not hold a host twice: leave out number %d", i+1)))
		}
	}
	return errs
}
