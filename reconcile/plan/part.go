package plan

import (
	"iter"
	"sync"
)

// Part is what of a namespace is to be compared with the rules: single objects, or all of it. Its zero value is nothing. What is
// decided of an object depends on the rules, the namespace itself and, of an account, on the Secrets that it lists. So news of an
// object concern that object alone, unless a Secret came, went or changed hands.
type Part struct {
	all     bool
	objects map[localKey]struct{}
	secrets int // of those objects
}

// Whole is all of a namespace.
func Whole() Part { return Part{all: true} }

// PartOf is these objects alone.
func PartOf(keys ...ObjectKey) Part {
	var part Part
	for _, key := range keys {
		part.add(key)
	}
	return part
}

// IsWhole reports whether it is all of a namespace.
func (p Part) IsWhole() bool { return p.all }

// Empty reports whether it is nothing.
func (p Part) Empty() bool { return !p.all && len(p.objects) == 0 }

// Holds reports whether an object is in it.
func (p Part) Holds(key ObjectKey) bool { return p.holds(key.local()) }

// Keys are what it was made of: the namespace's key where it is all of that, or else its objects, in no order.
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

// Agenda gathers what is to be compared, until it is taken: what happens meanwhile to one namespace is one part of it. Its zero value
// holds nothing.
type Agenda struct {
	mu    sync.Mutex
	parts map[string]Part // by namespace
}

// Add puts down an object, or all of a namespace where the key names none.
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

// Take returns what was put down of a namespace since the last time.
func (a *Agenda) Take(namespace string) Part {
	a.mu.Lock()
	defer a.mu.Unlock()
	part := a.parts[namespace]
	delete(a.parts, namespace)
	return part
}
