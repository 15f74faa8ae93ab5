// Package metrics tells Prometheus what the process does. It gives each part of the product the observer that the part asks
// for, so that no part depends on Prometheus. docs/metrics.md lists every metric. No metric has a label whose values grow with
// the number of namespaces.
package metrics

import (
	"crypto/x509"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/client-go/util/workqueue"

	"github.com/tcr-assistant/tcr-assistant/certs"
	"github.com/tcr-assistant/tcr-assistant/healing"
	"github.com/tcr-assistant/tcr-assistant/healing/eviction"
	"github.com/tcr-assistant/tcr-assistant/reconcile"
	"github.com/tcr-assistant/tcr-assistant/reconcile/plan"
	"github.com/tcr-assistant/tcr-assistant/webhook"
)

// prefix begins the name of each of our own metrics. Those of client-go keep the names that every Kubernetes component gives them.
const prefix = "tcr_assistant_"

// Metrics are the metrics of one process.
type Metrics struct {
	registry *prometheus.Registry

	admissions       *prometheus.CounterVec
	admissionSeconds *prometheus.HistogramVec
	reconciles       *prometheus.CounterVec
	reconcileSeconds prometheus.Histogram
	writes           *prometheus.CounterVec
	leader           prometheus.Gauge
	derivedParts     prometheus.Gauge
	derivedBytes     prometheus.Gauge
	derivedOutdated  prometheus.Gauge
	rotations        *prometheus.CounterVec
	fallbacks        prometheus.Counter
	evictions        *prometheus.CounterVec
	unhealed         *prometheus.GaugeVec
	queues           *queues

	// progress is called at each scrape; nil while this replica does not lead.
	progress atomic.Pointer[func() []plan.Progress]
}

// New returns the metrics of a process of that version. certificate returns the served certificate and who issued it, or nil; it
// is called at each scrape.
func New(version string, certificate func() (*x509.Certificate, certs.Mode)) *Metrics {
	m := &Metrics{
		registry:   prometheus.NewRegistry(),
		admissions: counters("admission_requests_total", "Admission requests by webhook and outcome.", "webhook", "outcome"),
		admissionSeconds: prometheus.NewHistogramVec(histogram(prefix+"admission_duration_seconds",
			"How long admission requests took, reading them included.",
			0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3), []string{"webhook"}),
		reconciles: counters("reconciles_total", "Comparisons of a namespace with the rules, by result.", "result"),
		reconcileSeconds: prometheus.NewHistogram(histogram(prefix+"reconcile_duration_seconds",
			"How long comparisons of a namespace took, writes included.",
			0.0001, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)),
		writes: counters("writes_total", "Writes to the cluster by object, verb and result.", "object", "verb", "result"),
		leader: prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + "leader", Help: "1 while this replica is the leader, else 0."}),
		derivedParts: gauge("derived_attachments_objects",
			"DerivedAttachments objects in which this replica, as the leader, stores what all image pull secrets attach."),
		derivedBytes: gauge("derived_attachments_bytes", "Approximate total size of the DerivedAttachments objects, in bytes of JSON."),
		derivedOutdated: gauge("derived_attachments_outdated",
			"1 while the DerivedAttachments objects do not hold what the image pull secrets say now, else 0."),
		rotations: counters("certificate_rotations_total",
			"Serving certificates put into use by this replica as the leader, by who issued them.", "mode"),
		fallbacks: prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + "certificate_fallbacks_total",
			Help: "Times that the signer issued no certificate and a self-signed one was used instead."}),
		evictions: counters("pods_evicted_total", "Pods that were evicted because they came before their credential, by reason.",
			"reason"),
		unhealed: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + "pods_unhealed",
			Help: "Pods that wait for a credential that a new pod would get, and are not evicted, by reason."}, []string{"reason"}),
		queues: newQueues(),
	}
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + "build_info",
		Help: "1, labelled with the version of the product and of Go."}, []string{"version", "go_version"})
	info.WithLabelValues(version, runtime.Version()).Set(1)
	m.registry.MustRegister(m.admissions, m.admissionSeconds, m.reconciles, m.reconcileSeconds, m.writes, m.leader, m.derivedParts,
		m.derivedBytes, m.derivedOutdated, m.rotations, m.fallbacks, m.evictions, m.unhealed, info,
		&progressCollector{&m.progress}, &certificateCollector{certificate},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.queues.register(m.registry)
	m.start()
	return m
}

// start makes every series appear from the start, with 0: a counter whose first value is 1 has no rate.
func (m *Metrics) start() {
	for _, outcome := range []webhook.Outcome{webhook.OutcomeAllowed, webhook.OutcomePatched, webhook.OutcomeDenied, webhook.OutcomeError} {
		for _, name := range []string{webhook.Mutating, webhook.Validating} {
			if name == webhook.Mutating && outcome == webhook.OutcomeDenied ||
				name == webhook.Validating && outcome == webhook.OutcomePatched {
				continue // never happens
			}
			m.admissions.WithLabelValues(name, string(outcome))
			m.admissionSeconds.WithLabelValues(name)
		}
	}
	for _, result := range []reconcile.Result{reconcile.ResultSuccess, reconcile.ResultConflict, reconcile.ResultError} {
		m.reconciles.WithLabelValues(string(result))
	}
	for _, result := range []reconcile.Result{
		reconcile.ResultSuccess, reconcile.ResultConflict, reconcile.ResultGone, reconcile.ResultError,
	} {
		for _, verb := range []string{"issue", "reissue", "delete"} {
			m.writes.WithLabelValues("secret", verb, string(result))
		}
		m.writes.WithLabelValues("serviceaccount", "edit", string(result))
	}
	for _, reason := range healing.Evicting {
		m.evictions.WithLabelValues(string(reason))
	}
	m.Unhealed(nil)
	for _, mode := range []certs.Mode{certs.ModeSigner, certs.ModeSelfSigned} {
		m.rotations.WithLabelValues(string(mode))
	}
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// Admission observes the webhook.
func (m *Metrics) Admission(name string, outcome webhook.Outcome, took time.Duration) {
	m.admissions.WithLabelValues(name, string(outcome)).Inc()
	m.admissionSeconds.WithLabelValues(name).Observe(took.Seconds())
}

// Reconcile observes a controller.
func (m *Metrics) Reconcile() reconcile.Observer {
	return reconcile.Observer{
		Synced: func(result reconcile.Result, took time.Duration) {
			m.reconciles.WithLabelValues(string(result)).Inc()
			m.reconcileSeconds.Observe(took.Seconds())
		},
		Wrote: func(object, verb string, result reconcile.Result) {
			m.writes.WithLabelValues(object, verb, string(result)).Inc()
		},
	}
}

// Derived takes in the number and size of the DerivedAttachments objects, and whether they are outdated.
func (m *Metrics) Derived(parts, bytes int, outdated bool) {
	m.derivedParts.Set(float64(parts))
	m.derivedBytes.Set(float64(bytes))
	m.derivedOutdated.Set(truth(outdated))
}

// Healing observes the eviction of pods.
func (m *Metrics) Healing() eviction.Observer {
	return eviction.Observer{
		Evicted:  func(reason healing.Reason) { m.evictions.WithLabelValues(string(reason)).Inc() },
		Unhealed: m.Unhealed,
	}
}

// Unhealed takes in how many pods wait for a credential that a new pod would get, and are not evicted.
func (m *Metrics) Unhealed(counts map[healing.Reason]int) {
	for _, reason := range healing.Telling {
		m.unhealed.WithLabelValues(string(reason)).Set(float64(counts[reason]))
	}
}

// Certificate observes the keeper of the serving certificate.
func (m *Metrics) Certificate() certs.Observer {
	return certs.Observer{
		Rotated:  func(mode certs.Mode, _ time.Time) { m.rotations.WithLabelValues(string(mode)).Inc() },
		FellBack: func(error) { m.fallbacks.Inc() },
	}
}

// Queues observes client-go's work queues.
func (m *Metrics) Queues() workqueue.MetricsProvider { return m.queues }

// Lead notes that this replica leads until stop is called. Until then, progress is called at each scrape.
func (m *Metrics) Lead(progress func() []plan.Progress) (stop func()) {
	m.leader.Set(1)
	m.progress.Store(&progress)
	return func() {
		m.progress.Store(nil)
		m.Derived(0, 0, false)
		m.Unhealed(nil)
		m.leader.Set(0)
	}
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, labels)
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + name, Help: help})
}

func histogram(name, help string, buckets ...float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}
}
