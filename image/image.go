// Package image parses the names of images as container runtimes do, and says what follows from the hosts in them.
package image

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"
)

// DockerHub is how credentials call Docker Hub. The names of images call it docker.io, or omit it.
const DockerHub = "index.docker.io"

// Name is what an image's name means.
type Name struct {
	// Host is the registry's host with its port, if any; Path is the repository there. "nginx" means docker.io and library/nginx.
	Host, Path string
	// Version is the digest or else the tag; "latest" if there is neither.
	Version string
}

// Repository returns the host and the path.
func (n Name) Repository() string { return n.Host + "/" + n.Path }

// Parse parses an image's name.
func Parse(text string) (Name, error) {
	named, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		return Name{}, fmt.Errorf("reading the image's name %q: %w", text, err)
	}
	name := Name{Host: reference.Domain(named), Path: reference.Path(named), Version: "latest"}
	switch named := named.(type) {
	case reference.Digested:
		name.Version = named.Digest().String()
	case reference.Tagged:
		name.Version = named.Tag()
	}
	return name, nil
}

// HostOf returns the host that an image's name begins with; blank if it begins with the path. A host has a dot or a colon, or is
// localhost.
func HostOf(text string) string {
	host, _, found := strings.Cut(text, "/")
	if !found || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return ""
	}
	return host
}

// IsOf reports whether an image's name begins with the host of a server. Docker Hub has two hosts.
func IsOf(text, server string) bool {
	host, _, found := strings.Cut(text, "/")
	return found && strings.EqualFold(hubs(host), hubs(server))
}

// hubs returns how credentials call a host.
func hubs(host string) string {
	if host == "docker.io" {
		return DockerHub
	}
	return host
}

// ParseAt parses the name of an image on a server, which may begin with the host or not.
func ParseAt(text, server string) (Name, error) {
	if !IsOf(text, server) && server != DockerHub {
		text = server + "/" + text
	}
	return Parse(text)
}
