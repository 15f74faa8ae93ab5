package rotation

import "strings"

// Cluster identifies this cluster.
type Cluster struct {
	// ID is the cloud's ID of it, such as cls-xxxxxxxx; blank if it is not known.
	ID string
	// UID is that of the namespace kube-system.
	UID string
}

// maxName is how many bytes of an object's name are in a description. The UID identifies it.
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

// Spare returns the token to delete if a registry has reached its quota: the oldest disabled one of this cluster, which only waits to be
// deleted.
func (c Cluster) Spare(tokens []Listed) (spare Listed, found bool) {
	for _, listed := range tokens {
		ours := strings.HasPrefix(listed.Description, phrase(c.UID)) && c.UID != "" ||
			strings.HasPrefix(listed.Description, phrase(c.ID)) && c.ID != ""
		if ours && !listed.Enabled && (!found || listed.Created.Before(spare.Created)) {
			spare, found = listed, true
		}
	}
	return spare, found
}

// owns reports whether a description is that of an object's tokens in this cluster.
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
