package matchtest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// Password is in every spec that does not set another one. No message may hold it, or anything else with "hidden" in it.
const Password = "hidden-password"

// Spec is an ImagePullSecret that is accepted or refused.
type Spec struct {
	Name string
	// Manifest is the object as a user writes it, in JSON.
	Manifest []byte
	// Refused says whether Go refuses it, RefusedByCRD whether the CRD by itself does.
	Refused, RefusedByCRD bool
	// Path is the field that a refusal names. A refusal by Go contains Says, one by the API server CRDSays.
	Path, Says, CRDSays string
	// Untyped says that the Go types cannot hold it.
	Untyped bool
}

// Object returns the object, decoded into the Go types.
func (s *Spec) Object() (*v1.ImagePullSecret, error) {
	var object v1.ImagePullSecret
	return &object, json.Unmarshal(s.Manifest, &object)
}

// specCase is a Spec in the form of the table.
type specCase struct {
	Name string
	Set  map[string]any
	Path *string
	Says string
	Go   string
	CRD  string
	Only string
}

// Specs returns the cases of test/cases/specs.yaml. Their objects have that name, unless a case is about names.
func Specs(name string) ([]Spec, error) {
	var file struct{ Cases []specCase }
	if err := read("specs.yaml", &file); err != nil {
		return nil, err
	}
	specs := make([]Spec, len(file.Cases))
	for i, c := range file.Cases {
		manifest, err := manifest(name, c.Set)
		if err != nil {
			return nil, fmt.Errorf("reading the spec case %q: %w", c.Name, err)
		}
		s := Spec{Name: c.Name, Manifest: manifest, Says: c.Says + c.Go, CRDSays: c.Says + c.CRD, Untyped: c.Only == "crd"}
		if c.Path != nil {
			s.Path, s.Refused, s.RefusedByCRD = *c.Path, true, c.Only != "go"
		}
		if s.Refused && s.Says == "" && !s.Untyped || s.RefusedByCRD && s.CRDSays == "" {
			return nil, fmt.Errorf("reading the spec case %q: it must say what a refusal says", c.Name)
		}
		specs[i] = s
	}
	return specs, nil
}

// manifest returns a valid object in which some fields are set to other values.
func manifest(name string, set map[string]any) ([]byte, error) {
	docker := map[string]any{"username": "robot", "password": Password, "server": "registry.example.com"}
	ofDocker := []string{"username", "password", "server", "secretRef", "additionalServers"}
	if set["tcr"] != nil { // it is a source of its own
		docker = map[string]any{}
	}
	spec := map[string]any{"namespaces": "*", "serviceAccounts": "*", "docker": docker}
	metadata := map[string]any{"name": name}
	for field, value := range set {
		object := spec
		if slices.Contains(ofDocker, field) {
			object = docker
		}
		if rest, ofMetadata := strings.CutPrefix(field, "/"); ofMetadata {
			object, field = metadata, rest
		}
		if value == nil {
			delete(object, field)
			continue
		}
		written, err := written(value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", field, err)
		}
		object[field] = written
	}
	if set["tcr"] != nil && len(docker) == 0 {
		delete(spec, "docker")
	}
	return json.Marshal(map[string]any{
		"apiVersion": v1.GroupVersion.String(), "kind": "ImagePullSecret", "metadata": metadata, "spec": spec,
	})
}

// written returns a value in which each description of a text or a list is replaced by what it describes.
func written(value any) (any, error) {
	switch value := value.(type) {
	case []any:
		for i := range value {
			var err error
			if value[i], err = written(value[i]); err != nil {
				return nil, err
			}
		}
		return value, nil
	case map[string]any:
		if value["text"] != nil || value["names"] != nil {
			return described(value)
		}
		if list := counted(value); list != nil {
			return list, nil
		}
		for field := range value {
			var err error
			if value[field], err = written(value[field]); err != nil {
				return nil, err
			}
		}
	}
	return value, nil
}

// counted returns the list or the map that a value describes by its number of entries; nil where it describes none.
func counted(value map[string]any) any {
	count := func(kind string) (int, bool) { number, found := value[kind].(float64); return int(number), found }
	if items, described := count("items"); described {
		return slices.Repeat([]any{value["of"]}, items)
	}
	if numbered, described := count("numbered"); described {
		names := make([]string, numbered)
		for i := range names {
			names[i] = fmt.Sprint("n", i)
		}
		return names
	}
	if entries, described := count("entries"); described {
		labels := make(map[string]string, entries)
		for i := range entries {
			labels[fmt.Sprint("n", i)] = ""
		}
		return labels
	}
	return nil
}

// described returns the text that a value describes.
func described(value map[string]any) (any, error) {
	encoded, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	var text struct {
		Before, Text, After  string
		Times, Names, Length int
	}
	if err := json.Unmarshal(encoded, &text); err != nil {
		return nil, err
	}
	if text.Names == 0 {
		return text.Before + strings.Repeat(text.Text, text.Times) + text.After, nil
	}
	names := make([]string, text.Names)
	for i := range names {
		names[i] = fmt.Sprintf("%0*d", text.Length, i)
	}
	return strings.Join(names, ","), nil
}
