package cloud

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/credential/tencentcloud"
	standin "github.com/tcr-assistant/tcr-assistant/test/harness/tencentcloud"
)

const document = "../../../docs/tencentcloud.md"

// documented returns the actions and resources of the documented policy.
func documented(t *testing.T) standin.Statement {
	t.Helper()
	page, err := os.ReadFile(document)
	require.NoError(t, err)
	block := regexp.MustCompile("(?s)```json\n(.*?)```").FindSubmatch(page)
	require.NotNil(t, block)
	var policy struct {
		Statement []struct {
			Effect   string
			Action   []string
			Resource []string
		}
	}
	require.NoError(t, json.Unmarshal(block[1], &policy))
	require.Len(t, policy.Statement, 1)
	require.Equal(t, "allow", policy.Statement[0].Effect)
	return standin.Statement{Actions: policy.Statement[0].Action, Resources: policy.Statement[0].Resource}
}

// TestTheDocumentedPolicyIsTheSmallest calls all there is with it, and without each of its actions.
func TestTheDocumentedPolicyIsTheSmallest(t *testing.T) {
	t.Parallel()
	policy := documented(t)
	for _, without := range append([]string{""}, policy.Actions...) {
		t.Run(fmt.Sprintf("without %q", without), func(t *testing.T) {
			t.Parallel()
			w := start(t)
			w.SetPolicy(w.key.SecretID, standin.Statement{
				Actions:   slices.DeleteFunc(slices.Clone(policy.Actions), func(action string) bool { return action == without }),
				Resources: policy.Resources,
			})
			refused := w.callAll()
			if without == "" {
				assert.Empty(t, refused)
				return
			}
			assert.Equal(t, map[string]string{without: policy.Resources[0]}, refused)
		})
	}
}

// callAll makes every call and returns those that were refused, with the resource that was named.
func (w *world) callAll() map[string]string {
	refused := map[string]string{}
	registry, ctx := w.registry(), w.t.Context()
	var id string
	for _, call := range []func() error{
		func() error { token, err := registry.CreateLongTermToken(ctx, "x"); id = token.ID; return err },
		func() error { _, err := registry.Tokens(ctx); return err },
		func() error { return registry.DisableToken(ctx, id) },
		func() error { return registry.DeleteToken(ctx, id) },
		func() error { _, err := registry.Domain(ctx); return err },
		func() error { _, err := registry.Links(ctx); return err },
		func() error { _, err := registry.NameStatus(ctx, tencentcloud.Link{VPC: "vpc-a"}, true); return err },
	} {
		err := call()
		if err == nil {
			continue
		}
		if failure := w.failure(err); failure.Reason == tencentcloud.Unauthorized {
			refused[failure.Action] = failure.Resource
		}
	}
	return refused
}

// TestEveryReasonIsDocumented holds the page to the code.
func TestEveryReasonIsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(document)
	require.NoError(t, err)
	for _, file := range []string{"../../../credential/tencentcloud/errors.go", "../../../privatenetwork/resolve.go"} {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		reasons := regexp.MustCompile(`(?m)^\t(\w+) +Reason = "(\w+)"$`).FindAllStringSubmatch(string(source), -1)
		require.NotEmpty(t, reasons)
		for _, reason := range reasons {
			assert.Equal(t, reason[1], reason[2])
			assert.True(t, strings.Contains(string(page), "\n| `"+reason[2]+"` | "), reason[2])
		}
	}
}
