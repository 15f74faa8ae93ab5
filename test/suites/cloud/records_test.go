package cloud

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/credential/issuer"
	"github.com/tcr-assistant/tcr-assistant/credential/records"
	"github.com/tcr-assistant/tcr-assistant/credential/rotation"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

const namespace = "tcr-assistant-system"

// TestRecordsAreKeptInAFewSecrets stores the records of many objects at a time, on a real API server.
func TestRecordsAreKeptInAFewSecrets(t *testing.T) {
	t.Parallel()
	w := suite.StartEmpty(t)
	w.Namespace(namespace)
	store, ctx := records.New(w.Client.CoreV1().Secrets(namespace)), w.Ctx
	record := func(i int) rotation.Record {
		return rotation.Record{UID: fmt.Sprintf("22222222-2222-4222-8222-%012d", i), Name: fmt.Sprint("demo", i)}
	}
	none, version, err := store.Load(ctx, record(0).UID)
	require.NoError(t, err)
	assert.Equal(t, rotation.Record{}, none)
	assert.Empty(t, version)

	const objects = 40
	var group sync.WaitGroup
	for i := range objects {
		group.Go(func() {
			for range 20 {
				err := store.Store(ctx, record(i), "")
				if err == nil {
					return
				}
				assert.NotErrorIs(t, err, issuer.ErrConflict, "they are different objects")
				time.Sleep(50 * time.Millisecond)
			}
			assert.Fail(t, "it is stored")
		})
	}
	group.Wait()
	all, err := store.All(ctx)
	require.NoError(t, err)
	assert.Len(t, all, objects)
	listed, err := w.Client.CoreV1().Secrets(namespace).List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	for _, secret := range listed.Items {
		assert.Contains(t, records.Names(), secret.Name)
		assert.Equal(t, "tcr-assistant", secret.Labels["app.kubernetes.io/managed-by"])
	}

	first, version, err := store.Load(ctx, record(0).UID)
	require.NoError(t, err)
	next := first.With(rotation.Token{ID: "id1", Password: "secret1", Expires: time.Now().Add(time.Hour)})
	require.NoError(t, store.Store(ctx, next, version))
	assert.ErrorIs(t, store.Store(ctx, next, version), issuer.ErrConflict, "the version is an old one")
	assert.ErrorIs(t, store.Forget(ctx, first.UID, version), issuer.ErrConflict)
	read, version, err := store.Load(ctx, first.UID)
	require.NoError(t, err)
	assert.Equal(t, "secret1", read.Tokens[0].Password)
	require.NoError(t, store.Forget(ctx, first.UID, version))
	all, err = store.All(ctx)
	require.NoError(t, err)
	assert.Len(t, all, objects-1)

	for _, other := range all {
		_, version, err := store.Load(ctx, other.UID)
		require.NoError(t, err)
		require.NoError(t, store.Forget(ctx, other.UID, version))
	}
	listed, err = w.Client.CoreV1().Secrets(namespace).List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	assert.Empty(t, listed.Items, "a Secret goes with its last record")
}

// TestRecordsThatSomebodyHasEdited are told of, and not taken for none.
func TestRecordsThatSomebodyHasEdited(t *testing.T) {
	t.Parallel()
	w := suite.StartEmpty(t)
	w.Namespace(namespace)
	secrets := w.Client.CoreV1().Secrets(namespace)
	store, ctx := records.New(secrets), w.Ctx
	require.NoError(t, store.Store(ctx, rotation.Record{UID: uid, Name: "demo"}, ""))
	all, err := secrets.List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, all.Items, 1)
	secret := all.Items[0]
	mine := secret.Data[uid+".json"]
	secret.Data[uid+".json"] = bytes.Replace(mine, []byte(uid), []byte("another"), 1)
	changed, err := secrets.Update(ctx, &secret, metav1.UpdateOptions{})
	require.NoError(t, err)
	_, _, err = store.Load(ctx, uid)
	require.ErrorContains(t, err, "it is of another object")
	secret = *changed
	secret.Data[uid+".json"] = mine
	secret.Data[uid+".json"] = bytes.Replace(secret.Data[uid+".json"], []byte("{"), []byte(`{"secret1`), 1)
	secret.Data["other.json"] = rotation.Encode(rotation.Record{UID: "other2", Name: "other"})
	secret.Data["good.json"] = rotation.Encode(rotation.Record{UID: "good", Name: "good"})
	_, err = secrets.Update(ctx, &secret, metav1.UpdateOptions{})
	require.NoError(t, err)

	_, _, err = store.Load(ctx, uid)
	require.ErrorContains(t, err, "reading "+uid+" of secret "+secret.Name+": decoding a record of tokens: it is not JSON of a record")
	good, err := store.All(ctx)
	require.ErrorContains(t, err, "it is of another object")
	require.ErrorContains(t, err, "it is not JSON of a record")
	assert.NotContains(t, err.Error(), "secret1")
	require.Len(t, good, 1)
	assert.Equal(t, "good", good[0].UID)

	assert.False(t, errors.Is(err, issuer.ErrConflict))
	assert.Equal(t, corev1.SecretTypeOpaque, secret.Type)
}
