package pullsecret

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// Pod is what decides which Secrets a pod that lists pull secrets of its own also gets.
type Pod struct {
	Namespace      string
	ServiceAccount string // blank means "default"
	// Images are those of its containers, init containers and image volumes.
	Images []string
}

// account returns the name of the pod's service account.
func (p *Pod) account() string {
	if p.ServiceAccount == "" {
		return "default"
	}
	return p.ServiceAccount
}

// isServed reports whether the pod gets the Secret of a rule that selects its account. pods is what the rule says about pods; gives
// reports whether the rule's credential is for a server.
func (p *Pod) isServed(pods string, gives func(server string) bool) bool {
	// Any other value gives nothing.
	return pods == v1.PodsAll || pods == v1.PodsMatchingImages && p.pullsFrom(gives)
}

// pullsFrom reports whether some image comes from a server for which gives is true.
func (p *Pod) pullsFrom(gives func(server string) bool) bool {
	return slices.ContainsFunc(p.Images, func(image string) bool {
		host := hostOf(image)
		return gives(host) || host == dockerHub && gives(dockerHubIndex)
	})
}

// Docker Hub is the registry of images that name none. Credentials and images' names call it by either of these names.
const (
	dockerHub      = "docker.io"
	dockerHubIndex = "index.docker.io"
)

// hostOf returns the registry that an image's name begins with, as container runtimes read it: the text before the first "/" is a host
// if it holds "." or ":", or is "localhost", or is not in lower case.
func hostOf(image string) string {
	host, _, found := strings.Cut(image, "/")
	isHost := strings.ContainsAny(host, ".:") || host == "localhost" || host != strings.ToLower(host)
	if !found || !isHost || host == dockerHubIndex {
		return dockerHub
	}
	return host
}

// parsePods reads spec.pods.
func parsePods(path *field.Path, pods string) (string, field.ErrorList) {
	switch pods {
	case "", v1.PodsNever:
		return "", nil
	case v1.PodsMatchingImages, v1.PodsAll:
		return pods, nil
	}
	return "", field.ErrorList{field.NotSupported(path, quoted(pods), []string{v1.PodsNever, v1.PodsMatchingImages, v1.PodsAll})}
}

// PodSecrets returns the names of the Secrets that a pod gets if it lists pull secrets of its own, in alphabetical order. The
// admission policy for pods, which reads the same parts, decides the same. labels is as for Secrets.
func (a *Attachments) PodSecrets(pod *Pod, labels func() Labels) (secrets []string) {
	if !a.pods || a.bars(pod) {
		return nil
	}
	for rule := range a.selecting(pod.Namespace, a.ask(labels)) {
		if selects(rule, pod.account()) && pod.isServed(rule.Pods, func(server string) bool { return gives(rule, server) }) {
			secrets = append(secrets, rule.Secret)
		}
	}
	slices.Sort(secrets)
	return slices.Compact(secrets)
}

// bars reports whether some part says that the pods of the account get nothing.
func (a *Attachments) bars(pod *Pod) bool {
	for i := range a.parts {
		if _, barred := slices.BinarySearch(a.parts[i].Barred[pod.Namespace], pod.account()); barred {
			return true
		}
	}
	return false
}

// AsksOfPods reports whether some rule gives its Secret to pods that list pull secrets of their own.
func (a *Attachments) AsksOfPods() bool { return a.pods }

// PodSecrets returns the same as Attachments.PodSecrets does for the parts that are derived from the rules.
func (r *Rules) PodSecrets(pod *Pod, labels func() Labels) (secrets []string) {
	if !r.servesPods() || r.barred.holds(pod.Namespace, pod.account()) {
		return nil
	}
	for _, rule := range r.In(pod.Namespace, r.ask(labels)) {
		given := func(server string) bool { return slices.Contains(rule.Servers, server) }
		if rule.ServiceAccounts.Matches(pod.account()) && pod.isServed(rule.Pods, given) {
			secrets = append(secrets, rule.Secret)
		}
	}
	return secrets
}

// AsksOfPods reports whether some rule gives its Secret to pods that list pull secrets of their own.
func (r *Rules) AsksOfPods() bool { return r.asking > 0 }

// BarredKnown reports whether it is known which accounts' pods get nothing. Until then, no pod gets anything.
func (r *Rules) BarredKnown() bool { return r.barred.known }

// servesPods reports whether pods that list pull secrets of their own get any of ours.
func (r *Rules) servesPods() bool {
	return r.asking > 0 && r.barred.known && r.barred.size <= maxBarred
}

// unserved returns the names of the rules that serve no pods because too many accounts are barred.
func (r *Rules) unserved() (names []string) {
	if r.asking == 0 || r.servesPods() || !r.barred.known {
		return nil
	}
	for rule := range r.All() {
		if rule.Pods != "" {
			names = append(names, rule.Name)
		}
	}
	slices.Sort(names)
	return names
}

// maxBarred bounds the list of barred accounts, in bytes of JSON, since each part holds it. Several thousand accounts fit.
const maxBarred = maxPart / 4

// barred are the service accounts whose pods get nothing. It is immutable.
type barred struct {
	known    bool
	accounts table[[]string] // by namespace, sorted
	size     int             // in bytes of JSON
}

func (b barred) holds(namespace, account string) bool {
	accounts, _ := b.accounts.get(namespace)
	_, found := slices.BinarySearch(accounts, account)
	return found
}

// with returns what is barred once bar holds of an account; false where it already does.
func (b barred) with(namespace, account string, bar bool) (barred, bool) {
	accounts, listed := b.accounts.get(namespace)
	i, found := slices.BinarySearch(accounts, account)
	if found == bar {
		return b, false
	}
	edit := b.accounts.draft()
	switch {
	case bar:
		if !listed {
			b.size += listSize(namespace)
		}
		b.size += entrySize(account)
		edit.set(namespace, slices.Insert(slices.Clip(accounts), i, account))
	case len(accounts) == 1:
		b.size -= listSize(namespace) + entrySize(account)
		edit.delete(namespace)
	default:
		b.size -= entrySize(account)
		edit.set(namespace, slices.Delete(slices.Clone(accounts), i, i+1))
	}
	b.accounts = edit.done()
	return b, true
}

// all returns what is barred in the form that parts hold it; nil where nothing is.
func (b barred) all() map[string][]string {
	if b.accounts.size == 0 {
		return nil
	}
	all := make(map[string][]string, b.accounts.size)
	for namespace, accounts := range b.accounts.all() {
		all[namespace] = accounts
	}
	return all
}

// Bar takes in whether the pods of a service account get nothing. Before the first BarExactly, it does nothing.
func (i *Index) Bar(namespace, account string, bar bool) {
	i.bar(func(before barred) (barred, bool) {
		if !before.known {
			return before, false
		}
		return before.with(namespace, account, bar)
	})
}

// BarExactly takes in the service accounts whose pods get nothing: these, by namespace, and no others.
func (i *Index) BarExactly(accounts map[string][]string) {
	next := barred{known: true}
	edit := next.accounts.draft()
	for namespace, names := range accounts {
		if len(names) == 0 {
			continue
		}
		names = slices.Sorted(slices.Values(names))
		edit.set(namespace, names)
		next.size += listSize(namespace)
		for _, name := range names {
			next.size += entrySize(name)
		}
	}
	next.accounts = edit.done()
	i.bar(func(before barred) (barred, bool) { return next, !before.equal(next) })
}

func (b barred) equal(other barred) bool {
	if b.known != other.known || b.accounts.size != other.accounts.size || b.size != other.size {
		return false
	}
	for namespace, accounts := range b.accounts.all() {
		if others, _ := other.accounts.get(namespace); !slices.Equal(accounts, others) {
			return false
		}
	}
	return true
}

// bar changes what is barred, and tells those who observe it.
func (i *Index) bar(change func(barred) (next barred, changed bool)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	next := *i.Rules()
	var changed bool
	if next.barred, changed = change(next.barred); !changed {
		return
	}
	if next.attaching != nil {
		attaching := *next.attaching
		attaching.barred, next.attaching = next.barred, &attaching
	}
	i.current.Store(&next)
	for observe := range i.barring {
		(*observe)()
	}
}

// ObserveBarred calls f after each change of the service accounts whose pods get nothing. It returns a function that ends that. f must
// not call back into the index, except to read its rules.
func (i *Index) ObserveBarred(f func()) (stop func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	key := &f
	i.barring[key] = struct{}{}
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		delete(i.barring, key)
	}
}
