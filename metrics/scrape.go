package metrics

import (
	"crypto/x509"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/certs"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
)

func description(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prefix+name, help, labels, nil)
}

// The metrics of each ImagePullSecret. Each has one series for each ImagePullSecret; failures has one for each reason, too.
var (
	secretsDesired = description("secrets_desired",
		"Secrets that the image pull secret should have in the cluster.", "image_pull_secret")
	secretsPresent = description("secrets_present",
		"Secrets of the image pull secret that hold the current credential.", "image_pull_secret")
	accountsDesired = description("service_accounts_desired",
		"Service accounts that should list the image pull secret's Secret.", "image_pull_secret")
	accountsPresent = description("service_accounts_present",
		"Service accounts that list the image pull secret's Secret, of those that should.", "image_pull_secret")
	isReady = description("image_pull_secret_ready",
		"1 while the condition Ready of the image pull secret is True, else 0.", "image_pull_secret")
	failures = description("failures",
		"Objects of the image pull secret that are not as they should be, by the reason in its status.", "image_pull_secret", "reason")
	isIssued = description("credential_issued",
		"1 while the cloud issues and renews the credential of the image pull secret, else 0; only for those with spec.tcr.",
		"image_pull_secret")
	isReached = description("private_network_ready", "1 while the condition PrivateNetworkReady of the image pull secret is True, "+
		"else 0; only for those with spec.tcr.privateNetwork.", "image_pull_secret")
	isValid = description("credential_valid", "1 while the registry takes the credential of the image pull secret, 0 while it "+
		"refuses it; absent while that is not known.", "image_pull_secret")
	issue = description("credential_issue_timestamp_seconds",
		"Unix time since which the oldest Secret of the image pull secret has held its current credential.", "image_pull_secret")
	lifetime = description("credential_lifetime_seconds",
		"For how long the credential of the image pull secret was issued, if it says that itself.", "image_pull_secret")
	renewalDue = description("credential_renewal_timestamp_seconds", "Unix time at which the credential of the image pull secret is "+
		"due for renewal by the manager; only for those with spec.tcr.", "image_pull_secret")
	expiry = description("credential_expiry_timestamp_seconds",
		"Unix time at which the credential of the image pull secret expires, if that is known.", "image_pull_secret")
)

// progressCollector asks the controller, while there is one, at each scrape.
type progressCollector struct {
	source *atomic.Pointer[func() []plan.Progress]
}

// Describe sends what Collect may send.
func (c *progressCollector) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		secretsDesired, secretsPresent, accountsDesired, accountsPresent, isReady, failures, isIssued, isReached, isValid, issue, lifetime,
		renewalDue, expiry,
	} {
		descriptions <- d
	}
}

// Collect sends the current values.
func (c *progressCollector) Collect(metrics chan<- prometheus.Metric) {
	progress := c.source.Load()
	if progress == nil {
		return
	}
	for _, p := range (*progress)() {
		gauge := func(d *prometheus.Desc, value float64, labels ...string) {
			metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, append([]string{p.ImagePullSecret}, labels...)...)
		}
		gauge(secretsDesired, float64(p.SecretsDesired))
		gauge(secretsPresent, float64(p.SecretsPresent))
		gauge(accountsDesired, float64(p.AccountsDesired))
		gauge(accountsPresent, float64(p.AccountsServed))
		gauge(isReady, truth(p.Ready))
		if p.Credential.FromCloud {
			gauge(isIssued, truth(p.Credential.Renewed))
		}
		if valid := p.Credential.Valid; valid == metav1.ConditionTrue || valid == metav1.ConditionFalse {
			gauge(isValid, truth(valid == metav1.ConditionTrue))
		}
		for d, at := range map[*prometheus.Desc]time.Time{
			issue: p.Credential.Issued, expiry: p.Credential.Expires, renewalDue: p.Credential.Due,
		} {
			if !at.IsZero() {
				gauge(d, float64(at.Unix()))
			}
		}
		if life := p.Credential.Life; life > 0 {
			gauge(lifetime, life.Seconds())
		}
		if p.Reached != nil {
			gauge(isReached, truth(*p.Reached))
		}
		// These are always present, so that a query can tell that nothing fails.
		for _, reason := range []string{plan.ReasonForbidden, plan.ReasonForeignSecret, plan.ReasonContended} {
			if _, counted := p.Failures[reason]; !counted {
				gauge(failures, 0, reason)
			}
		}
		for reason, count := range p.Failures {
			gauge(failures, float64(count), reason)
		}
	}
}

// The metrics of the serving certificate.
var (
	notBefore = description("certificate_not_before_timestamp_seconds", "Unix time from which the serving certificate is valid.")
	notAfter  = description("certificate_not_after_timestamp_seconds", "Unix time until which the serving certificate is valid.")
	renewal   = description("certificate_renewal_timestamp_seconds", "Unix time at which the serving certificate is due for renewal.")
	issuer    = description("certificate_issuer",
		"1 for the issuer of the serving certificate, else 0: the cluster's signer, or the manager itself.", "mode")
)

// certificateCollector asks at each scrape which certificate is served.
type certificateCollector struct {
	served func() (*x509.Certificate, certs.Mode)
}

// Describe sends what Collect may send.
func (c *certificateCollector) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{notBefore, notAfter, renewal, issuer} {
		descriptions <- d
	}
}

// Collect sends what is served; nothing while there is no certificate.
func (c *certificateCollector) Collect(metrics chan<- prometheus.Metric) {
	leaf, mode := c.served()
	if leaf == nil {
		return
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(notBefore, float64(leaf.NotBefore.Unix()))
	gauge(notAfter, float64(leaf.NotAfter.Unix()))
	gauge(renewal, float64(certs.Due(leaf, mode).Unix()))
	for _, one := range []certs.Mode{certs.ModeSigner, certs.ModeSelfSigned} {
		gauge(issuer, truth(one == mode), string(one))
	}
}

func truth(holds bool) float64 {
	if holds {
		return 1
	}
	return 0
}
