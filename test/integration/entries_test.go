package integration

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/test/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/manager"
)

func TestAccountsOfManyEntriesKeepNobodyWaiting(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.Create("all")
	var entries []string
	for i := range 20000 {
		entries = append(entries, fmt.Sprintf("tcr.ipsx%d", i))
	}
	for i := range 9 { // one more than there are workers
		namespace := fmt.Sprintf("hostile%d", i)
		w.Namespace(namespace)
		w.account(namespace, "many", entries...)
	}
	w.Namespace("honest")
	w.Within(15*time.Second, "another namespace has its Secret", func() error {
		_, err := w.Current("honest", "all")
		return err
	})
}

func TestMoreEntriesThanOnePatchMayRemoveGo(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.Create("all")
	w.Namespace("a")
	w.Holds("a", "all")
	var entries []string
	for i := range 12000 {
		entries = append(entries, fmt.Sprintf("tcr.ipsx%d", i/300)) // few to look up
	}
	w.account("a", "many", entries...)
	w.Eventually("what nobody stands behind is gone", func() error {
		if have := w.Entries("a", "many"); !slices.Equal(have, []string{"tcr.ipsall"}) {
			return fmt.Errorf("%d entries", len(have))
		}
		return nil
	})
}

func TestASecretWithACopiedLabelThatAnAccountListsStays(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.Create("all")
	w.Namespace("a")
	w.Holds("a", "all")
	for i := range 50 { // the account's news often overtake the Secret's
		name := fmt.Sprintf("tcr.ipstheirs%d", i)
		_, err := w.Client.CoreV1().Secrets("a").Create(w.Ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{"app.kubernetes.io/managed-by": "tcr-assistant"}}}, metav1.CreateOptions{})
		require.NoError(t, err)
		w.account("a", fmt.Sprintf("theirs%d", i), name)
	}
	w.Namespace("later")
	w.Holds("later", "all")
	deleted, err := w.Requests(func(r cluster.Request) bool {
		return r.User == manager.User && r.Resource == "secrets" && r.Verb == "delete" && r.Namespace == "a"
	})
	require.NoError(t, err)
	assert.Empty(t, deleted)
	for i := range 50 {
		assert.Contains(t, w.Entries("a", fmt.Sprintf("theirs%d", i)), fmt.Sprintf("tcr.ipstheirs%d", i))
	}
}
