package diagnose

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tcr-assistant/tcr-assistant/image"
)

// Diagnose returns what is wrong with the pulls of the pod.
func (e Evidence) Diagnose() Report {
	var report Report
	var failing []Pull
	for _, pull := range e.Pod.Pulls {
		if pull.Waiting != "" {
			failing = append(failing, pull)
		}
	}
	if len(failing) == 0 {
		report.add(Finding{Reason: Healthy, Object: e.pod(), Message: "none of its images is waiting to be pulled"})
		return report
	}
	broken := e.broken()
	for _, finding := range broken {
		report.add(finding)
	}
	for _, pull := range failing {
		failure := failure{Evidence: &e, Pull: pull, class: classify(pull)}
		report.see(e.Unseen, failure.class)
		if failure.class.ofCredentials() && len(broken) > 0 {
			continue // the kubelet has sent none of the pod's credentials
		}
		for _, finding := range failure.findings() {
			report.add(finding)
		}
	}
	report.NextTry = nextTry(failing, e.Now)
	return report
}

// see adds what could not be read and may matter to a failure of a class.
func (r *Report) see(unseen []Unseen, class class) {
	for _, one := range unseen {
		local := one.Part == PartNode || one.Part == PartEvents
		if (local || class.ofCredentials() || class == unknown) && !slices.Contains(r.Unseen, one) {
			r.Unseen = append(r.Unseen, one)
		}
	}
}

// nextTry returns when the first of several pulls is tried again.
func nextTry(failing []Pull, now time.Time) (next time.Time) {
	for _, pull := range failing {
		at := pull.nextTry()
		if at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// failure is one pull that failed, together with all evidence.
type failure struct {
	*Evidence
	Pull
	class            class
	repository, host string
}

func (f failure) findings() []Finding {
	if f.class == badName {
		return f.found(ImageNameInvalid, f.pod(), "its image is %q, which is no image's name", "correct the name of the image", f.Image)
	}
	if f.class == never {
		return f.found(ImageNotOnNode, f.pod(), "its pull policy is Never, and node %s lacks %s, or the pod's credentials may not use it",
			"set imagePullPolicy: IfNotPresent, or load the image into the node", f.node(), f.Image)
	}
	name, err := image.Parse(f.Image)
	if err != nil {
		return f.found(ImageNameInvalid, f.pod(), "its image is %q, which is no image's name", "correct the name of the image", f.Image)
	}
	f.repository, f.host = name.Repository(), name.Host
	switch {
	case f.class.ofCredentials():
		return f.refused()
	case f.class == noSuchHost || f.class == timeout:
		return f.unreached()
	case f.class == certificate && f.overruled() != nil:
		return f.unreached() // it reached somebody else
	case f.class == unknown:
		return f.unexplained()
	default:
		return f.said()
	}
}

// silent matches the message of a kubelet that says that it waits, but not why.
var silent = regexp.MustCompile(`^Back-off pulling image "[^"]*"$`)

// unexplained returns the findings for a failure whose error is gone or unknown. If the credential is missing, that is the reason.
func (f failure) unexplained() []Finding {
	if f.Error == "" || silent.MatchString(f.Error) {
		if found := f.refused(); found[0].Reason != CredentialRefused && found[0].Reason != NoCredentialForServer {
			return found
		}
		return f.found(PullFailed, f.pod(), "pulling %s failed, and neither the pod nor its events say why: events are kept for an hour",
			"delete the pod, or wait for the next attempt, and ask again", f.Image)
	}
	return f.said()
}

// plain are the findings for failures that no credential and no hosts line would fix.
var plain = map[class]struct {
	reason Reason
	action string
}{
	rateLimit: {RateLimited, "wait, pull less often (imagePullPolicy: IfNotPresent), or pull as a user with a higher limit"},
	certificate: {CertificateUnknown, "give the node's container runtime the registry's CA (containerd: " +
		"certs.d/HOST/hosts.toml), or the registry a certificate of a known CA; check that an address in the hosts file is the registry's"},
	plainHTTP: {PlainHTTP, "serve the registry over HTTPS, or tell the node's container runtime that it is plain HTTP; check " +
		"whether the port is right"},
	notFound: {ImageNotFound, "check the image's name and tag; some registries give the same answer for an image that the " +
		"credential may not read"},
	platform: {PlatformMissing, "push the image for the node's platform, too, or use a nodeSelector to run the pod on nodes of another " +
		"platform"},
	throttled: {PullThrottled, "wait: the kubelet tries again by itself; its registryPullQPS limits how many pulls it begins " +
		"per second"},
	diskFull:      {NodeDiskFull, "free disk space on the node"},
	registryFails: {RegistryFails, "check the registry: it answers with an error of its own"},
	unknown:       {PullFailed, "see the message, which is the container runtime's"},
}

// said returns the finding that the error itself names.
func (f failure) said() []Finding {
	what := plain[f.class]
	message := fmt.Sprintf("pulling %s%s ended in: %s", f.Image, f.onNode(), f.excerpt())
	if f.class == notFound && !f.covered() {
		message += fmt.Sprintf(". The pod has no credential for %s, so the request was anonymous", f.host)
	}
	return []Finding{{Reason: what.reason, Object: "image " + f.Image, Message: message, Action: what.action}}
}

func (f failure) covered() bool {
	return slices.ContainsFunc(f.Pod.Entries, func(name string) bool {
		secret, found := f.secret(name)
		return found && secret.covers(f.repository)
	})
}

// unreached returns the findings for a registry that the node could not reach.
func (f failure) unreached() []Finding {
	reason, action := Timeout, "check the network from the node to the registry: routes, security groups, proxies; if the registry "+
		"has a private address here, add it to global.hosts"
	if f.class == noSuchHost {
		reason, action = NameNotResolved, "check the node's DNS and the image's name; if the registry has a private address "+
			"here, add it to global.hosts"
	}
	host := hostOf(f.host)
	want, have := lineOf(f.Node.Configured, host), lineOf(f.Node.Lines, host)
	said := fmt.Sprintf("pulling %s%s ended in: %s", f.Image, f.onNode(), f.excerpt())
	switch {
	case want == nil:
		return []Finding{{Reason: reason, Object: "image " + f.Image, Message: said, Action: action}}
	case f.Node.Known && have == nil, !f.Node.Known && (f.Node.Updater == UpdaterMissing || f.Node.Updater == UpdaterNotReady):
		return f.found(HostsLineMissing, "node "+f.node(), "its hosts file should give %s the address %s: %s. %s",
			"see kubectl get pods -n "+f.Node.Namespace+" -l app.kubernetes.io/component=hosts-updater -o wide, and the log of the "+
				"pod on this node",
			host, want.IP, f.updater(), said)
	case f.overruled() != nil:
		return f.found(HostsLineOverruled, "node "+f.node(), "its hosts file gives %s the address %s, before the line with %s. %s",
			"remove the other line from the node's /etc/hosts, and see the log of hosts-updater there, which puts its own line first: "+
				"kubectl get pods -n "+f.Node.Namespace+" -l app.kubernetes.io/component=hosts-updater -o wide",
			host, have.IP, want.IP, said)
	}
	return f.found(reason, "image "+f.Image, "%s. hosts-updater gives %s the address %s there",
		"check whether that is still the registry's address, and whether the node can reach it", said, host, want.IP)
}

// overruled returns the line of the node's hosts file that wins over what is configured for the host; nil if no such line is known.
func (f failure) overruled() *HostsLine {
	host := hostOf(f.host)
	have := lineOf(f.Node.Lines, host)
	if !f.Node.Known || have == nil || lineOf(f.Node.Configured, host) == nil {
		return nil
	}
	for _, line := range f.Node.Configured {
		if strings.EqualFold(line.Domain, host) && line.IP == have.IP {
			return nil
		}
	}
	return have
}

// NeedsLines reports whether the lines of the node's hosts file matter: whether the node could not reach a registry for which a line
// is configured.
func (e *Evidence) NeedsLines() bool {
	return slices.ContainsFunc(e.Pod.Pulls, func(pull Pull) bool {
		if pull.Waiting == "" || !slices.Contains([]class{noSuchHost, timeout, certificate}, classify(pull)) {
			return false
		}
		name, err := image.Parse(pull.Image)
		return err == nil && lineOf(e.Node.Configured, hostOf(name.Host)) != nil
	})
}

// hostOf returns a host without its port.
func hostOf(host string) string {
	name, _, _ := strings.Cut(host, ":")
	return name
}

// lineOf returns the line that a resolver uses for a host: the first one.
func lineOf(lines []HostsLine, host string) *HostsLine {
	i := slices.IndexFunc(lines, func(line HostsLine) bool { return strings.EqualFold(line.Domain, host) })
	if i < 0 {
		return nil
	}
	return &lines[i]
}

func (f failure) updater() string {
	switch {
	case f.Node.Known:
		return "it has no such line"
	case f.Node.Updater == UpdaterMissing:
		return "no pod of hosts-updater runs there"
	default:
		return "the pod of hosts-updater there is not ready"
	}
}

// maxExcerpt is how much of an error a finding repeats, in bytes.
const maxExcerpt = 300

// noise replaces characters that would break a line.
var noise = strings.NewReplacer("\n", " ", "\t", " ")

// preamble matches what kubelets and container runtimes put in front of the actual error.
var preamble = regexp.MustCompile(`^(Back-off pulling image "[^"]*": |ErrImagePull: |Failed to pull image "[^"]*": |` +
	`rpc error: code = \w+ desc = |` +
	`failed to pull and unpack image "[^"]*": |failed to resolve reference "[^"]*": )+`)

// excerpt returns the error without its preamble.
func (f failure) excerpt() string {
	text := preamble.ReplaceAllString(noise.Replace(redacted(f.Error)), "")
	text = strings.ToValidUTF8(text, "?")
	if text == "" {
		return f.Waiting
	}
	if len(text) > maxExcerpt {
		text = "… " + strings.ToValidUTF8(text[len(text)-maxExcerpt:], "")
	}
	return text
}

func (f failure) found(reason Reason, object, message, action string, args ...any) []Finding {
	return []Finding{{Reason: reason, Object: object, Message: fmt.Sprintf(message, args...), Action: action}}
}

func (e *Evidence) node() string {
	if e.Pod.Node == "" {
		return "(none)"
	}
	return e.Pod.Node
}

func (e *Evidence) onNode() string {
	if e.Pod.Node == "" {
		return ""
	}
	return " on node " + e.Pod.Node
}

func (e *Evidence) pod() string     { return "pod " + e.Pod.Namespace + "/" + e.Pod.Name }
func (e *Evidence) account() string { return "serviceaccount " + e.Pod.Namespace + "/" + e.Pod.Account }
func (e *Evidence) named(secret string) string {
	return "secret " + e.Pod.Namespace + "/" + secret
}

func (e *Evidence) secret(name string) (Secret, bool) {
	i := slices.IndexFunc(e.Secrets, func(s Secret) bool { return s.Name == name })
	if i < 0 {
		return Secret{}, false
	}
	return e.Secrets[i], true
}

func (s *Secret) covers(repository string) bool {
	return s.Problem == "" && slices.ContainsFunc(s.Servers, func(server string) bool { return Covers(server, repository) })
}

// recreate says how to replace the pod by one that copies its account's entries again.
func (e *Evidence) recreate() string {
	command := fmt.Sprintf("kubectl delete pod -n %s %s", e.Pod.Namespace, e.Pod.Name)
	if e.Pod.Owner == "" {
		return command + ", and create it again: no controller does so"
	}
	return command + ": its " + strings.Fields(e.Pod.Owner)[0] + " creates a new one"
}
