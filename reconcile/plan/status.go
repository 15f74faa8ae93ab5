package plan

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

const (
	// maxUpdates bounds each of the status' two lists: an object that named 10,000 Secrets would not fit in etcd.
	maxUpdates = 200
	// maxNames bounds the names in each of the two lists, in bytes: names that are long make the list shorter, so that the
	// status stays below 100 KB whatever things are called.
	maxNames = 16 << 10
)

// Reasons of the condition Ready.
const (
	ReasonComplete    = "Complete"    // everything selected has the current credential
	ReasonProgressing = "Progressing" // writes are on their way
	ReasonFailing     = "Failing"     // some writes do not succeed; the failures say why
	ReasonInvalidSpec = "InvalidSpec" // the spec cannot be read; what was issued before is left as it is
	// the credential cannot be read where it stands; what was issued before is left as it is
	ReasonCredentialUnread = "CredentialUnread"
)

// ReasonIssued is that of the condition CredentialIssued where it is True. Otherwise it is what the cloud's API says.
const ReasonIssued = "Issued"

// Summarize counts how far a rule has got, and lists the newest of what is done and the worst of what fails. old is what
// the status was: it knows of writes that were made before this process watched, so that a restart changes nothing. unseen
// is why the cluster cannot be seen, which counts as failing too.
func Summarize(rule *pullsecret.Rule, state *State, old v1.ImagePullSecretStatus, now time.Time, unseen ...v1.Failure) v1.ImagePullSecretStatus {
	failures := append(slices.Clone(unseen), state.Failures(rule.Name)...)
	failures = append(failures, Unread(rule, old, now)...)
	status := v1.ImagePullSecretStatus{ObservedGeneration: rule.Generation, Conditions: slices.Clone(old.Conditions)}
	issued := int64(0)
	secrets, accounts := newNewest(old.SecretUpdateSuccessful), newNewest(old.ServiceAccountsModifySuccessful)
	var out v1.OptedOut
	state.Each(rule.Namespaces, func(namespace *Namespace) {
		if namespace.OptOut == pullsecret.OptedOut {
			out.Namespaces++
			return
		}
		status.SecretsDesired++
		if secret, found := namespace.Secret(rule.Secret); found && Current(secret, rule) {
			status.SecretsSuccess++
			if issued == 0 || secret.Updated < issued {
				issued = secret.Updated
			}
			secrets.add(secret.Updated, namespace.Name, secret.Name)
		}
		for _, account := range namespace.Accounts {
			if !rule.ServiceAccounts.Matches(account.Name) {
				continue
			}
			if account.OptOut == pullsecret.OptedOut {
				out.ServiceAccounts++
				continue
			}
			status.SAsDesired++
			if slices.Contains(account.Secrets, rule.Secret) {
				status.SAsSuccess++
				accounts.add(account.Updated, namespace.Name, account.Name)
			}
		}
	})
	if out != (v1.OptedOut{}) {
		status.OptedOut = &out
	}
	status.SecretUpdateSuccessful = secrets.updates()
	status.ServiceAccountsModifySuccessful = accounts.updates()
	status.Failures = worst(failures)
	status.Credential = credentialStatus(rule, issued)
	meta.SetStatusCondition(&status.Conditions, ready(status, rule, len(failures), now))
	return status
}

// credentialStatus says where a rule's credential comes from, and when the oldest Secret that holds it was written.
func credentialStatus(rule *pullsecret.Rule, issued int64) *v1.CredentialStatus {
	status := &v1.CredentialStatus{Source: v1.SourceInline}
	if rule.Reference != "" {
		status.Source = v1.SourceSecret + rule.Reference
	}
	if rule.Registry != nil {
		status.Source = v1.SourceTCR + rule.Registry.ID
	}
	if issued > 0 {
		at := metav1.Unix(issued, 0)
		status.IssuedAt = &at
	}
	if ends := rule.Ends(); !ends.IsZero() {
		at := metav1.NewTime(ends.Truncate(time.Second))
		status.ExpiresAt = &at
	}
	status.ExpiryUnread = rule.Expiry.Unread
	return status
}

// Unread returns why the credential of a rule cannot be read where it stands, as a failure; none where it can.
func Unread(rule *pullsecret.Rule, old v1.ImagePullSecretStatus, now time.Time) []v1.Failure {
	if rule.Unread == nil {
		return nil
	}
	failure := v1.Failure{NamespacedName: rule.Unread.Object, Reason: rule.Unread.Reason, Message: shortened(rule.Unread.Message), Since: metav1.NewTime(now)}
	for _, known := range old.Failures {
		if known.NamespacedName == failure.NamespacedName && known.Reason == failure.Reason {
			failure.Since = known.Since
		}
	}
	return []v1.Failure{failure}
}

// Reject is the status of an ImagePullSecret whose spec cannot be read: as it was, and not ready.
func Reject(problem error, generation int64, old v1.ImagePullSecretStatus, now time.Time) v1.ImagePullSecretStatus {
	status := *old.DeepCopy()
	status.ObservedGeneration = generation
	meta.SetStatusCondition(&status.Conditions, metav1.Condition{
		Type: v1.ConditionReady, Status: metav1.ConditionFalse, Reason: ReasonInvalidSpec,
		Message:            problem.Error() + "; what was issued before is left as it is",
		ObservedGeneration: generation, LastTransitionTime: metav1.NewTime(now),
	})
	return status
}

// Blind is the status of an ImagePullSecret while the API server does not let us see what has become of it: as it was, and
// not ready.
func Blind(failures []v1.Failure, generation int64, old v1.ImagePullSecretStatus, now time.Time) v1.ImagePullSecretStatus {
	status := *old.DeepCopy()
	status.ObservedGeneration = generation
	status.Failures = worst(failures)
	meta.SetStatusCondition(&status.Conditions, metav1.Condition{
		Type: v1.ConditionReady, Status: metav1.ConditionFalse, Reason: ReasonFailing,
		Message:            "the counts are those of before: what there is now cannot be seen, see status.failures",
		ObservedGeneration: generation, LastTransitionTime: metav1.NewTime(now),
	})
	return status
}

// SetOutdated returns the conditions with the one that says, only while it is so, that what is derived is not what the
// ImagePullSecret of that name says now.
func SetOutdated(conditions []metav1.Condition, problem *pullsecret.Outdated, name string, generation int64, now time.Time) []metav1.Condition {
	if !problem.Concerns(name) {
		meta.RemoveStatusCondition(&conditions, v1.ConditionAttachmentsOutdated)
		return conditions
	}
	meta.SetStatusCondition(&conditions, metav1.Condition{
		Type: v1.ConditionAttachmentsOutdated, Status: metav1.ConditionTrue, Reason: problem.Reason, Message: shortened(explained(problem.Message) + "; meanwhile " + problem.Meanwhile),
		ObservedGeneration: generation, LastTransitionTime: metav1.NewTime(now),
	})
	return conditions
}

// SetIssued returns the conditions with the one that says whether the cloud issues and renews a rule's credential, where it is to.
func SetIssued(conditions []metav1.Condition, rule *pullsecret.Rule, now time.Time) []metav1.Condition {
	if rule.Registry == nil {
		meta.RemoveStatusCondition(&conditions, v1.ConditionCredentialIssued)
		return conditions
	}
	condition := metav1.Condition{
		Type: v1.ConditionCredentialIssued, Status: metav1.ConditionTrue, Reason: ReasonIssued, Message: "the cloud issues the credential",
		ObservedGeneration: rule.Generation, LastTransitionTime: metav1.NewTime(now),
	}
	if refused := rule.Renewal.Refused; refused != nil {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionFalse, refused.Reason, shortened(refused.Message)
	}
	meta.SetStatusCondition(&conditions, condition)
	return conditions
}

func ready(status v1.ImagePullSecretStatus, rule *pullsecret.Rule, failures int, now time.Time) metav1.Condition {
	condition := metav1.Condition{
		Type: v1.ConditionReady, Status: metav1.ConditionFalse,
		ObservedGeneration: status.ObservedGeneration, LastTransitionTime: metav1.NewTime(now),
	}
	counts := fmt.Sprintf("%d of %d secrets and %d of %d service accounts have the current credential",
		status.SecretsSuccess, status.SecretsDesired, status.SAsSuccess, status.SAsDesired)
	switch {
	case rule.Unread != nil:
		condition.Reason = ReasonCredentialUnread
		condition.Message = fmt.Sprintf("%s; what was issued before is left as it is: %s", rule.Unread.Message, counts)
		if failures > 1 {
			condition.Message += fmt.Sprintf("; %s, see status.failures", counted(failures, "failure"))
		}
	case failures > 0:
		condition.Reason, condition.Message = ReasonFailing, fmt.Sprintf("%s; %s, see status.failures", counts, counted(failures, "failure"))
	case status.SecretsSuccess < status.SecretsDesired || status.SAsSuccess < status.SAsDesired:
		condition.Reason, condition.Message = ReasonProgressing, counts
	default:
		condition.Status, condition.Reason, condition.Message = metav1.ConditionTrue, ReasonComplete, counts
	}
	return condition
}

// counted is a number of things.
func counted(number int, thing string) string {
	if number != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", number, thing)
}

// Progress is how far one ImagePullSecret has got: the counts of its status, as of the last look at it.
type Progress struct {
	ImagePullSecret                 string
	SecretsDesired, SecretsPresent  int32
	AccountsDesired, AccountsServed int32
	Ready                           bool
	// Credential is what is known of the credential itself.
	Credential CredentialProgress
	// Reached is whether the registry is reached from the private network that was asked for; nil where none was.
	Reached *bool
	// Failures counts what fails by reason, all of it.
	Failures map[string]int
}

// ProgressOf returns the progress that a status tells of, with all the failures, of which the status lists the worst. rule is nil where the
// spec cannot be read.
func ProgressOf(name string, rule *pullsecret.Rule, status v1.ImagePullSecretStatus, failures []v1.Failure) Progress {
	return Progress{
		ImagePullSecret: name,
		SecretsDesired:  status.SecretsDesired, SecretsPresent: status.SecretsSuccess,
		AccountsDesired: status.SAsDesired, AccountsServed: status.SAsSuccess,
		Ready:      meta.IsStatusConditionTrue(status.Conditions, v1.ConditionReady),
		Credential: credentialOf(rule, status),
		Reached:    reachedOf(status),
		Failures:   countReasons(failures),
	}
}
