package typed

import (
	"net/http"

	"k8s.io/client-go/gentype"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// DerivedAttachments reads and writes DerivedAttachments objects.
type DerivedAttachments struct {
	*gentype.ClientWithList[*v1.DerivedAttachments, *v1.DerivedAttachmentsList]
	// Metadata also reads, watches, patches and deletes them, and receives only their metadata.
	Metadata metadata.ResourceInterface
}

// NewDerivedAttachments returns a client for the API server that config names, over httpClient's connections.
func NewDerivedAttachments(config *rest.Config, httpClient *http.Client) (*DerivedAttachments, error) {
	client, parameters, err := newRESTClient(config, httpClient)
	if err != nil {
		return nil, err
	}
	alone, err := metadata.NewForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, err
	}
	const resource = "derivedattachments"
	return &DerivedAttachments{
		ClientWithList: gentype.NewClientWithList[*v1.DerivedAttachments, *v1.DerivedAttachmentsList](resource, client, parameters, "",
			func() *v1.DerivedAttachments { return &v1.DerivedAttachments{} },
			func() *v1.DerivedAttachmentsList { return &v1.DerivedAttachmentsList{} }),
		Metadata: alone.Resource(v1.GroupVersion.WithResource(resource)),
	}, nil
}
