package clientset

import (
	"context"
	"fmt"
	"io"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// statusLimit is how much is read of an error response, in bytes.
const statusLimit = 1 << 20

// Decoder returns a decoder for the kinds that have clients here, in protobuf and JSON.
func (c *Clientset) Decoder() runtime.Decoder { return c.codecs.UniversalDeserializer() }

// StreamSecrets watches the Secrets of all namespaces, and returns the bytes of the API server's answer until ctx ends: thousands of
// watches with few events need not have a decoder each.
func (c *Clientset) StreamSecrets(ctx context.Context, options metav1.ListOptions) (io.ReadCloser, error) {
	options.Watch = true
	url := c.groups[corev1.SchemeGroupVersion].Get().Resource("secrets").VersionedParams(&options, c.parameters).URL()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url.String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", accepted)
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("watching secrets: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, c.refusal(response)
	}
	// The connection keeps the response in memory while it streams, and the response keeps the request and all headers.
	response.Header, response.Request = nil, nil
	return response.Body, nil
}

// refusal returns the error that an error response stands for.
func (c *Clientset) refusal(response *http.Response) error {
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, statusLimit))
	if err == nil {
		if decoded, _, err := c.Decoder().Decode(body, nil, nil); err == nil {
			if status, is := decoded.(*metav1.Status); is && status.Status != metav1.StatusSuccess {
				return apierrors.FromObject(status)
			}
		}
	}
	return apierrors.NewGenericServerResponse(response.StatusCode, "watch", corev1.Resource("secrets"), "", response.Status, 0, true)
}
