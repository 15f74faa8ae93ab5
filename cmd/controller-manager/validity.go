package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/credential/check"
	"github.com/tcr-assistant/tcr-assistant/credential/reference"
	"github.com/tcr-assistant/tcr-assistant/credential/validity"
	"github.com/tcr-assistant/tcr-assistant/informer"
	"github.com/tcr-assistant/tcr-assistant/latest"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/reflector"
)

// validity returns a Keeper that checks credentials in a term of leadership.
func (m *manager) validity(index *pullsecret.Index, source *informer.Informer) *validity.Keeper {
	return validity.NewKeeper(validity.Config{
		Log: m.log, Index: index, Roots: m.authorities, Login: check.Run, Now: time.Now,
		Watch: m.watchAuthorities(reflector.LogForbidden(m.log, "secrets in namespace "+m.options.namespace)),
		Status: func(imagePullSecret string) (v1.ImagePullSecretStatus, time.Time) {
			seen, _ := source.Get(imagePullSecret)
			return seen.Status, seen.Created
		},
	})
}

// authoritiesTimeout is how long it may take to read a Secret with certificate authorities.
const authoritiesTimeout = 10 * time.Second

// authorities returns the certificate authorities in the Secret of that name in the manager's namespace, or why there are none.
func (m *manager) authorities(ctx context.Context, name string) (*x509.CertPool, *check.Result) {
	ctx, cancel := context.WithTimeout(ctx, authoritiesTimeout)
	defer cancel()
	full := m.options.namespace + "/" + name
	list, err := m.client.Secrets(m.options.namespace).List(ctx, named(name))
	switch {
	case apierrors.IsForbidden(err):
		return nil, &check.Result{Verdict: check.Unknown, Reason: "AuthoritiesForbidden", Message: fmt.Sprintf(
			"the manager may not read secret %s, which should hold the registry's authorities: grant it the verb list on secrets there, "+
				"by the Role %s", full, reference.Role)}
	case err != nil:
		m.log.Debug("authorities of a registry were not read, trying again", "namespace", m.options.namespace, "secret", name, "error", err)
		return nil, &check.Result{Verdict: check.Unknown, Reason: "AuthoritiesUnread", Message: fmt.Sprintf(
			"secret %s, which should hold the registry's authorities, could not be read: it is tried again", full)}
	}
	var secret *corev1.Secret
	if len(list.Items) > 0 {
		secret = &list.Items[0]
	}
	return check.Authorities(full, secret)
}

// watchAuthorities returns a function that watches a Secret in the manager's namespace, and passes on its certificate authorities. Nothing
// else of the Secret is kept.
func (m *manager) watchAuthorities(answered func(verb string, err error)) func(context.Context, string, func(validity.Authorities)) {
	return func(ctx context.Context, name string, tell func(validity.Authorities)) {
		secrets := m.client.Secrets(m.options.namespace)
		source := reflector.ListWatch(answered, clientset.ByName(name), secrets.List, secrets.Watch)
		reflector.Run(ctx, "authorities", source, &corev1.Secret{}, &reflector.Store[*corev1.Secret, validity.Authorities]{
			Strip: func(secret *corev1.Secret) validity.Authorities {
				return sha256.Sum256(secret.Data[check.AuthoritiesKey])
			},
			Put:    tell,
			Remove: func(validity.Authorities) { tell(validity.Authorities{}) },
			Replaced: func(all []validity.Authorities, _ latest.Relist) {
				tell(append(all, validity.Authorities{})[0])
			},
		})
	}
}
