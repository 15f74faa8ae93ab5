package v1

import (
	"fmt"
	"net/http"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/rest"
)

// Client reads and writes ImagePullSecret objects.
type Client = gentype.ClientWithList[*ImagePullSecret, *ImagePullSecretList]

// NewClient returns a client for the API server that config names. It speaks JSON, as every custom resource does, and
// shares httpClient's connections.
func NewClient(config *rest.Config, httpClient *http.Client) (*Client, error) {
	scheme := runtime.NewScheme()
	if err := AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("registering %s: %w", GroupVersion, err)
	}
	config = rest.CopyConfig(config)
	config.GroupVersion = &GroupVersion
	config.APIPath = "/apis"
	config.AcceptContentTypes, config.ContentType = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	restClient, err := rest.RESTClientForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("configuring the client of %s: %w", GroupVersion, err)
	}
	return gentype.NewClientWithList[*ImagePullSecret, *ImagePullSecretList]("imagepullsecrets", restClient,
		runtime.NewParameterCodec(scheme), "",
		func() *ImagePullSecret { return &ImagePullSecret{} },
		func() *ImagePullSecretList { return &ImagePullSecretList{} }), nil
}
