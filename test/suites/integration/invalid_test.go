package integration

import (
	"testing"

	"github.com/stretchr/testify/require"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// TestAnInvalidObjectGivesItsEntriesAsBefore makes an object invalid, as it can be under an older CRD, and valid again: what it was last
// counts meanwhile, and what is derived from it is not written.
func TestAnInvalidObjectGivesItsEntriesAsBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.NoError(t, manager.AcceptAnySpec(w.Ctx, w.Cluster))
	if w.AttachesByItself() {
		require.NoError(t, manager.InstallPolicy(w.Ctx, w.Cluster))
	}
	w.run("--webhook=false")
	w.Create("some", func(spec *v1.ImagePullSecretSpec) { spec.Namespaces = "default" })
	w.derivedHolds("some")
	w.ready("some", "Complete")
	before := w.derived()[0].ResourceVersion
	for _, reason := range []string{"InvalidSpec", "Complete"} {
		namespaces := map[string]string{"InvalidSpec": "default, default", "Complete": "default"}[reason]
		w.edit("some", func(spec *v1.ImagePullSecretSpec) { spec.Namespaces = namespaces })
		w.ready("some", reason)
		if w.AttachesByItself() {
			w.attaches("some")
		}
		require.Equal(w.T, before, w.derived()[0].ResourceVersion, "once it is %s", reason)
	}
}
