package keeper

import (
	"context"
	"regexp"

	"github.com/tcr-assistant/tcr-assistant/credential/tencentcloud"
	"github.com/tcr-assistant/tcr-assistant/privatenetwork"
)

// Registry has the calls that are made to a registry instance. tencentcloud.Registry is one.
type Registry interface {
	Domain(ctx context.Context) (string, error)
	Links(ctx context.Context) ([]tencentcloud.Link, error)
	NameStatus(ctx context.Context, link tencentcloud.Link, defaultDomain bool) ([]tencentcloud.ResolvedName, error)
}

// ask asks a registry for all that lines depend on, and returns the record with its answers. Answers before an error are in the record,
// too, so that a changed address takes effect even if the DNS state is not known. known says that the domain need not be asked for: it
// never changes, but what was published before this term may have been edited.
func ask(ctx context.Context, registry Registry, record privatenetwork.Record, known bool) (privatenetwork.Record, error) {
	domain := record.Domain
	if domain == "" || !known {
		var err error
		if domain, err = registry.Domain(ctx); err != nil {
			return record, err
		}
	}
	links, err := registry.Links(ctx)
	if err != nil {
		return record, err
	}
	record.Domain, record.Links = domain, plausible(links)
	question := record.Question(nil)
	link, up := question.Linked()
	if !up {
		return record, nil
	}
	names := map[string]privatenetwork.NameStatus{}
	for _, word := range question.Asked() {
		told, err := registry.NameStatus(ctx, tencentcloud.Link{VPC: link.VPC, Address: link.Address}, word == privatenetwork.Default)
		if err != nil {
			return record, err
		}
		names[word] = nameStatus(told)
	}
	record.Names, record.NamesOf = names, link.Address
	return record, nil
}

func plausible(links []tencentcloud.Link) []privatenetwork.Link {
	told := make([]privatenetwork.Link, len(links))
	for i, link := range links {
		told[i] = privatenetwork.Link{VPC: link.VPC, Subnet: link.Subnet, Status: link.Status, Address: link.Address}
	}
	return privatenetwork.Plausible(told)
}

var nameForm = regexp.MustCompile(`^[a-zA-Z0-9-]{1,64}$`)

// nameStatus returns the only answer to a question about one network; a zero one if there is none, or more than one.
func nameStatus(told []tencentcloud.ResolvedName) privatenetwork.NameStatus {
	if len(told) != 1 || !nameForm.MatchString(told[0].VPC) || !nameForm.MatchString(told[0].Status) {
		return privatenetwork.NameStatus{}
	}
	return privatenetwork.NameStatus{VPC: told[0].VPC, Status: told[0].Status}
}
