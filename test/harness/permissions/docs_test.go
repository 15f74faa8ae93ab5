package permissions

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tcr-assistant/tcr-assistant/secretsrole"
)

// TestDocumentation holds that the table of permissions justifies every verb that is granted, once, and no other.
func TestDocumentation(t *testing.T) {
	manifest, err := os.ReadFile("../../../deploy/allinone/tcr-assistant.yaml")
	require.NoError(t, err)
	grants, err := Grants(manifest)
	require.NoError(t, err)
	healing, err := os.ReadFile("../../../deploy/chart/templates/rbac-healing.yaml") // which is rendered only where it is used
	require.NoError(t, err)
	more, err := Grants(regexp.MustCompile(`(?m)^.*\{\{.*$`).ReplaceAll(healing, nil))
	require.NoError(t, err)
	grants = append(grants, more...)
	var granted, documented []string
	for _, grant := range append(grants, Listed(secretsrole.Manager)...) {
		resource := grant.Resource
		if grant.APIGroup != "" {
			resource += "." + grant.APIGroup
		}
		granted = append(granted, grant.Role+" "+resource+" "+grant.Verb)
	}
	text, err := os.ReadFile("../../../docs/rbac.md")
	require.NoError(t, err)
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| `([^`]+)` \\| ([^|]+) \\|").FindAllStringSubmatch(string(text), -1) {
		for verb := range strings.SplitSeq(row[3], ", ") {
			documented = append(documented, row[1]+" "+row[2]+" "+verb)
		}
	}
	slices.Sort(granted)
	slices.Sort(documented)
	assert.Equal(t, granted, documented)
}
