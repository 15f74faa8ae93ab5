package metrics

import (
	"context"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientmetrics "k8s.io/client-go/tools/metrics"
	"k8s.io/client-go/util/workqueue"
)

// queues gives client-go's work queues their metrics, with the names and buckets that k8s.io/component-base gives them in
// Kubernetes' own components. A queue that is recreated, as in each term of leadership, continues the series of its name.
type queues struct {
	depth, unfinished, longest *prometheus.GaugeVec
	adds, retries              *prometheus.CounterVec
	waited, worked             *prometheus.HistogramVec
}

func newQueues() *queues {
	label := []string{"name"}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, label)
	}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, label)
	}
	buckets := prometheus.ExponentialBuckets(1e-8, 10, 10)
	return &queues{
		depth:      gauge("workqueue_depth", "Current depth of workqueue."),
		unfinished: gauge("workqueue_unfinished_work_seconds", "How long the work in progress has taken so far, summed up."),
		longest:    gauge("workqueue_longest_running_processor_seconds", "How long the longest work in progress has taken so far."),
		adds:       counter("workqueue_adds_total", "Total number of adds handled by workqueue."),
		retries:    counter("workqueue_retries_total", "Total number of retries handled by workqueue."),
		waited: prometheus.NewHistogramVec(histogram("workqueue_queue_duration_seconds",
			"How long an item stays in workqueue before being requested.", buckets...), label),
		worked: prometheus.NewHistogramVec(histogram("workqueue_work_duration_seconds", "How long processing an item from workqueue takes.",
			buckets...), label),
	}
}

func (q *queues) register(registry prometheus.Registerer) {
	registry.MustRegister(q.depth, q.unfinished, q.longest, q.adds, q.retries, q.waited, q.worked)
}

// NewDepthMetric returns a gauge that begins at 0, since an earlier queue with that name is gone with what it held.
func (q *queues) NewDepthMetric(name string) workqueue.GaugeMetric {
	gauge := q.depth.WithLabelValues(name)
	gauge.Set(0)
	return gauge
}

func (q *queues) NewAddsMetric(name string) workqueue.CounterMetric {
	return q.adds.WithLabelValues(name)
}

func (q *queues) NewLatencyMetric(name string) workqueue.HistogramMetric {
	return q.waited.WithLabelValues(name)
}

func (q *queues) NewWorkDurationMetric(name string) workqueue.HistogramMetric {
	return q.worked.WithLabelValues(name)
}

func (q *queues) NewUnfinishedWorkSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return q.unfinished.WithLabelValues(name)
}

func (q *queues) NewLongestRunningProcessorSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return q.longest.WithLabelValues(name)
}

func (q *queues) NewRetriesMetric(name string) workqueue.CounterMetric {
	return q.retries.WithLabelValues(name)
}

// ObserveClient observes every request that client-go makes to the API server from now on. client-go takes one observer for
// the whole process: only the first call has an effect.
func (m *Metrics) ObserveClient() {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rest_client_requests_total", Help: "Number of HTTP requests, partitioned by status code, method, and host.",
	}, []string{"code", "method", "host"})
	seconds := prometheus.NewHistogramVec(histogram("rest_client_request_duration_seconds",
		"Request latency in seconds. Broken down by verb, and host.",
		0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60), []string{"verb", "host"})
	m.registry.MustRegister(requests, seconds)
	clientmetrics.Register(clientmetrics.RegisterOpts{
		RequestResult:  clientRequests{requests},
		RequestLatency: clientLatency{seconds},
	})
}

type clientRequests struct{ *prometheus.CounterVec }

// Increment counts a request; code is "<error>" for one that got no answer.
func (c clientRequests) Increment(_ context.Context, code, method, host string) {
	c.WithLabelValues(code, method, host).Inc()
}

type clientLatency struct{ *prometheus.HistogramVec }

// Observe takes in how long a request took.
func (c clientLatency) Observe(_ context.Context, verb string, at url.URL, took time.Duration) {
	c.WithLabelValues(verb, at.Host).Observe(took.Seconds())
}
