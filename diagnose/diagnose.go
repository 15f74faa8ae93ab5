package diagnose

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tcr-assistant/tcr-assistant/image"
)

// Diagnose says what is wrong with the pulls of the pod.
func (e Evidence) Diagnose() Report {
	var report Report
	var failing []Pull
	for _, pull := range e.Pod.Pulls {
		if pull.Waiting != "" {
			failing = append(failing, pull)
		}
	}
	if len(failing) == 0 {
		report.add(Finding{Reason: Healthy, Object: e.pod(), Message: "no image of it waits to be pulled"})
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

// see takes in what could not be looked at and may matter to a failure of a class.
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

// failure is one pull that failed, seen with all else.
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

// silent is a kubelet that tells that it waits, and not what for.
var silent = regexp.MustCompile(`^Back-off pulling image "[^"]*"$`)

// unexplained is a failure whose error is gone, or none that is known. Where the credential is not there, that is why.
func (f failure) unexplained() []Finding {
	if f.Error == "" || silent.MatchString(f.Error) {
		if found := f.refused(); found[0].Reason != CredentialRefused && found[0].Reason != NoCredentialForServer {
			return found
		}
		return f.found(PullFailed, f.pod(), "pulling %s failed, and neither the pod nor its events say why: events last for an hour",
			"delete the pod, or wait for its next attempt, and ask again", f.Image)
	}
	return f.said()
}

// plain are the findings of failures that no credential and no hosts line would mend.
var plain = map[class]struct {
	reason Reason
	action string
}{
	rateLimit: {RateLimited, "wait, pull less often (imagePullPolicy: IfNotPresent), or pull as a user of whom the registry takes more"},
	certificate: {CertificateUnknown, "give the node's container runtime the registry's CA (containerd: " +
		"certs.d/HOST/hosts.toml), or the registry a certificate of a known CA; an address in the hosts file must be the registry's"},
	plainHTTP: {PlainHTTP, "serve the registry over HTTPS, or tell the node's container runtime that it is plain HTTP; look " +
		"whether the port is right"},
	notFound: {ImageNotFound, "look at the image's name and tag; some registries say so, too, of an image that the " +
		"credential may not see"},
	platform: {PlatformMissing, "push the image for the node's platform, too, or hold the pod to nodes of another one by a " +
		"nodeSelector"},
	throttled: {PullThrottled, "wait: the kubelet tries again by itself; its registryPullQPS bounds how many pulls it begins " +
		"in a second"},
	diskFull:      {NodeDiskFull, "make room on the node"},
	registryFails: {RegistryFails, "look at the registry: it answers, with an error of its own"},
	unknown:       {PullFailed, "see the message: it is the container runtime's"},
}

// said is a finding that the error itself names.
func (f failure) said() []Finding {
	what := plain[f.class]
	message := fmt.Sprintf("pulling %s%s ended in: %s", f.Image, f.onNode(), f.excerpt())
	if f.class == notFound && !f.covered() {
		message += fmt.Sprintf(". The pod has no credential for %s, so it asked as nobody", f.host)
	}
	return []Finding{{Reason: what.reason, Object: "image " + f.Image, Message: message, Action: what.action}}
}

func (f failure) covered() bool {
	return slices.ContainsFunc(f.Pod.Entries, func(name string) bool {
		secret, found := f.secret(name)
		return found && secret.covers(f.repository)
	})
}

// unreached is a registry that the node did not get to.
func (f failure) unreached() []Finding {
	reason, action := Timeout, "look at the way from the node to the registry: routes, security groups, proxies; if the registry "+
		"has a private address here, put it into global.hosts"
	if f.class == noSuchHost {
		reason, action = NameNotResolved, "look at the node's DNS and at the image's name; if the registry has a private address "+
			"here, put it into global.hosts"
	}
	host := hostOf(f.host)
	want, have := lineOf(f.Node.Configured, host), lineOf(f.Node.Lines, host)
	said := fmt.Sprintf("pulling %s%s ended in: %s", f.Image, f.onNode(), f.excerpt())
	switch {
	case want == nil:
		return []Finding{{Reason: reason, Object: "image " + f.Image, Message: said, Action: action}}
	case f.Node.Known && have == nil, !f.Node.Known && (f.Node.Updater == UpdaterMissing || f.Node.Updater == UpdaterNotReady):
		return f.found(HostsLineMissing, "node "+f.node(), "its hosts file should give %s the address %s: %s. %s",
			"kubectl get pods -n "+f.Node.Namespace+" -l app.kubernetes.io/component=hosts-updater -o wide, and the log of the "+
				"one on this node",
			host, want.IP, f.updater(), said)
	case f.overruled() != nil:
		return f.found(HostsLineOverruled, "node "+f.node(), "its hosts file gives %s the address %s, before the line with %s. %s",
			"remove the other line from the node's /etc/hosts, and see the log of hosts-updater there, which puts its own line first: "+
				"kubectl get pods -n "+f.Node.Namespace+" -l app.kubernetes.io/component=hosts-updater -o wide",
			host, have.IP, want.IP, said)
	}
	return f.found(reason, "image "+f.Image, "%s. hosts-updater gives %s the address %s there",
		"look whether that is still the registry's address, and at the way to it", said, host, want.IP)
}

// overruled returns the line of the node's hosts file that wins over what is configured for the host; nil where none is known to.
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

// NeedsLines reports whether the lines of the node's hosts file decide about a failure: of a pull from a host that is to have one, and
// that the node did not get to.
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

// lineOf returns the line that a resolver takes for a host: the first one.
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

// noise is what would break a line.
var noise = strings.NewReplacer("\n", " ", "\t", " ")

// preamble is what kubelets and container runtimes put before what went wrong.
var preamble = regexp.MustCompile(`^(Back-off pulling image "[^"]*": |ErrImagePull: |Failed to pull image "[^"]*": |` +
	`rpc error: code = \w+ desc = |` +
	`failed to pull and unpack image "[^"]*": |failed to resolve reference "[^"]*": )+`)

// excerpt is what the error says behind its preamble.
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

// recreate says how to get a pod that copies its account's entries anew.
func (e *Evidence) recreate() string {
	command := fmt.Sprintf("kubectl delete pod -n %s %s", e.Pod.Namespace, e.Pod.Name)
	if e.Pod.Owner == "" {
		return command + ", and create it again: nothing does so by itself"
	}
	return command + ": its " + strings.Fields(e.Pod.Owner)[0] + " makes a new one"
}
