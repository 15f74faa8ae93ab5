package integration

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

// TestEtcdIsRestored takes the cluster back to a snapshot under running managers, and with it everything that they wrote
// since: versions are lower now than all that they have seen, and what they wrote is gone or as it was.
func TestEtcdIsRestored(t *testing.T) {
	t.Parallel()
	const promised = time.Minute
	w := newWorld(t)
	w.refusals = true
	b := newBalancer(t)
	managers := []*manager.Manager{w.replica(b), w.replica(b)}
	w.behind(b, managers...)
	w.Namespace("before")
	w.account("before", "builder", "theirs")
	w.Create("kept", password("old"))
	w.Holds("before", "kept")
	w.Lists("before", "builder", "theirs", "tcr.ipskept")
	w.converged("kept")
	w.Namespace("referred")
	w.put(basicAuth("ref", "old"))
	referring := w.Create("referring", from("ref"), suite.InNamespaces("referred"))
	w.Eventually("it is issued", w.issued(referring, "old", "referred"))
	before := w.servingCertificate()

	snapshot, err := w.TakeSnapshot()
	require.NoError(t, err)

	w.Create("late")
	w.edit("kept", password("new"))
	w.put(basicAuth("ref", "new"))
	w.Eventually("it is issued", w.issued(referring, "new", "referred"))
	for i := range 20 {
		w.Namespace(fmt.Sprintf("after-%02d", i))
	}
	for i := range 20 {
		w.Holds(fmt.Sprintf("after-%02d", i), "late")
	}
	w.Holds("before", "kept")
	w.Lists("before", "builder", "theirs", "tcr.ipskept", "tcr.ipslate")
	require.NoError(t, w.Client.CoreV1().Secrets(manager.Namespace).Delete(w.Ctx, servingSecret, metav1.DeleteOptions{}))
	w.Kubectl("delete", "mutatingwebhookconfigurations", "tcr-assistant-mutating-webhook-configuration")
	w.Eventually("another certificate is served", func() error {
		if now := w.servingCertificate(); now == nil || bytes.Equal(now, before) {
			return errors.New("it is not")
		}
		return w.trusted(b)
	})
	renewed := w.lease().Spec.RenewTime
	for range 3 {
		last := renewed
		w.Eventually("the lease is renewed", func() error {
			if renewed = w.lease().Spec.RenewTime; !renewed.After(last.Time) {
				return errors.New("it is not")
			}
			return nil
		})
	}

	require.NoError(t, w.Restore(w.Ctx, snapshot))
	restored := time.Now()
	within := func(what string, check func() error) {
		t.Helper()
		w.Within(promised-time.Since(restored), what, check)
		t.Logf("%s after %s", what, time.Since(restored).Round(100*time.Millisecond))
	}
	within("somebody leads", func() error {
		if now := w.lease(); now == nil || !now.Spec.RenewTime.After(restored) {
			return fmt.Errorf("nobody has renewed the lease: %v", now)
		}
		return nil
	})
	within("both configurations trust what is served, and nothing else", func() error { return w.trusted(b) })
	within("a namespace that was there before has its secrets as they should be", func() error {
		_, err := w.Current("before", "kept")
		return err
	})
	within("a credential is as its Secret is again", w.issued(referring, "old", "referred"))
	w.put(basicAuth("ref", "newer"))
	within("what is written into that Secret is issued", w.issued(referring, "newer", "referred"))
	// What was never made here counts as new, also where it was made in the time that is no more.
	for _, namespace := range []string{"after-00", "after-19", "anew"} {
		w.Namespace(namespace)
		within("namespace "+namespace+" has what it should have", func() error { return w.exactly(namespace, "kept") })
	}
	within("so has the one from before", func() error { return w.exactly("before", "kept") })
	w.converged("kept")
	within("the certificate of before the snapshot is served, or a new one", func() error { return w.trusted(b) })

	w.Create("later")
	w.Holds("after-19", "later")
	w.Eventually("it goes on as before", func() error { return w.exactly("after-19", "kept", "later") })
	for _, m := range managers {
		select {
		case <-m.Done():
			t.Error("a manager has ended")
		default:
		}
		assert.Contains(t, m.Log(), "API server went back in time")
	}
}

// trusted returns nil where both webhook configurations trust exactly the certificate in the Secret and it is served.
func (w *world) trusted(b *balancer) error {
	mutating, err := w.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(w.Ctx,
		"tcr-assistant-mutating-webhook-configuration", metav1.GetOptions{})
	if err != nil {
		return err
	}
	validating, err := w.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(w.Ctx,
		"tcr-assistant-validating-webhook-configuration", metav1.GetOptions{})
	if err != nil {
		return err
	}
	leaf, _ := pem.Decode(w.servingCertificate())
	if leaf == nil {
		return errors.New("the secret holds no certificate")
	}
	for _, bundle := range [][]byte{mutating.Webhooks[0].ClientConfig.CABundle, validating.Webhooks[0].ClientConfig.CABundle} {
		block, rest := pem.Decode(bundle)
		if block == nil || len(rest) > 0 || !bytes.Equal(block.Bytes, leaf.Bytes) {
			return errors.New("a configuration trusts something else")
		}
	}
	connection, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", b.listener.Addr().String(),
		&tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	defer connection.Close()
	if !bytes.Equal(connection.ConnectionState().PeerCertificates[0].Raw, leaf.Bytes) {
		return errors.New("another certificate is served")
	}
	return nil
}

// exactly returns nil where a namespace holds the Secrets of these ImagePullSecrets and no others, and its default
// ServiceAccount lists them.
func (w *world) exactly(namespace string, imagePullSecrets ...string) error {
	var want []string
	for _, name := range imagePullSecrets {
		if _, err := w.Current(namespace, name); err != nil {
			return fmt.Errorf("secret of %s: %w", name, err)
		}
		want = append(want, "tcr.ips"+name)
	}
	secrets, err := w.Client.CoreV1().Secrets(namespace).List(w.Ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var have []string
	for _, secret := range secrets.Items {
		if secret.Type == corev1.SecretTypeDockerConfigJson {
			have = append(have, secret.Name)
		}
	}
	if !slices.Equal(have, want) {
		return fmt.Errorf("it holds %q instead of %q", have, want)
	}
	account, err := w.Client.CoreV1().ServiceAccounts(namespace).Get(w.Ctx, "default", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return err
	}
	if err == nil && !slices.Equal(suite.Entries(account), want) {
		err = fmt.Errorf("its account lists %q instead of %q", suite.Entries(account), want)
	}
	return err
}
