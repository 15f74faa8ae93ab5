package certs_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tcr-assistant/tcr-assistant/certs"
	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
)

func TestIssue(t *testing.T) {
	r := newRig(t)
	leader, follower := r.start(), r.start()
	leader.lead()
	leaf := r.converged(nil, leader, follower)

	t.Run("kubectl shows the request as approved and issued", func(t *testing.T) {
		out, _, err := plane.Kubectl(t.Context(), "get", "csr", certs.RequestName, "--no-headers")
		require.NoError(t, err)
		fields := strings.Fields(out)
		assert.Equal(t, []string{certs.RequestName, certs.DefaultSigner, manager}, []string{fields[0], fields[2], fields[3]})
		assert.Equal(t, "Approved,Issued", fields[len(fields)-1])
	})
	t.Run("the cluster's signer issued it for the webhook's names and the asked time", func(t *testing.T) {
		assert.Equal(t, "kubernetes", leaf.Issuer.CommonName)
		for _, name := range []string{r.cfg.DNSNames[0], "127.0.0.1"} {
			assert.NoError(t, leaf.VerifyHostname(name))
		}
		assert.WithinDuration(t, time.Now().Add(r.cfg.Duration), leaf.NotAfter, 10*time.Minute)
		assert.Equal(t, elliptic.P256(), leaf.PublicKey.(*ecdsa.PublicKey).Curve)
	})
	t.Run("the secret is of the type that the ecosystem knows and goes with the role", func(t *testing.T) {
		secret := r.secret()
		assert.Equal(t, corev1.SecretTypeTLS, secret.Type)
		assert.Equal(t, "tcr-assistant", secret.Labels["app.kubernetes.io/managed-by"])
		assert.Equal(t, r.owner.UID, secret.OwnerReferences[0].UID)
		assert.Nil(t, secret.OwnerReferences[0].BlockOwnerDeletion)
	})
	t.Run("a steady cluster is silent", func(t *testing.T) {
		since := time.Now()
		time.Sleep(3 * time.Second)
		asked, err := plane.Requests(func(request cluster.Request) bool {
			return request.User == manager && request.Received.After(since) && request.Verb != "watch"
		})
		require.NoError(t, err)
		assert.Empty(t, asked)
	})
	t.Run("a new leader finds all well and changes nothing", func(t *testing.T) {
		before := r.versions()
		since := time.Now()
		resign := follower.lead()
		time.Sleep(time.Second)
		resign()
		assert.Equal(t, before, r.versions())
		wrote, err := plane.Requests(func(request cluster.Request) bool {
			return request.User == manager && request.Received.After(since) && request.Verb != "watch" && request.Verb != "list" &&
				request.APIGroup != "admissionregistration.k8s.io" // the registrar makes sure of its own
		})
		require.NoError(t, err)
		assert.Empty(t, wrote)
	})
	t.Run("no private key is logged", func(t *testing.T) {
		block, _ := pem.Decode(r.secret().Data[corev1.TLSPrivateKeyKey])
		require.NotNil(t, block)
		lines := strings.Split(string(r.secret().Data[corev1.TLSPrivateKeyKey]), "\n")
		assert.NotContains(t, r.log.String(), lines[1])
	})
}

// approvals watches which requests are approved, from now until the test ends, and returns their public keys.
func approvals(t *testing.T, r *rig) func() []any {
	watcher, err := r.Client.CertificatesV1().CertificateSigningRequests().Watch(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	t.Cleanup(watcher.Stop)
	var mu sync.Mutex
	approved := map[string]any{}
	go func() {
		for event := range watcher.ResultChan() {
			csr, ok := event.Object.(*certificatesv1.CertificateSigningRequest)
			if !ok || !slices.ContainsFunc(csr.Status.Conditions, func(condition certificatesv1.CertificateSigningRequestCondition) bool {
				return condition.Type == certificatesv1.CertificateApproved
			}) {
				continue
			}
			block, _ := pem.Decode(csr.Spec.Request)
			request, err := x509.ParseCertificateRequest(block.Bytes)
			mu.Lock()
			if err != nil {
				approved[string(csr.UID)] = err
			} else {
				approved[string(csr.UID)] = request.PublicKey
			}
			mu.Unlock()
		}
	}()
	return func() []any {
		mu.Lock()
		defer mu.Unlock()
		var keys []any
		for _, key := range approved {
			keys = append(keys, key)
		}
		return keys
	}
}

func TestRequestsOfOthersAreNeverApproved(t *testing.T) {
	r := newRig(t)
	mallory, err := kubernetes.NewForConfig(plane.RESTConfig())
	require.NoError(t, err)
	ourselves, err := kubernetes.NewForConfig(r.identity(&wire{}))
	require.NoError(t, err)
	approved := approvals(t, r)

	create := func(client kubernetes.Interface, name string) {
		_, err := client.CertificatesV1().CertificateSigningRequests().Create(t.Context(), copied(t, r, name), metav1.CreateOptions{})
		require.NoError(t, err)
	}
	create(mallory, certs.RequestName)    // our name, names, usages and signer
	create(mallory, "names-of-ours")      // our names, usages and signer
	create(ourselves, "username-of-ours") // and our username

	leader := r.start()
	resign := leader.lead()
	first := r.converged(nil, leader)
	assert.Equal(t, []any{first.PublicKey}, approved(), "nothing but the manager's own request is approved")
	assert.True(t, r.log.has("certificate signing request of somebody else was replaced", `"requester":"kubernetes-admin"`))

	t.Run("not even one of the same name and user", func(t *testing.T) {
		resign()
		require.NoError(t, mallory.CertificatesV1().CertificateSigningRequests().Delete(t.Context(), certs.RequestName, metav1.DeleteOptions{}))
		create(ourselves, certs.RequestName)
		require.NoError(t, r.Client.CoreV1().Secrets(namespace).Delete(t.Context(), secretName, metav1.DeleteOptions{}))
		resign = leader.lead()
		second := r.converged(first, leader)
		assert.ElementsMatch(t, []any{first.PublicKey, second.PublicKey}, approved())
	})
	t.Run("nor one that takes the place of the manager's before it is approved", func(t *testing.T) {
		before := r.held()
		swaps := 0
		leader.onApproval(func(send func() (*http.Response, error)) (*http.Response, error) {
			if swaps++; swaps <= 3 {
				requests := mallory.CertificatesV1().CertificateSigningRequests()
				real, err := requests.Get(t.Context(), certs.RequestName, metav1.GetOptions{})
				require.NoError(t, err)
				require.NoError(t, requests.Delete(t.Context(), certs.RequestName, metav1.DeleteOptions{}))
				foreign := copied(t, r, certs.RequestName)
				if swaps == 2 { // the very bytes, requested by somebody else
					foreign.Spec = real.Spec
				}
				_, err = requests.Create(t.Context(), foreign, metav1.CreateOptions{})
				require.NoError(t, err)
			}
			return send()
		})
		require.NoError(t, r.Client.CoreV1().Secrets(namespace).Delete(t.Context(), secretName, metav1.DeleteOptions{}))
		third := r.converged(before, leader)
		assert.GreaterOrEqual(t, swaps, 4)
		assert.Len(t, approved(), 3)
		assert.Contains(t, approved(), third.PublicKey)
		assert.Equal(t, "kubernetes", third.Issuer.CommonName)
	})
	t.Run("nor those that a squatter keeps putting there, who gets a self-signed certificate to live with", func(t *testing.T) {
		before := r.held()
		leader.onApproval(nil)
		resign()
		r.cfg.SignerTimeout = 2 * time.Second
		impatient := r.start()
		impatient.lead()
		r.converged(nil, impatient)
		impatient.onCreation(func(send func() (*http.Response, error)) (*http.Response, error) {
			requests := mallory.CertificatesV1().CertificateSigningRequests()
			if err := requests.Delete(t.Context(), certs.RequestName, metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
				require.NoError(t, err)
			}
			create(mallory, certs.RequestName)
			return send()
		})
		require.NoError(t, r.Client.CoreV1().Secrets(namespace).Delete(t.Context(), secretName, metav1.DeleteOptions{}))
		last := r.converged(before, impatient)
		assert.Equal(t, "tcr-assistant-webhook", last.Issuer.CommonName)
		assert.Len(t, approved(), 3)
		assert.True(t, r.log.has("fell back", "in place of one that kubernetes-admin created"))
	})
}
