package main

import (
	"fmt"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/tcr-assistant/tcr-assistant/api/v1/typed"
	"github.com/tcr-assistant/tcr-assistant/clientset"
)

// connect returns the clients of the built-in types, of ImagePullSecrets and of DerivedAttachments. They share connections.
func connect(o *options) (*clientset.Clientset, *typed.Client, *typed.DerivedAttachments, error) {
	config, err := restConfig(o)
	if err != nil {
		return nil, nil, nil, err
	}
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("configuring the API client: %w", err)
	}
	client, err := clientset.New(config, httpClient)
	if err != nil {
		return nil, nil, nil, err
	}
	imagePullSecrets, err := typed.NewClient(config, httpClient)
	if err != nil {
		return nil, nil, nil, err
	}
	attachments, err := typed.NewDerivedAttachments(config, httpClient)
	return client, imagePullSecrets, attachments, err
}

func restConfig(o *options) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading the API server's address (--kubeconfig=%q, empty only inside a cluster): %w", o.kubeconfig, err)
	}
	config.UserAgent = "tcr-assistant-controller-manager/" + version
	config.QPS = -1 // no limit: the API server's priority and fairness is the real one
	if o.qps > 0 {
		config.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(float32(o.qps), o.burst) // for all clients together
	}
	return config, nil
}
