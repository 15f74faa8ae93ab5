package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	golog "log"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/klog/v2"

	"github.com/tcr-assistant/tcr-assistant/certs"
	"github.com/tcr-assistant/tcr-assistant/credential/tencentcloud"
	"github.com/tcr-assistant/tcr-assistant/secretsrole"
)

// options holds the values of the flags.
type options struct {
	kubeconfig    string
	namespace     string
	webhook       bool
	mutating      bool
	webhookBind   string
	webhookURL    string
	failurePolicy string
	webhookCA     string
	metricsBind   string
	pprofBind     string
	leaderElect   bool
	concurrency   int
	resyncPeriod  time.Duration
	qps           float64
	burst         int
	keepSecrets   bool
	certSigner    string
	certDuration  time.Duration
	shutdownDelay time.Duration
	cloud         tencentcloud.Options
	clusterID     string
	hostsUpdater  string
	logFormat     string
	logLevel      string
	cleanup       bool
	revokeTimeout time.Duration
	version       bool
}

// clusterIDForm matches the ID of a cluster of the cloud.
var clusterIDForm = regexp.MustCompile(`^cls-[a-z0-9]{1,32}$`)

// parseFlags reads the command line. Its error reports every mistake, with the flag and what to write instead.
func parseFlags(args []string, output io.Writer) (*options, error) {
	var o options
	flags := flag.NewFlagSet("controller-manager", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "path of the kubeconfig `file`; empty inside a cluster")
	flags.StringVar(&o.namespace, "namespace", "tcr-assistant-system",
		"`namespace` of the Lease, the certificate's Secret, the webhook's Service and the Secrets that ImagePullSecrets refer to")
	flags.BoolVar(&o.webhook, "webhook", true,
		"answer admission requests; false if an admission policy of the API server attaches Secrets: then there is no port, certificate or "+
			"webhook configuration")
	flags.BoolVar(&o.mutating, "webhook-mutating", true,
		"attach Secrets to ServiceAccounts by the webhook; false if an admission policy of the API server does: then there is no "+
			"mutating webhook configuration")
	flags.StringVar(&o.webhookBind, "webhook-bind-address", ":9443", "`address` to answer admission requests on")
	flags.StringVar(&o.webhookURL, "webhook-url", "",
		"`URL` at which the API server calls this process if it runs outside the cluster, such as https://127.0.0.1:9443; "+
			"empty for the Service")
	flags.StringVar(&o.failurePolicy, "webhook-failure-policy", string(admissionregistrationv1.Ignore),
		"what happens to a ServiceAccount while no replica answers: `Ignore` (written at once, repaired later) or Fail (refused)")
	flags.StringVar(&o.webhookCA, "webhook-client-ca", "",
		"`file` of PEM certificates of the authorities that sign the API servers' client certificates: the webhook refuses callers without "+
			"one; empty to answer everybody")
	flags.StringVar(&o.metricsBind, "metrics-bind-address", ":8080", "`address` to serve /metrics, /healthz and /readyz on")
	flags.StringVar(&o.pprofBind, "pprof-bind-address", "",
		"`address` to serve /debug/pprof on, such as 127.0.0.1:6060; empty for none. Profiles are private: bind to localhost")
	flags.BoolVar(&o.leaderElect, "leader-elect", true, "let only one replica at a time write; false only if there is one")
	flags.IntVar(&o.concurrency, "concurrency", 8, "`number` of namespaces reconciled at a time")
	flags.DurationVar(&o.resyncPeriod, "resync-period", 10*time.Minute,
		"`period` after which every namespace is compared again, without API calls")
	flags.Float64Var(&o.qps, "kube-api-qps", 0, "requests a second to the API server; 0 for no client-side limit")
	flags.IntVar(&o.burst, "kube-api-burst", 0,
		"burst of requests to the API server that --kube-api-qps allows; 0 if that is not set")
	flags.BoolVar(&o.keepSecrets, "keep-secrets-role", false, "list the Secrets that this process may read and change in the ClusterRole "+
		secretsrole.Manager.Name+", or with --cleanup in "+secretsrole.Uninstall.Name+"; if false, its own role grants them")
	flags.StringVar(&o.certSigner, "cert-signer", certs.DefaultSigner, "`signer` to request the serving certificate from")
	flags.DurationVar(&o.certDuration, "cert-duration", certs.DefaultDuration, "`lifetime` of the serving certificate, 10m at least")
	flags.DurationVar(&o.shutdownDelay, "shutdown-delay", 5*time.Second,
		"how long admission requests are still answered after SIGTERM, until the Service no longer routes to this replica")
	o.cloudFlags(flags)
	flags.StringVar(&o.logFormat, "log-format", "text", "`text` or json")
	flags.StringVar(&o.logLevel, "log-level", "info", "`debug`, info, warn or error")
	flags.BoolVar(&o.cleanup, "cleanup", false,
		"delete every ImagePullSecret, remove its entry from every ServiceAccount, and exit: for an uninstall")
	flags.DurationVar(&o.revokeTimeout, "revoke-timeout", time.Minute,
		"how long --cleanup waits for the cloud to revoke the tokens that it has issued, before it goes on regardless")
	flags.BoolVar(&o.version, "version", false, "print the version and exit")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q: all options are flags", flags.Arg(0))
	}
	if o.hostsUpdater == "" {
		o.hostsUpdater = o.namespace
	}
	return &o, o.validate()
}

// cloudFlags defines the flags of the registry's cloud.
func (o *options) cloudFlags(flags *flag.FlagSet) {
	flags.StringVar(&o.cloud.Endpoint, "tencentcloud-endpoint", tencentcloud.DefaultEndpoint,
		"`URL` of the cloud's API, which issues the credentials of ImagePullSecrets with spec.tcr; {service} is replaced by the name of the "+
			"service")
	flags.StringVar(&o.cloud.MetadataEndpoint, "tencentcloud-metadata-endpoint", tencentcloud.DefaultMetadataEndpoint,
		"`URL` of the cloud's metadata service, which has the node's role")
	flags.StringVar(&o.cloud.CAFile, "tencentcloud-ca-file", "",
		"`file` of PEM certificates to trust for the cloud's API, in addition to those of the system; empty for none")
	flags.StringVar(&o.clusterID, "tencentcloud-cluster-id", "",
		"the cloud's `id` of this cluster, such as cls-xxxxxxxx, for the descriptions of tokens; empty for the UID of the namespace "+
			"kube-system")
	flags.StringVar(&o.hostsUpdater, "hosts-updater-namespace", "",
		"`namespace` of hosts-updater, for which the private addresses of registries are published; empty for that of --namespace")
}

func (o *options) validate() error {
	var errs []error
	must := func(holds bool, name, value, rule string) {
		if !holds {
			errs = append(errs, fmt.Errorf("--%s=%s: must be %s", name, value, rule))
		}
	}
	must(len(validation.IsDNS1123Label(o.namespace)) == 0, "namespace", o.namespace, "the name of a namespace")
	must(o.hostsUpdater == o.namespace || len(validation.IsDNS1123Label(o.hostsUpdater)) == 0, "hosts-updater-namespace", o.hostsUpdater,
		"the name of a namespace")
	if o.webhookURL != "" {
		parsed, err := url.Parse(o.webhookURL)
		must(err == nil && parsed.Scheme == "https" && parsed.Hostname() != "" && strings.Trim(parsed.Path, "/") == "" && parsed.User == nil &&
			parsed.RawQuery == "",
			"webhook-url", o.webhookURL, "https://host:port, without a path")
	}
	policy := admissionregistrationv1.FailurePolicyType(o.failurePolicy)
	must(policy == admissionregistrationv1.Ignore || policy == admissionregistrationv1.Fail, "webhook-failure-policy", o.failurePolicy,
		"Ignore or Fail")
	must(o.webhookBind != "" || !o.webhook, "webhook-bind-address", o.webhookBind,
		"an address, such as :9443; for no webhook, write --webhook=false")
	must(o.metricsBind != "", "metrics-bind-address", o.metricsBind, "an address, such as :8080: probes need it")
	must(o.concurrency >= 1, "concurrency", fmt.Sprint(o.concurrency), "1 or more")
	must(o.resyncPeriod >= time.Second, "resync-period", o.resyncPeriod.String(), "1s or more")
	must(o.qps >= 0, "kube-api-qps", fmt.Sprint(o.qps), "0 (no limit) or more")
	must(o.burst >= 0 && (o.burst > 0) == (o.qps > 0), "kube-api-burst", fmt.Sprint(o.burst),
		"1 or more if --kube-api-qps is set, or 0 if it is not")
	must(o.shutdownDelay >= 0, "shutdown-delay", o.shutdownDelay.String(), "0s or more")
	must(o.clusterID == "" || clusterIDForm.MatchString(o.clusterID), "tencentcloud-cluster-id", o.clusterID,
		"the id of a cluster, such as cls-xxxxxxxx")
	must(o.revokeTimeout > 0, "revoke-timeout", o.revokeTimeout.String(), "more than 0s")
	must(o.logFormat == "text" || o.logFormat == "json", "log-format", o.logFormat, "text or json")
	_, known := o.level()
	must(known, "log-level", o.logLevel, "debug, info, warn or error")
	for _, err := range (certs.Config{Namespace: "default", DNSNames: []string{"localhost"}, Signer: o.certSigner,
		Duration: o.certDuration}).Validate() {
		errs = append(errs, fmt.Errorf("--cert-%s=%v: %s", err.Field, err.BadValue, err.Detail))
	}
	return errors.Join(errs...)
}

// level returns the lowest level that is logged. The Kubernetes client libraries write into the same log, up to their verbosity 4 at level
// debug. From verbosity 8 they would log the bodies of requests, and with them credentials, so there is no lower level than debug.
func (o *options) level() (level slog.Level, known bool) {
	err := level.UnmarshalText([]byte(o.logLevel))
	return level, err == nil && slices.Contains([]slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}, level)
}

// logger returns the log of the process, which the Kubernetes client libraries use, too. Go's standard log is discarded: Go's HTTP client
// logs what a registry sends without being asked, which may contain a password that it was sent before. Servers have logs of their own.
func (o *options) logger(output io.Writer) *slog.Logger {
	level, _ := o.level()
	handlerOptions := &slog.HandlerOptions{Level: level}
	var handler slog.Handler = slog.NewTextHandler(output, handlerOptions)
	if o.logFormat == "json" {
		handler = slog.NewJSONHandler(output, handlerOptions)
	}
	log := slog.New(handler)
	slog.SetDefault(log)
	golog.SetOutput(io.Discard)
	klog.SetSlogLogger(log)
	return log
}
