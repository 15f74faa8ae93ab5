package integration

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
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

// TestAnInvalidObjectThatSelectsByLabelsGivesItsEntriesAsBefore makes the only object that selects by labels invalid. The webhook for
// ImagePullSecrets, which would refuse that, is not called.
func TestAnInvalidObjectThatSelectsByLabelsGivesItsEntriesAsBefore(t *testing.T) {
	t.Parallel()
	crds, err := manager.CRDs(t.Context())
	require.NoError(t, err)
	w := installed(t, suite.On(t, cluster.StartT(t, cluster.Options{
		Log: io.Discard, CRDs: []string{crds}, APIServerArgs: []string{"--disable-admission-plugins=ValidatingAdmissionWebhook"},
	})))
	require.NoError(t, manager.AcceptAnySpec(w.Ctx, w.Cluster))
	w.run()
	w.Create("r", labelled(map[string]v1.LabelValue{"registry": "team"}))
	w.bornByLabel(t, "r", map[string]string{"registry": "team"})
	w.ready("r", "Complete")
	w.edit("r", func(spec *v1.ImagePullSecretSpec) { spec.Namespaces = "default, default" })
	w.ready("r", "InvalidSpec")
	w.account("probe", "late")
	require.NoError(t, w.lists("probe", "late", true))
}
