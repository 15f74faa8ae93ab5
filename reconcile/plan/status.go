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
	// maxUpdates limits each of the two lists in the status: an object that named 10,000 Secrets would not fit in etcd.
	maxUpdates = 200
	// maxNames limits the total length of the names in each of the two lists, in bytes: long names make the list shorter, so that the status
	// always stays below 100 KB.
	maxNames = 16 << 10
)

// Reasons of the condition Ready.
const (
	ReasonComplete    = "Complete"    // everything selected has the current credential
	ReasonProgressing = "Progressing" // writes are outstanding
	ReasonFailing     = "Failing"     // some writes do not succeed; the failures say why
	ReasonInvalidSpec = "InvalidSpec" // the spec is invalid; what was issued before is left as it is
	// the credential cannot be read from its source; what was issued before is left as it is
	ReasonCredentialUnread = "CredentialUnread"
)

// ReasonIssued is the reason of the condition CredentialIssued where it is True. Otherwise the reason is the cloud's.
const ReasonIssued = "Issued"

// Summarize counts the progress of a rule, and lists the newest writes and the worst failures. old is the previous status: it knows of
// writes from before this process started to watch, so that a restart changes nothing. unseen are the reasons why the cluster cannot be
// seen, which count as failures, too.
func Summarize(
	rule *pullsecret.Rule, state *State, old v1.ImagePullSecretStatus, now time.Time, unseen ...v1.Failure,
) v1.ImagePullSecretStatus {
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

// credentialStatus returns where a rule's credential comes from, and when the oldest Secret that holds it was written.
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

// Unread returns, as a failure, why the credential of a rule cannot be read from its source; none where it can.
func Unread(rule *pullsecret.Rule, old v1.ImagePullSecretStatus, now time.Time) []v1.Failure {
	if rule.Unread == nil {
		return nil
	}
	failure := v1.Failure{
		NamespacedName: rule.Unread.Object, Reason: rule.Unread.Reason, Message: shortened(rule.Unread.Message), Since: metav1.NewTime(now),
	}
	for _, known := range old.Failures {
		if known.NamespacedName == failure.NamespacedName && known.Reason == failure.Reason {
			failure.Since = known.Since
		}
	}
	return []v1.Failure{failure}
}

// Reject returns the status of an ImagePullSecret whose spec is invalid: as it was, and not ready.
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

// Blind returns the status of an ImagePullSecret while the API server does not let us see its Secrets and accounts: as it was, and not
// ready.
func Blind(failures []v1.Failure, generation int64, old v1.ImagePullSecretStatus, now time.Time) v1.ImagePullSecretStatus {
	status := *old.DeepCopy()
	status.ObservedGeneration = generation
	status.Failures = worst(failures)
	meta.SetStatusCondition(&status.Conditions, metav1.Condition{
		Type: v1.ConditionReady, Status: metav1.ConditionFalse, Reason: ReasonFailing,
		Message:            "the counts may be outdated, since the current state cannot be seen: see status.failures",
		ObservedGeneration: generation, LastTransitionTime: metav1.NewTime(now),
	})
	return status
}

// SetOutdated returns the conditions with AttachmentsOutdated, which is there only while the derived attachments are not what the
// ImagePullSecret of that name says.
func SetOutdated(
	conditions []metav1.Condition, problem *pullsecret.Outdated, name string, generation int64, now time.Time,
) []metav1.Condition {
	if !problem.Concerns(name) {
		meta.RemoveStatusCondition(&conditions, v1.ConditionAttachmentsOutdated)
		return conditions
	}
	meta.SetStatusCondition(&conditions, metav1.Condition{
		Type: v1.ConditionAttachmentsOutdated, Status: metav1.ConditionTrue, Reason: problem.Reason,
		Message:            shortened(explained(problem.Message) + "; meanwhile " + problem.Meanwhile),
		ObservedGeneration: generation, LastTransitionTime: metav1.NewTime(now),
	})
	return conditions
}

// SetIssued returns the conditions with CredentialIssued, which says whether the cloud issues and renews a rule's credential, where the
// rule asks for that.
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

// counted returns a number of things, in the singular or plural.
func counted(number int, thing string) string {
	if number != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", number, thing)
}

// Progress is how far one ImagePullSecret has got: the counts of its status, when that was last computed.
type Progress struct {
	ImagePullSecret                 string
	SecretsDesired, SecretsPresent  int32
	AccountsDesired, AccountsServed int32
	Ready                           bool
	// Credential is what is known about the credential.
	Credential CredentialProgress
	// Reached is whether the registry is reachable from the private network that the spec asks for; nil where it asks for none.
	Reached *bool
	// Failures is the number of failures by reason, including those that the status does not list.
	Failures map[string]int
}

// ProgressOf returns the progress that a status shows. failures are all of them; the status lists only the worst. rule is nil where the
// spec is invalid.
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
