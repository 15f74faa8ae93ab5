// Package crd checks whether the cluster's CustomResourceDefinitions have the fields that this release writes. The API server
// silently prunes what a definition does not know: with a definition of another release, a status would never show what was written
// to it, and would be written again and again. Helm never replaces a definition, so an upgrade, or taking over from another
// installation, leaves the old one.
package crd

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Kind is a kind of the product's API group.
type Kind struct {
	Name   string // such as ImagePullSecret
	Plural string // such as imagepullsecrets
	// Fields are paths that its definition must have, such as status.failures[].reason.
	Fields []string
}

// Of returns a kind with all fields of its Go type, except those that every object has.
func Of(name, plural string, object any) Kind {
	kind := Kind{Name: name, Plural: plural}
	kind.collect("", reflect.TypeOf(object))
	slices.Sort(kind.Fields)
	return kind
}

func (k *Kind) collect(path string, of reflect.Type) {
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	switch {
	case of.Kind() == reflect.Slice && of.Elem().Kind() != reflect.Uint8:
		k.collect(path+"[]", of.Elem())
		return
	case of.Kind() != reflect.Struct || reflect.PointerTo(of).Implements(reflect.TypeFor[json.Marshaler]()):
		k.Fields = append(k.Fields, path)
		return
	}
	for i := range of.NumField() {
		field := of.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case field.Type == reflect.TypeFor[metav1.TypeMeta](), field.Type == reflect.TypeFor[metav1.ObjectMeta]():
		case name == "" && field.Anonymous:
			k.collect(path, field.Type)
		case path == "":
			k.collect(name, field.Type)
		default:
			k.collect(path+"."+name, field.Type)
		}
	}
}

// Lack is what a kind's definition lacks.
type Lack struct {
	Kind   Kind
	Absent bool     // the kind is not served at all
	Fields []string // otherwise the missing ones, sorted
}

// definition is the part of an OpenAPI schema that is needed here.
type definition struct {
	Properties map[string]definition     `json:"properties"`
	Items      *definition               `json:"items"`
	AnyFields  any                       `json:"x-kubernetes-preserve-unknown-fields"`
	Kinds      []schema.GroupVersionKind `json:"x-kubernetes-group-version-kind"`
}

// Lacks compares kinds with the OpenAPI v3 document of their group and version, as the API server publishes it. An empty document
// means that the group is not served.
func Lacks(document []byte, version schema.GroupVersion, kinds []Kind) ([]Lack, error) {
	var published struct {
		Components struct{ Schemas map[string]definition }
	}
	if len(document) > 0 {
		if err := json.Unmarshal(document, &published); err != nil {
			return nil, fmt.Errorf("reading the OpenAPI document of %s: %w", version, err)
		}
	}
	served := map[schema.GroupVersionKind]definition{}
	for _, d := range published.Components.Schemas {
		for _, kind := range d.Kinds {
			served[kind] = d
		}
	}
	var lacks []Lack
	for _, kind := range kinds {
		d, found := served[version.WithKind(kind.Name)]
		if !found {
			lacks = append(lacks, Lack{Kind: kind, Absent: true})
			continue
		}
		var missing []string
		for _, field := range kind.Fields {
			if !d.has(field) {
				missing = append(missing, field)
			}
		}
		if missing != nil {
			lacks = append(lacks, Lack{Kind: kind, Fields: missing})
		}
	}
	return lacks, nil
}

// has reports whether the API server keeps an object's field at that path.
func (d definition) has(path string) bool {
	for name := range strings.SplitSeq(path, ".") {
		if d.AnyFields == true {
			return true
		}
		name, list := strings.CutSuffix(name, "[]")
		next, found := d.Properties[name]
		if !found {
			return false
		}
		if d = next; list {
			if d.Items == nil {
				return d.AnyFields == true
			}
			d = *d.Items
		}
	}
	return true
}

// Remedy is the command that adds what is missing. It must be run in the folder with the release's files.
const Remedy = "kubectl apply --server-side --force-conflicts -f deploy/chart/crds/"

// Error says what is missing, and how to add it.
type Error struct {
	Group string
	Lacks []Lack
}

func (e *Error) Error() string {
	const named = 6 // more would not help
	var parts []string
	for _, lack := range e.Lacks {
		name := lack.Kind.Plural + "." + e.Group
		if lack.Absent {
			parts = append(parts, name+" does not exist")
			continue
		}
		fields := strings.Join(lack.Fields[:min(named, len(lack.Fields))], ", ")
		if more := len(lack.Fields) - named; more > 0 {
			fields += fmt.Sprintf(" and %d more", more)
		}
		parts = append(parts, name+" lacks "+fields)
	}
	return fmt.Sprintf("checking the CustomResourceDefinitions: they are not of this release: %s; replace them, which keeps all objects: %s",
		strings.Join(parts, "; "), Remedy)
}
