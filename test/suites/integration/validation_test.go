package integration

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/pullsecret/matchtest"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

// create has the API server judge a manifest as kubectl create does, without keeping it. It returns what kubectl would print.
func (w *world) create(t *testing.T, manifest []byte) (refusal string) {
	t.Helper()
	err := w.Client.CoreV1().RESTClient().Post().
		AbsPath("/apis/tcr.tencentcloudcr.com/v1/imagepullsecrets").
		VersionedParams(&metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict},
			metav1.ParameterCodec).
		SetHeader("Content-Type", "application/json").
		Body(manifest).Do(w.Ctx).Error()
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestSpecsAreJudgedAlike(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	specs, err := matchtest.Specs("sample")
	require.NoError(t, err)
	judge := func(t *testing.T, spec matchtest.Spec, refused bool, says string) {
		refusal := w.create(t, spec.Manifest)
		short := refusal[:min(len(refusal), 1000)]
		if !refused {
			require.Empty(t, short)
			return
		}
		require.NotEmpty(t, refusal, "it was accepted")
		assert.Contains(t, refusal, spec.Path, short)
		assert.True(t, strings.Contains(refusal, says), "it does not say %q: %s", says, short)
		assert.NotContains(t, refusal, "hidden")
	}
	for _, spec := range specs {
		t.Run("by the CRD alone: "+spec.Name, func(t *testing.T) { judge(t, spec, spec.RefusedByCRD, spec.CRDSays) })
	}
	w.run()
	for _, spec := range specs {
		t.Run(spec.Name, func(t *testing.T) {
			refused := spec.Refused || spec.RefusedByCRD
			says := spec.CRDSays // it has the first word
			if !spec.RefusedByCRD {
				says = spec.Says
			}
			judge(t, spec, refused, says)
		})
	}
}

// manifest is the sample with some fields of its credential set otherwise.
func manifest(t *testing.T, name string, edits ...suite.Edit) string {
	t.Helper()
	object := suite.Sample(name, edits...)
	object.APIVersion, object.Kind = "tcr.tencentcloudcr.com/v1", "ImagePullSecret"
	text, err := json.Marshal(object)
	require.NoError(t, err)
	return string(text)
}

func server(host string) suite.Edit {
	return func(spec *v1.ImagePullSecretSpec) { spec.Docker.Server = host }
}

func TestKubectlShowsWhatIsWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	t.Run("a bad spec is refused with the field and what to write instead", func(t *testing.T) {
		stderr, err := w.Pipe(manifest(t, "bad", suite.InNamespaces("a,*")), "create", "-f", "-")
		require.Error(t, err)
		assert.Contains(t, stderr, `spec.namespaces`)
		assert.Contains(t, stderr, `must be "*" alone`)
	})
	t.Run("an edit is refused like a creation", func(t *testing.T) {
		w.Create("edited")
		stderr, err := w.Pipe("", "patch", "ipss", "edited", "--type=merge", "-p", `{"spec":{"namespaces":"a,a"}}`)
		require.Error(t, err)
		assert.Contains(t, stderr, `spec.namespaces: Duplicate value: "a"`)
	})
	t.Run("two that give one server a credential are warned of, whichever they give", func(t *testing.T) {
		same := []suite.Edit{server("registry.example.com"), password("the-same")}
		stderr, err := w.Pipe(manifest(t, "rival-1", same...), "create", "-f", "-")
		require.NoError(t, err)
		assert.NotContains(t, stderr, "Warning")
		for _, edits := range [][]suite.Edit{same, {server("registry.example.com"), password("another")}} {
			w.Eventually("the other one is warned of", func() error {
				stderr, err = w.Pipe(manifest(t, "rival-2", edits...), "create", "--dry-run=server", "-f", "-")
				if err == nil && !strings.Contains(stderr, `Warning: "rival-1" gives registry.example.com a credential too, in a common namespace`) {
					err = assert.AnError
				}
				return err
			})
		}
		stderr, err = w.Pipe(manifest(t, "rival-3", server("elsewhere.example.com")), "create", "--dry-run=server", "-f", "-")
		require.NoError(t, err)
		assert.NotContains(t, stderr, "Warning")
	})
}
