package plan

import (
	"iter"
	"sync"
)

// Part is the part of a namespace to compare with the rules: single objects, or all of it. Its zero value is empty. The decision about an
// object depends on the rules, on the namespace itself and, for an account, on the Secrets that it lists. So an event about an object
// concerns that object alone, unless a Secret was created, deleted or changed hands.
type Part struct {
	all     bool
	objects map[localKey]struct{}
	secrets int // of those objects
}

// Whole returns all of a namespace.
func Whole() Part { return Part{all: true} }

// PartOf returns the part that consists of these objects.
func PartOf(keys ...ObjectKey) Part {
	var part Part
	for _, key := range keys {
		part.add(key)
	}
	return part
}

// IsWhole reports whether it is all of a namespace.
func (p Part) IsWhole() bool { return p.all }

// Empty reports whether there is nothing in it.
func (p Part) Empty() bool { return !p.all && len(p.objects) == 0 }

// Holds reports whether an object is in it.
func (p Part) Holds(key ObjectKey) bool { return p.holds(key.local()) }

// Keys returns the namespace's key where it is all of the namespace, or else its objects, in no particular order.
func (p Part) Keys(namespace string) iter.Seq[ObjectKey] {
	return func(yield func(ObjectKey) bool) {
		if p.all {
			yield(NamespaceKey(namespace))
			return
		}
		for key := range p.objects {
			if !yield(ObjectKey{Namespace: namespace, Account: key.account, Name: key.name}) {
				return
			}
		}
	}
}

func (p Part) holds(key localKey) bool {
	if p.all {
		return true
	}
	_, found := p.objects[key]
	return found
}

// holdsSecrets reports whether any Secret may be in it.
func (p Part) holdsSecrets() bool { return p.all || p.secrets > 0 }

func (p *Part) add(key ObjectKey) {
	if p.all {
		return
	}
	if key.Name == "" {
		*p = Whole()
		return
	}
	if p.objects == nil {
		p.objects = map[localKey]struct{}{}
	}
	if _, found := p.objects[key.local()]; !found && !key.Account {
		p.secrets++
	}
	p.objects[key.local()] = struct{}{}
}

// Agenda gathers what has to be compared, until it is taken. Everything that happens to a namespace until then is one Part. Its zero
// value is ready to use.
type Agenda struct {
	mu    sync.Mutex
	parts map[string]Part // by namespace
}

// Add adds an object, or all of a namespace where the key names no object.
func (a *Agenda) Add(key ObjectKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.parts == nil {
		a.parts = map[string]Part{}
	}
	part := a.parts[key.Namespace]
	part.add(key)
	a.parts[key.Namespace] = part
}

// Take returns, and removes, what was added of a namespace.
func (a *Agenda) Take(namespace string) Part {
	a.mu.Lock()
	defer a.mu.Unlock()
	part := a.parts[namespace]
	delete(a.parts, namespace)
	return part
}
