package privatenetwork

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
)

// Record is what an ImagePullSecret asked for last, and what the cloud answered: its lines depend on nothing else. It is stored beside the
// lines, so that these stay as they are while the cloud does not answer, even if another process takes over.
type Record struct {
	// UID is that of the ImagePullSecret.
	UID      string   `json:"uid"`
	Registry string   `json:"registryId"`
	Region   string   `json:"region"`
	VPC      string   `json:"vpcId,omitempty"`
	Domains  []string `json:"domains,omitempty"`

	// Domain is the registry's default domain; blank before the cloud's first answer.
	Domain string `json:"domain,omitempty"`
	Links  []Link `json:"links,omitempty"`
	// Names holds the DNS states for the link whose address is NamesOf.
	Names   map[string]NameStatus `json:"names,omitempty"`
	NamesOf string                `json:"namesOf,omitempty"`
}

// Told reports whether the cloud has answered about the registry.
func (r Record) Told() bool { return r.Domain != "" }

// Ask returns the record for what is asked for now. Answers about another registry are dropped.
func (r Record) Ask(uid, registry, region, vpc string, domains []string) Record {
	if r.UID != uid || r.Registry != registry || r.Region != region {
		r = Record{UID: uid, Registry: registry, Region: region}
	}
	r.VPC, r.Domains = vpc, slices.Clone(domains)
	return r
}

// Question returns the question that a record asks. fixed are the addresses of global.hosts, by domain.
func (r Record) Question(fixed map[string][]netip.Addr) Question {
	q := Question{
		Registry: r.Registry, Region: r.Region, VPC: r.VPC, Domain: r.Domain, Domains: r.Domains, Links: r.Links, Fixed: fixed,
	}
	if link, up := q.Linked(); up && link.Address == r.NamesOf {
		q.Names = r.Names
	}
	return q
}

// Equal reports whether both records are the same.
func (r Record) Equal(other Record) bool {
	return r.UID == other.UID && r.Registry == other.Registry && r.Region == other.Region && r.VPC == other.VPC &&
		slices.Equal(r.Domains, other.Domains) && r.Domain == other.Domain && slices.Equal(r.Links, other.Links) &&
		maps.Equal(r.Names, other.Names) && r.NamesOf == other.NamesOf
}

const (
	// maxLinks is the maximum number of links that are read: a registry has a handful.
	maxLinks = 64
	// otherState replaces a state that is not a single word.
	otherState = "Unknown"
)

var (
	networkForm = regexp.MustCompile(`^vpc-[a-z0-9]{1,60}$`)
	subnetForm  = regexp.MustCompile(`^subnet-[a-z0-9]{1,60}$`)
	stateForm   = regexp.MustCompile(`^[A-Za-z]{1,20}$`)
	addressForm = regexp.MustCompile(`^[0-9a-fA-F:.]{0,45}$`)
)

// Plausible returns links without anything that does not have the documented form: whoever answers in the cloud's place must not be able to
// write texts into conditions and logs.
func Plausible(links []Link) []Link {
	var plausible []Link
	for _, link := range links {
		if !networkForm.MatchString(link.VPC) || len(plausible) == maxLinks {
			continue
		}
		if !subnetForm.MatchString(link.Subnet) {
			link.Subnet = ""
		}
		if !stateForm.MatchString(link.Status) {
			link.Status = otherState
		}
		if !addressForm.MatchString(link.Address) {
			link.Address = ""
		}
		plausible = append(plausible, link)
	}
	return plausible
}

// Encode returns records, by the names of their ImagePullSecrets, as JSON.
func Encode(records map[string]Record) string {
	text, err := json.MarshalIndent(records, "", "  ")
	if err != nil { // they contain nothing that JSON cannot represent
		panic(err)
	}
	return string(text) + "\n"
}

// Decode reads what Encode wrote. It does not trust the text, which others may have changed: it filters links by Plausible, and Resolve
// checks them again.
func Decode(text string) (map[string]Record, error) {
	records := map[string]Record{}
	if text == "" {
		return records, nil
	}
	if err := json.Unmarshal([]byte(text), &records); err != nil {
		return nil, fmt.Errorf("reading the records of private addresses: %w", err)
	}
	for name, record := range records {
		record.Links = Plausible(record.Links)
		records[name] = record
	}
	return records, nil
}
