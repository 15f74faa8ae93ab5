package diagnose

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/image"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// redacted removes from an error the parts of URLs that may hold credentials.
func redacted(text string) string {
	return userInfo.ReplaceAllString(query.ReplaceAllString(text, "?…"), "://…@")
}

var (
	query    = regexp.MustCompile(`\?[^\s"]+`)
	userInfo = regexp.MustCompile(`://[^\s"/@]+@`)
)

// broken returns findings about Secrets of the pod's entries that make its kubelet drop all of its credentials.
func (e *Evidence) broken() (findings []Finding) {
	for _, name := range e.Pod.Entries {
		secret, found := e.secret(name)
		if !found || secret.Problem == "" {
			continue
		}
		if issuer, ours := e.issuerOf(name); ours && issuer.Invalid == "" {
			findings = append(findings, e.stale(issuer, "no kubelet can read it: "+secret.Problem)...)
			continue
		}
		findings = append(findings, Finding{
			Reason: SiblingSecretBroken, Object: e.named(name),
			Message: fmt.Sprintf("no kubelet can read it: %s. Because of that, kubelets drop all credentials of every pod that lists it",
				secret.Problem),
			Action: "correct the Secret (kubectl create secret docker-registry writes a valid one), or remove it from the service " +
				"account and delete the pod",
		})
	}
	return findings
}

func (e *Evidence) issuerOf(secret string) (Issuer, bool) {
	i := slices.IndexFunc(e.Issuers, func(issuer Issuer) bool { return issuer.Secret == secret })
	if i < 0 {
		return Issuer{}, false
	}
	return e.Issuers[i], true
}

// refused returns the findings for a pull that depends on a credential.
func (f failure) refused() []Finding {
	if f.class == unreadable {
		return f.unread()
	}
	if !f.saw(PartSecrets) && len(f.Pod.Entries) > 0 {
		return f.undecided()
	}
	for _, name := range f.Pod.Entries {
		if secret, found := f.secret(name); found && secret.covers(f.repository) {
			if issuer, ours := f.issuerOf(name); ours {
				return f.refusedOurs(issuer, secret)
			}
		}
	}
	issuers := f.issuers()
	for _, name := range f.Pod.Entries {
		if secret, found := f.secret(name); found && secret.covers(f.repository) {
			return f.refusedOther(secret, issuers)
		}
	}
	if len(issuers) == 0 {
		return f.nobody()
	}
	return f.notCovered(issuers)
}

// unread returns the finding where the kubelet could not read a Secret that can be read by now.
func (f failure) unread() []Finding {
	if !f.saw(PartSecrets) {
		return f.undecided()
	}
	return f.backingOff("every Secret that the pod lists can be read now")
}

func (f failure) undecided() []Finding {
	return f.found(Undecided, f.pod(), "the registry %s refused %s: %s. The Secrets of the namespace would tell why, but they "+
		"could not be read",
		"ask again as someone who may get secrets in namespace "+f.Pod.Namespace, f.host, f.Image, f.excerpt())
}

func (f failure) backingOff(why string) []Finding {
	when := "within five minutes"
	if next := f.nextTry(); !next.IsZero() {
		when = "at about " + next.UTC().Format("15:04:05 MST")
		if !next.After(f.Now) {
			when = "within seconds"
		}
	}
	return f.found(BackingOff, f.pod(), "%s, but the kubelet's last attempt began before that: it tries again %s",
		"wait, or "+f.recreate(), why, when)
}

// refusedOurs returns the findings for a pull that the registry refused although the pod has the Secret that an ImagePullSecret issues.
func (f failure) refusedOurs(issuer Issuer, secret Secret) []Finding {
	switch object := "imagepullsecret " + issuer.Name; {
	case issuer.Sum != "" && issuer.Sum != secret.Sum:
		return f.stale(issuer, "it holds another credential")
	case !f.triedAt().IsZero() && secret.Updated.After(f.triedAt()):
		return f.backingOff(fmt.Sprintf("its Secret %s was renewed at %s", secret.Name, secret.Updated.UTC().Format("15:04:05 MST")))
	case f.class == scope:
		return f.found(InsufficientScope, object, "the registry %s knows its user, who may not pull %s: %s",
			"give the user of the ImagePullSecret the right to pull "+f.repository+" there, or check whether that repository exists",
			f.host, f.Image, f.excerpt())
	case !issuer.ExpiresAt.IsZero() && issuer.ExpiresAt.Before(f.Now):
		return append(issuer.unread(), f.found(CredentialExpired, object, "its credential for %s ended at %s",
			issuer.renew("write a new one into "),
			f.host, issuer.ExpiresAt.UTC().Format("2006-01-02 15:04 MST"))...)
	default:
		return append(issuer.unread(), f.found(CredentialRefused, object, "the registry %s refused its credential, which the pod has: %s",
			issuer.renew("write a valid user name and password into "), f.host, f.refusal(issuer))...)
	}
}

// refusal returns what is known about a credential that was refused.
func (f failure) refusal(issuer Issuer) string {
	said := f.excerpt()
	if issuer.Refused != "" {
		said += ". To the manager, the registry said: " + issuer.Refused
	}
	if issuer.Sum == "" && issuer.Unread == "" && issuer.Registry == "" {
		said += ". Whether it is what " + issuer.Source + " holds now could not be seen"
	}
	return said
}

// renew says how to get another credential for an Issuer: somebody writes one, or the cloud issues it.
func (i *Issuer) renew(write string) string {
	if i.Registry == "" {
		return write + i.source() + "; every Secret follows within seconds"
	}
	return "kubectl tcr status " + i.Name + " says whether the cloud renews it; check in the registry's console whether somebody has " +
		"disabled or deleted the token of registry instance " + i.Registry
}

// source returns where the credential is stored.
func (i *Issuer) source() string {
	if i.Source == "" {
		return "the ImagePullSecret"
	}
	return "the " + i.Source
}

// unread returns a finding if the credential cannot be read from where it is stored, or is not issued.
func (i *Issuer) unread() []Finding {
	if i.NotIssued != "" {
		return []Finding{{
			Reason: CredentialNotIssued, Object: "imagepullsecret " + i.Name,
			Message: fmt.Sprintf("the cloud does not issue or renew its credential for registry instance %s, and what it issued before "+
				"stays in place: %s", i.Registry, i.NotIssued),
			Action: "do what the message says; the manager asks the cloud again by itself",
		}}
	}
	if i.Unread == "" {
		return nil
	}
	return []Finding{{
		Reason: CredentialUnread, Object: i.Source,
		Message: fmt.Sprintf("ImagePullSecret %s takes its credential from there, and what it issued before stays in place: %s",
			i.Name, i.Unread),
		Action: "do what the message says; the credential is then issued everywhere within seconds",
	}}
}

// repaired says when the manager repairs a Secret, in a verb of the caller's.
func (i *Issuer) repaired(does string) string {
	switch {
	case i.NotIssued != "":
		return "the manager " + does + " it as soon as the cloud issues the credential"
	case i.Unread != "":
		return "the manager " + does + " it as soon as the credential can be read"
	}
	return "the manager " + does + " it within seconds; if not, see kubectl tcr status " + i.Name
}

// refusedOther returns the findings for a pull that the registry refused although the pod has somebody else's credential.
func (f failure) refusedOther(secret Secret, issuers []Issuer) []Finding {
	if !f.saw(PartImagePullSecrets) {
		return f.found(CredentialRefused, f.named(secret.Name), "the registry %s refused its credential, and it could not be seen whether "+
			"that is the one that is issued now: %s",
			"ask again as someone who may list imagepullsecrets.tcr.tencentcloudcr.com", f.host, f.excerpt())
	}
	if len(issuers) == 0 {
		return f.found(OtherRegistry, f.named(secret.Name), "the registry %s refused its credential. No ImagePullSecret names that host: %s",
			"correct that Secret, or create an ImagePullSecret for "+f.host, f.host, f.excerpt())
	}
	if found := f.notCovered(issuers); found[0].Reason == PodListsItsOwn || found[0].Reason == OptedOut || found[0].Reason == NotSelected {
		found[0].Message += fmt.Sprintf(". It has a credential for %s in its Secret %s, which the registry refused", f.host, secret.Name)
		return found
	}
	return append(f.notCovered(issuers), Finding{
		Reason: CredentialRefused, Object: f.named(secret.Name),
		Message: fmt.Sprintf("the registry %s refused its credential: %s", f.host, f.excerpt()),
		Action:  "correct that Secret, which is not one of ours, or remove it from the pod's list",
	})
}

// issuers returns the ImagePullSecrets for the image: first those that select the account, then those that may do so.
func (f failure) issuers() []Issuer {
	var selecting, undecided, others []Issuer
	for _, issuer := range f.Issuers {
		covers := slices.ContainsFunc(issuer.Servers, func(server string) bool { return Covers(server, f.repository) })
		switch {
		case covers && issuer.Namespace && issuer.Account && issuer.Invalid == "":
			selecting = append(selecting, issuer)
		case covers && issuer.LabelsUnseen && issuer.Account:
			undecided = append(undecided, issuer)
		case covers:
			others = append(others, issuer)
		}
	}
	return slices.Concat(selecting, undecided, others)
}

// nobody returns the findings for a refused pull from a host that no ImagePullSecret names.
func (f failure) nobody() []Finding {
	absent := slices.DeleteFunc(slices.Clone(f.Pod.Entries), func(name string) bool {
		_, found := f.secret(name)
		return found
	})
	if !f.saw(PartImagePullSecrets) && len(absent) > 0 {
		return f.found(SecretMissing, f.named(absent[0]), "the pod lists it, but it does not exist, and nothing else covers %s",
			"ask again as someone who may list imagepullsecrets.tcr.tencentcloudcr.com", f.host)
	}
	if !f.saw(PartImagePullSecrets) {
		return f.found(Undecided, f.pod(), "the registry %s refused %s, for which the pod has no credential. Whether an "+
			"ImagePullSecret names that host could not be seen",
			"ask again as someone who may list imagepullsecrets.tcr.tencentcloudcr.com", f.host, f.Image)
	}
	unplaced := f.unplaced()
	if len(unplaced) > 0 && !f.saw(PartDomains) {
		return f.found(Undecided, f.pod(), "the registry %s refused %s, for which the pod has no credential. It could not be seen whether "+
			"that is the domain of registry instance %s of ImagePullSecret %s",
			"ask again as someone who may list derivedattachments.tcr.tencentcloudcr.com",
			f.host, f.Image, unplaced[0].Registry, unplaced[0].Name)
	}
	lists := "no Secret that the pod lists covers it"
	if len(absent) > 0 {
		lists += " (not found: " + strings.Join(absent, ", ") + ")"
	}
	var before []Finding
	for _, issuer := range unplaced {
		lists += fmt.Sprintf(" (the domain of registry instance %s of ImagePullSecret %s is not known yet)", issuer.Registry, issuer.Name)
		before = append(before, issuer.unread()...)
	}
	return append(before, f.found(NoCredentialForServer, "image "+f.Image, "no ImagePullSecret is for the host %s, and %s: %s",
		"create an ImagePullSecret with docker.server: "+f.serverToWrite()+", or check whether the image's name is right",
		f.host, lists, f.excerpt())...)
}

// unplaced returns the ImagePullSecrets whose registry's domain is not known, so that the image may be from there.
func (f failure) unplaced() []Issuer {
	return slices.DeleteFunc(slices.Clone(f.Issuers), func(issuer Issuer) bool { return !issuer.DomainUnknown })
}

func (f failure) serverToWrite() string {
	if f.host == "docker.io" {
		return image.DockerHub
	}
	return f.host
}

// notCovered returns the findings for a pull for which an ImagePullSecret has the credential, but the pod lacks it.
func (f failure) notCovered(issuers []Issuer) []Finding {
	issuer := issuers[0]
	switch {
	case issuer.Invalid != "":
		return f.found(InvalidObject, "imagepullsecret "+issuer.Name, "it is for %s, but its spec is invalid: %s",
			"correct the field that the message names",
			f.host, issuer.Invalid)
	case f.Namespace.OptedOut:
		return f.optedOut("namespace "+f.Pod.Namespace, issuer)
	case f.Account.OptedOut:
		return f.optedOut(f.account(), issuer)
	case !issuer.Namespace && !issuer.LabelsUnseen, !issuer.Account:
		return f.notSelected(issuer)
	case slices.Contains(f.Pod.Entries, issuer.Secret):
		return f.listed(issuer)
	case !f.saw(PartAccount):
		return f.found(Undecided, f.pod(), "it does not list the Secret %s. Whether its account does could not be seen",
			"ask again as someone who may get serviceaccounts in namespace "+f.Pod.Namespace, issuer.Secret)
	case slices.Contains(f.Account.Entries, issuer.Secret):
		return f.notCopied(issuer)
	case issuer.LabelsUnseen:
		return f.found(Undecided, f.pod(), "it has no credential for %s. ImagePullSecret %s has one, and selects namespaces by their "+
			"labels (%s). The labels of namespace %s could not be seen",
			"ask again as someone who may get namespaces", f.host, issuer.Name, issuer.Selector, f.Pod.Namespace)
	default:
		return f.entryMissing(issuer)
	}
}

// notSelected returns the finding for an ImagePullSecret that does not select the pod's account or namespace.
func (f failure) notSelected(issuer Issuer) []Finding {
	what, action := "service account "+f.Pod.Account, "add the account to spec.serviceAccounts of the ImagePullSecret"
	if !issuer.Namespace {
		what, action = "namespace "+f.Pod.Namespace, "add the namespace to spec.namespaces of the ImagePullSecret"
		switch {
		case issuer.Excluded:
			what, action = what+", which its spec.excludedNamespaces lists", "take the namespace out of spec.excludedNamespaces "+
				"of the ImagePullSecret"
		case issuer.Selector != "":
			what += ", whose labels do not match its spec.namespaceSelector (" + issuer.Selector + ")"
			action = "label the namespace accordingly, or " + action
		}
	}
	return f.found(NotSelected, "imagepullsecret "+issuer.Name, "it has the credential for %s, but does not select the %s",
		action+"; then "+f.recreate(), f.host, what)
}

func (f failure) optedOut(object string, issuer Issuer) []Finding {
	return f.found(OptedOut, object, "its label %s keeps out the credential of ImagePullSecret %s, which is for %s",
		"remove the label, then "+f.recreate(), v1.OptOutLabel+`: "`+v1.OptOutValue+`"`, issuer.Name, f.host)
}

// listed returns the findings for a Secret that the pod lists, and that lacks what it should hold.
func (f failure) listed(issuer Issuer) []Finding {
	secret, found := f.secret(issuer.Secret)
	switch {
	case !found:
		return slices.Concat(f.managerDown(), issuer.unread(), f.found(SecretMissing, f.named(issuer.Secret),
			"the pod lists it, but it does not exist%s",
			issuer.repaired("creates"), f.managerSays(issuer, issuer.Secret)))
	case secret.Type != "kubernetes.io/dockerconfigjson":
		return f.found(SecretForeign, f.named(issuer.Secret), "somebody else created it, with type %s, under the name that the Secret for %s "+
			"must have",
			"delete or rename it; the manager then creates its own within seconds", secret.Type, f.host)
	default:
		return f.stale(issuer, "it holds no credential for "+f.host)
	}
}

// stale returns the findings for a Secret that is not what its ImagePullSecret issues.
func (e *Evidence) stale(issuer Issuer, how string) []Finding {
	return slices.Concat(e.managerDown(), issuer.unread(), []Finding{{
		Reason: SecretStale, Object: e.named(issuer.Secret),
		Message: fmt.Sprintf("it is not what ImagePullSecret %s issues now: %s%s", issuer.Name, how, e.managerSays(issuer, issuer.Secret)),
		Action:  issuer.repaired("updates"),
	}})
}

func (f failure) entryMissing(issuer Issuer) []Finding {
	if !f.Account.Found {
		return f.found(EntryMissing, f.account(), "it no longer exists", "create the service account, then "+f.recreate())
	}
	message := "it does not list the Secret " + issuer.Secret + f.managerSays(issuer, f.Pod.Account)
	if f.saw(PartAttachment) && !f.Manager.Attaches {
		message += ". Accounts are not born with it here: neither the webhook that attaches Secrets nor the admission policy is installed"
	}
	if !f.saw(PartNamespace) {
		message += ". Whether its namespace has opted out could not be seen"
	}
	return append(f.managerDown(), Finding{
		Reason: EntryMissing, Object: f.account(), Message: message,
		Action: "the manager adds it within seconds; then " + f.recreate(),
	})
}

// notCopied returns the finding for an entry that the account has, but the pod lacks.
func (f failure) notCopied(issuer Issuer) []Finding {
	foreign := slices.DeleteFunc(slices.Clone(f.Pod.Entries), func(name string) bool { return slices.Contains(f.Account.Entries, name) })
	if len(foreign) > 0 {
		action := "remove imagePullSecrets from the pod's template, add " + issuer.Secret + " to it, or write spec.pods: MatchingImages in the " +
			"ImagePullSecret"
		ours := func(name string) bool { return strings.HasPrefix(name, pullsecret.SecretPrefix) }
		if issuer.Pods != "" && !slices.ContainsFunc(f.Pod.Entries, ours) {
			action = "spec.pods of the ImagePullSecret is " + issuer.Pods + ", which applies only to pods created after it was set: " + f.recreate()
		}
		return f.found(PodListsItsOwn, f.pod(), "it lists imagePullSecrets of its own (%s), so the account's are not copied into "+
			"it: %s is missing", action, strings.Join(foreign, ", "), issuer.Secret)
	}
	return f.found(PodOlderThanEntry, f.pod(), "its service account lists %s, but did not when the pod was created, and a pod's list "+
		"never changes",
		f.recreate(), issuer.Secret)
}
