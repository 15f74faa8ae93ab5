package plan

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// Failures returns everything that could not be reconciled for one ImagePullSecret.
func (s *State) Failures(imagePullSecret string) []v1.Failure {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var failures []v1.Failure
	for key := range s.troubled[imagePullSecret] {
		for _, problem := range s.namespaces[key.Namespace].problems[key.local()] {
			if problem.ImagePullSecret == imagePullSecret {
				failures = append(failures, problem.Failure)
			}
		}
	}
	return failures
}

// Problems returns what could not be reconciled in a namespace, in no particular order.
func (s *State) Problems(namespace string) (problems []Problem) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if known, found := s.namespaces[namespace]; found {
		for _, some := range known.problems {
			problems = append(problems, some...)
		}
	}
	return problems
}

// SetProblems records what could not be reconciled in a part of a namespace. It returns the ImagePullSecrets that have a problem there,
// or had one until now, and whether anything changed. A problem that existed before keeps its Since.
func (s *State) SetProblems(name string, part Part, problems []Problem) (concerned []string, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	namespace, found := s.namespaces[name]
	if !found || len(namespace.problems) == 0 && len(problems) == 0 {
		return nil, false
	}
	byObject := map[localKey][]Problem{}
	for _, problem := range problems {
		concerned = append(concerned, problem.ImagePullSecret)
		byObject[problem.local()] = append(byObject[problem.local()], problem)
	}
	for key := range part.among(namespace.problems) {
		for _, problem := range namespace.problems[key] {
			concerned = append(concerned, problem.ImagePullSecret)
		}
		if _, still := byObject[key]; !still {
			s.trouble(namespace, key, nil)
			changed = true
		}
	}
	for key, news := range byObject {
		keepSince(namespace.problems[key], news)
		changed = changed || !slices.Equal(namespace.problems[key], news)
		s.trouble(namespace, key, news)
	}
	return concerned, changed
}

// among returns those keys of known that are in the part.
func (p Part) among(known map[localKey][]Problem) (keys map[localKey]struct{}) {
	keys = map[localKey]struct{}{}
	if p.all {
		for key := range known {
			keys[key] = struct{}{}
		}
	}
	for key := range p.objects {
		if _, found := known[key]; found {
			keys[key] = struct{}{}
		}
	}
	return keys
}

// keepSince gives each problem of an object the time at which it began.
func keepSince(old, news []Problem) {
	type kind struct{ imagePullSecret, reason string }
	since := make(map[kind]metav1.Time, len(old))
	for _, problem := range old {
		since[kind{problem.ImagePullSecret, problem.Reason}] = problem.Since
	}
	for i, problem := range news {
		if began, found := since[kind{problem.ImagePullSecret, problem.Reason}]; found {
			news[i].Since = began
		}
	}
}

// trouble replaces the problems of an object.
func (s *State) trouble(namespace *Namespace, key localKey, problems []Problem) {
	object := ObjectKey{namespace.Name, key.account, key.name}
	for _, old := range namespace.problems[key] {
		if delete(s.troubled[old.ImagePullSecret], object); len(s.troubled[old.ImagePullSecret]) == 0 {
			delete(s.troubled, old.ImagePullSecret)
		}
	}
	if len(problems) == 0 {
		delete(namespace.problems, key)
		return
	}
	if namespace.problems == nil {
		namespace.problems = map[localKey][]Problem{}
	}
	namespace.problems[key] = problems
	for _, problem := range problems {
		if s.troubled[problem.ImagePullSecret] == nil {
			s.troubled[problem.ImagePullSecret] = map[ObjectKey]bool{}
		}
		s.troubled[problem.ImagePullSecret][object] = true
	}
}

// untrouble forgets the problems of a namespace.
func (s *State) untrouble(namespace *Namespace) {
	for key := range namespace.problems {
		s.trouble(namespace, key, nil)
	}
}
