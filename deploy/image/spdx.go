package main

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// document is an SPDX 2.3 document, as far as it is used: https://spdx.github.io/spdx-spec/v2.3/.
type document struct {
	Version       string         `json:"spdxVersion"`
	DataLicense   string         `json:"dataLicense"`
	ID            string         `json:"SPDXID"`
	Name          string         `json:"name"`
	Namespace     string         `json:"documentNamespace"`
	Creation      creation       `json:"creationInfo"`
	Packages      []part         `json:"packages"`
	Relationships []relationship `json:"relationships"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type part struct {
	ID               string      `json:"SPDXID"`
	Name             string      `json:"name"`
	Version          string      `json:"versionInfo"`
	DownloadLocation string      `json:"downloadLocation"`
	FilesAnalyzed    bool        `json:"filesAnalyzed"`
	LicenseConcluded string      `json:"licenseConcluded"`
	LicenseDeclared  string      `json:"licenseDeclared"`
	Copyright        string      `json:"copyrightText"`
	References       []reference `json:"externalRefs,omitempty"`
}

type reference struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

// spdx lists the modules that the linker put into each command of the folder, and the Go that made them.
func spdx(folder, version, digest string) ([]byte, error) {
	doc := document{
		Version: "SPDX-2.3", DataLicense: "CC0-1.0", ID: "SPDXRef-DOCUMENT",
		Name: "tcr-assistant-" + version, Namespace: "https://github.com/tcr-assistant/tcr-assistant/spdx/" + digest,
		Creation: creation{Created: epoch.Format("2006-01-02T15:04:05Z"), Creators: []string{"Tool: tcr-assistant-image"}},
	}
	for _, command := range commands {
		info, err := buildinfo.ReadFile(filepath.Join(folder, command))
		if err != nil {
			return nil, fmt.Errorf("reading what %s was made of: %w", command, err)
		}
		binary := newPart(command, version)
		doc.add(binary)
		doc.relate(doc.ID, "DESCRIBES", binary.ID)
		goRelease := newPart("stdlib", strings.TrimPrefix(info.GoVersion, "go"))
		goRelease.References = purl("stdlib", strings.TrimPrefix(info.GoVersion, "go"))
		doc.add(goRelease)
		doc.relate(binary.ID, "STATIC_LINK", goRelease.ID)
		for _, module := range info.Deps {
			if module.Replace != nil {
				module = module.Replace
			}
			dependency := newPart(module.Path, module.Version)
			dependency.References = purl(module.Path, module.Version)
			doc.add(dependency)
			doc.relate(binary.ID, "STATIC_LINK", dependency.ID)
		}
	}
	return json.MarshalIndent(doc, "", " ")
}

// add adds a part, unless the document already has it.
func (d *document) add(p part) {
	if !slices.ContainsFunc(d.Packages, func(have part) bool { return have.ID == p.ID }) {
		d.Packages = append(d.Packages, p)
	}
}

func (d *document) relate(element, kind, related string) {
	d.Relationships = append(d.Relationships, relationship{element, kind, related})
}

// unsafe matches what an SPDX identifier must not contain.
var unsafe = regexp.MustCompile(`[^a-zA-Z0-9.-]+`)

func newPart(name, version string) part {
	const unknown = "NOASSERTION"
	return part{
		ID: "SPDXRef-" + unsafe.ReplaceAllString(name+"-"+version, "-"), Name: name, Version: version,
		DownloadLocation: unknown, LicenseConcluded: unknown, LicenseDeclared: unknown, Copyright: unknown,
	}
}

// purl returns the package URL of a Go module, by which scanners look up its vulnerabilities.
func purl(path, version string) []reference {
	return []reference{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + path + "@" + version}}
}
