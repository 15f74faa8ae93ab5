package manager

import (
	"context"
	"encoding/json"
	"fmt"

	"k8s.io/client-go/discovery"

	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
)

// AcceptAnySpec takes the rules of the spec out of the CRD: objects can become invalid, where no webhook is asked either. So it was
// before an upgrade of the CRD. The API server goes by it within moments.
func AcceptAnySpec(ctx context.Context, c *cluster.Cluster) error {
	const path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/imagepullsecrets.tcr.tencentcloudcr.com"
	discovered, err := discovery.NewDiscoveryClientForConfig(c.RESTConfig())
	if err != nil {
		return err
	}
	text, err := discovered.RESTClient().Get().AbsPath(path).DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("reading the CRD: %w", err)
	}
	var definition map[string]any
	if err := json.Unmarshal(text, &definition); err != nil {
		return fmt.Errorf("reading the CRD: %w", err)
	}
	spec, _ := definition["spec"].(map[string]any)
	withoutRules(spec["versions"])
	if text, err = json.Marshal(definition); err != nil {
		return err
	}
	if _, err := discovered.RESTClient().Put().AbsPath(path).SetHeader("Content-Type", "application/json").Body(text).DoRaw(ctx); err != nil {
		return fmt.Errorf("taking the rules out of the CRD: %w", err)
	}
	return nil
}

// withoutRules takes every rule out of a schema.
func withoutRules(schema any) {
	switch schema := schema.(type) {
	case map[string]any:
		delete(schema, "x-kubernetes-validations")
		for _, part := range schema {
			withoutRules(part)
		}
	case []any:
		for _, part := range schema {
			withoutRules(part)
		}
	}
}
