package rotation

import "strings"

// Cluster is how this cluster is known.
type Cluster struct {
	// ID is the cloud's, such as cls-xxxxxxxx; blank where it is not known.
	ID string
	// UID is that of the namespace kube-system.
	UID string
}

// maxName is how much of an object's name stands in a description. The UID tells which it is.
const maxName = 100

func phrase(cluster string) string {
	return "TKE cluster (" + cluster + ") dedicated access credential, ImagePullSecret "
}

// Describe returns the description of an object's tokens.
func (c Cluster) Describe(name, uid string) string {
	known := c.ID
	if known == "" {
		known = c.UID
	}
	return phrase(known) + name[:min(len(name), maxName)] + ", " + uid
}

// owns says whether a description is that of an object's tokens in this cluster.
func (c Cluster) owns(description, uid string) bool {
	if uid == "" {
		return false
	}
	for _, known := range []string{c.ID, c.UID} {
		if known == "" {
			continue
		}
		if name, ours := strings.CutPrefix(description, phrase(known)); ours && strings.HasSuffix(name, ", "+uid) {
			return true
		}
	}
	return false
}
