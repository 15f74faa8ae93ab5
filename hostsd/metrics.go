//go:build linux

package hostsd

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// The parts that can fail, as values of the label "part".
const (
	partConfig = "config"
	partFile   = "hosts_file"
)

// metrics are the daemon's metrics. No label has values that a user chooses.
type metrics struct {
	registry    *prometheus.Registry
	entries     prometheus.Gauge
	refused     prometheus.Gauge
	conflicts   prometheus.Gauge
	overruled   prometheus.Gauge
	degraded    *prometheus.GaugeVec
	failures    *prometheus.CounterVec
	lastSuccess prometheus.Gauge
	repairs     prometheus.Counter
	writes      *prometheus.CounterVec
	writeMode   *prometheus.GaugeVec
}

func newMetrics(version string) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		registry:  prometheus.NewRegistry(),
		entries:   gauge("tcr_hosts_entries", "Lines in the hosts file that are ours."),
		refused:   gauge("tcr_hosts_entries_refused", "Entries of the configuration that are invalid and have no effect."),
		conflicts: gauge("tcr_hosts_conflicts", "Foreign lines that give a domain of ours another address."),
		overruled: gauge("tcr_hosts_overruled", "Addresses that the manager found for domains that the configuration leads elsewhere."),
		degraded: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tcr_hosts_degraded",
			Help: "1 while the part cannot be read or written, else 0."}, []string{"part"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tcr_hosts_failures_total", Help: "Passes that failed at the part."},
			[]string{"part"}),
		lastSuccess: gauge("tcr_hosts_last_success_timestamp_seconds",
			"Unix time of the last pass after which the hosts file was as configured."),
		repairs: prometheus.NewCounter(prometheus.CounterOpts{Name: "tcr_hosts_repairs_total",
			Help: "Times that our lines had been changed by others and were put right."}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tcr_hosts_writes_total", Help: "Writes of the hosts file by mode."},
			[]string{"mode"}),
		writeMode: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tcr_hosts_write_mode", Help: "1 for the mode of the last write, else 0."},
			[]string{"mode"}),
	}
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tcr_hosts_build_info", Help: "1, labelled with the version of hosts-updater."},
		[]string{"version"})
	info.WithLabelValues(version).Set(1)
	for _, part := range []string{partConfig, partFile} {
		m.degraded.WithLabelValues(part)
		m.failures.WithLabelValues(part)
	}
	for _, mode := range []Mode{Rename, InPlace} {
		m.writes.WithLabelValues(string(mode))
		m.writeMode.WithLabelValues(string(mode))
	}
	m.registry.MustRegister(m.entries, m.refused, m.conflicts, m.overruled, m.degraded, m.failures, m.lastSuccess, m.repairs, m.writes,
		m.writeMode, info,
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) wrote(mode Mode) {
	m.writes.WithLabelValues(string(mode)).Inc()
	m.writeMode.WithLabelValues(string(Rename)).Set(0)
	m.writeMode.WithLabelValues(string(InPlace)).Set(0)
	m.writeMode.WithLabelValues(string(mode)).Set(1)
}

func (m *metrics) passed(part string, err error) {
	if err == nil {
		m.degraded.WithLabelValues(part).Set(0)
		return
	}
	m.degraded.WithLabelValues(part).Set(1)
	m.failures.WithLabelValues(part).Inc()
}
