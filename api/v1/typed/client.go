// Package typed has the clients of tcr.tencentcloudcr.com/v1. It is separate from the types, so that code that only needs the
// types does not link a client.
package typed

import (
	"fmt"
	"net/http"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/rest"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// Client reads and writes ImagePullSecret objects.
type Client = gentype.ClientWithList[*v1.ImagePullSecret, *v1.ImagePullSecretList]

// NewClient returns a client for the API server that config names. It speaks JSON, as every custom resource does, and
// shares httpClient's connections.
func NewClient(config *rest.Config, httpClient *http.Client) (*Client, error) {
	client, parameters, err := newRESTClient(config, httpClient)
	if err != nil {
		return nil, err
	}
	return gentype.NewClientWithList[*v1.ImagePullSecret, *v1.ImagePullSecretList]("imagepullsecrets", client, parameters, "",
		func() *v1.ImagePullSecret { return &v1.ImagePullSecret{} },
		func() *v1.ImagePullSecretList { return &v1.ImagePullSecretList{} }), nil
}

func newRESTClient(config *rest.Config, httpClient *http.Client) (rest.Interface, runtime.ParameterCodec, error) {
	scheme := runtime.NewScheme()
	if err := v1.AddToScheme(scheme); err != nil {
		return nil, nil, fmt.Errorf("registering %s: %w", v1.GroupVersion, err)
	}
	config = rest.CopyConfig(config)
	config.GroupVersion = &v1.GroupVersion
	config.APIPath = "/apis"
	config.AcceptContentTypes, config.ContentType = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.RESTClientForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, nil, fmt.Errorf("configuring the client of %s: %w", v1.GroupVersion, err)
	}
	return client, runtime.NewParameterCodec(scheme), nil
}
