package diagnose

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"sigs.k8s.io/yaml"
)

// wanted is a finding as the cases describe it: what is blank is not compared.
type wanted struct {
	Reason Reason `json:"reason"`
	Object string `json:"object"`
	Says   string `json:"says"`
	Do     string `json:"do"`
}

func TestDiagnose(t *testing.T) {
	text, err := os.ReadFile("testdata/cases.yaml")
	require.NoError(t, err)
	var file struct {
		Base  json.RawMessage `json:"base"`
		Cases []struct {
			Name    string          `json:"name"`
			Change  json.RawMessage `json:"change"`
			Want    []wanted        `json:"want"`
			NextTry *time.Time      `json:"nextTry"`
		} `json:"cases"`
	}
	require.NoError(t, yaml.UnmarshalStrict(text, &file))
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			document := []byte(file.Base)
			if c.Change != nil {
				document, err = jsonpatch.MergePatch(document, c.Change)
				require.NoError(t, err)
			}
			var evidence Evidence
			require.NoError(t, yaml.UnmarshalStrict(document, &evidence))
			report := evidence.Diagnose()

			var have []Reason
			for _, finding := range report.Findings {
				have = append(have, finding.Reason)
				assert.NotEmpty(t, finding.Object)
				assert.NotEmpty(t, finding.Message)
				assert.NotContains(t, finding.Message+finding.Action, "%!", "a message has what it needs")
				if finding.Reason != Healthy {
					assert.NotEmpty(t, finding.Action)
				}
			}
			require.Len(t, report.Findings, len(c.Want), "%v", report.Findings)
			for i, want := range c.Want {
				finding := report.Findings[i]
				assert.Equal(t, want.Reason, finding.Reason, "%v", have)
				if want.Object != "" {
					assert.Equal(t, want.Object, finding.Object)
				}
				assert.Contains(t, finding.Message, want.Says)
				assert.Contains(t, finding.Action, want.Do)
			}
			assert.Equal(t, c.Want[0].Reason != Undecided, report.Decided())
			assert.Equal(t, c.Want[0].Reason == Healthy, report.Healthy())
			if c.NextTry != nil {
				assert.Equal(t, *c.NextTry, report.NextTry)
			}
		})
	}
}

// TestEveryReasonHasACaseAndIsDocumented reads the reasons from their source.
func TestEveryReasonHasACaseAndIsDocumented(t *testing.T) {
	read := func(path string) string {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		return string(text)
	}
	cases, page := read("testdata/cases.yaml"), read("../docs/kubectl-tcr.md")
	reasons := regexp.MustCompile(`Reason = "(\w+)"`).FindAllStringSubmatch(read("finding.go"), -1)
	require.Greater(t, len(reasons), 25)
	for _, reason := range reasons {
		assert.Contains(t, cases, "reason: "+reason[1])
		assert.Contains(t, page, "`"+reason[1]+"`")
	}
}

// TestPure holds the package free of clients: what it judges is looked up by others.
func TestPure(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "tcr-assistant/pullsecret")
	for dep := range strings.Lines(string(out)) {
		dep = strings.TrimSpace(dep)
		assert.False(t, strings.HasPrefix(dep, "k8s.io/client-go"), dep)
		if ours, is := strings.CutPrefix(dep, "github.com/tcr-assistant/tcr-assistant/"); is {
			assert.Contains(t, []string{"api/v1", "jwt", "pullsecret", "credential", "image", "diagnose"}, ours)
		}
	}
}
