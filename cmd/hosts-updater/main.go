//go:build linux

// Command hosts-updater keeps lines of a node's hosts file. See docs/hosts-updater.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/tcr-assistant/tcr-assistant/hostsd"
)

// version is set by the linker.
var version = "dev"

// Saves memory on every node: nobody takes memory profiles of this process.
func init() { runtime.MemProfileRate = 0 }

// Exit codes.
const (
	exitOK      = 0
	exitFailed  = 1 // a file could not be read or written, or the address could not be listened on
	exitUsage   = 2 // the command line is wrong
	exitRefused = 3 // with --once: done, except for refused entries
)

type options struct {
	config, hostsFile, metricsAddress string
	logFormat                         string
	logLevel                          string
	level                             slog.Level
	resync                            time.Duration
	once, cleanup, version            bool
	daemonSet, account                string
}

// levels are the log levels, by their names in --log-level.
var levels = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintln(stderr, "hosts-updater:", err)
		return exitUsage
	case o.version:
		fmt.Fprintln(stdout, "tcr-assistant hosts-updater", version)
		return exitOK
	}
	handler := slog.Handler(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: o.level}))
	if o.logFormat == "text" {
		handler = slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: o.level})
	}
	log := slog.New(handler)

	if o.cleanup {
		return cleanUp(ctx, log, o.hostsFile)
	}
	// The live heap is a fraction of a megabyte. By default, it would grow to four before it is collected, on every node of a cluster.
	debug.SetGCPercent(25)
	daemon := hostsd.New(hostsd.Options{
		Config:       o.config,
		HostsFile:    o.hostsFile,
		ResyncPeriod: o.resync,
		NodeNames:    hostsd.NodeNames(o.hostsFile),
		Version:      version,
		Log:          log,
	})
	if o.once {
		switch report := daemon.Sync(ctx, time.Now()); {
		case report.Err() != nil:
			return exitFailed
		case len(report.Refused) > 0:
			return exitRefused
		}
		return exitOK
	}
	return keep(ctx, log, daemon, o)
}

// keep runs the daemon until ctx ends, and then removes its lines if they are no longer wanted.
func keep(ctx context.Context, log *slog.Logger, daemon *hostsd.Daemon, o options) int {
	var runs *daemonSet
	if o.daemonSet != "" {
		var err error
		runs, err = newDaemonSet(o.daemonSet, o.account, os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
		if err != nil { // the lines matter more than their removal
			log.Error("lines will stay when the DaemonSet goes", "error", err)
		} else {
			watching, end := context.WithCancel(context.WithoutCancel(ctx)) // lives until it is known whether to remove the lines
			defer end()
			go runs.watch(watching, log)
			go runs.find(ctx, log, daemon)
		}
	}
	if o.metricsAddress != "" {
		listener, err := net.Listen("tcp", o.metricsAddress)
		if err != nil {
			log.Error("could not serve metrics and probes", "error", fmt.Errorf("listening on %q, see --metrics-bind-address: %w", o.metricsAddress,
				err))
			return exitFailed
		}
		server := newServer(daemon.Handler(), log)
		defer server.Close()
		go func() {
			if err := server.Serve(newPort(listener)); !errors.Is(err, http.ErrServerClosed) {
				log.Error("stopped serving metrics and probes", "error", err)
			}
		}()
	}
	daemon.Run(ctx)
	if runs != nil {
		// Without ctx, which has ended. The kubelet kills the process if this takes too long.
		return leave(context.WithoutCancel(ctx), log, runs, o.hostsFile)
	}
	return exitOK
}

// leave removes the lines if the DaemonSet that ran this process is gone. If that is not known, they stay.
func leave(ctx context.Context, log *slog.Logger, runs *daemonSet, hostsFile string) int {
	asking, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	gone, err := runs.gone(asking)
	switch {
	case gone:
		return cleanUp(ctx, log, hostsFile)
	case err != nil:
		log.Warn("kept lines in hosts file: it is unknown whether the DaemonSet is gone", "hostsFile", hostsFile, "error", err)
	default:
		log.Info("kept lines in hosts file: the DaemonSet is there", "hostsFile", hostsFile)
	}
	return exitOK
}

// cleanUpFor is how long other writers of the hosts file can delay the removal of the lines. Together with askFor it fits into the thirty
// seconds that Kubernetes gives a pod to end.
const cleanUpFor = 20 * time.Second

// cleanUp removes our lines. While other programs keep writing to the file it tries again.
func cleanUp(ctx context.Context, log *slog.Logger, hostsFile string) int {
	ctx, cancel := context.WithTimeout(ctx, cleanUpFor)
	defer cancel()
	for {
		removed, err := hostsd.Cleanup(ctx, hostsFile)
		switch {
		case err == nil && removed == 0:
			log.Info("found no lines of ours in hosts file", "hostsFile", hostsFile)
			return exitOK
		case err == nil:
			log.Info("removed lines from hosts file", "hostsFile", hostsFile, "entries", removed)
			return exitOK
		case !errors.Is(err, hostsd.ErrBusy):
			log.Error("left lines in hosts file", "hostsFile", hostsFile, "error", err)
			return exitFailed
		}
		log.Warn("lines were not removed yet, trying again", "hostsFile", hostsFile, "error", err)
	}
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("hosts-updater", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the caller prints the error
	flags.StringVar(&o.config, "config", "/config", "the configuration: a file, or the folder where the ConfigMap updater-config is mounted")
	flags.StringVar(&o.hostsFile, "hosts-file", "/host/etc/hosts",
		"the node's hosts file; its whole folder must be mounted, not the file alone")
	flags.DurationVar(&o.resync, "resync-period", 5*time.Minute, "time between two passes when nothing changes, at least 1s")
	flags.BoolVar(&o.once, "once", false, "do one pass and exit: 0 done, 1 failed, 3 done except for refused entries")
	flags.BoolVar(&o.cleanup, "cleanup", false, "remove our lines from the hosts file and exit; the configuration is not read")
	flags.StringVar(&o.daemonSet, "daemonset", "",
		"the DaemonSet that runs this program, as namespace/name: our lines are removed when the program ends because the DaemonSet is gone; "+
			"empty to leave them")
	flags.StringVar(&o.account, "service-account", "/var/run/secrets/kubernetes.io/serviceaccount",
		"with --daemonset: the folder with the token and ca.crt of the pod's account, which may get the DaemonSet and its namespace, and watch "+
			"the ConfigMap updater-config")
	flags.StringVar(&o.metricsAddress, "metrics-bind-address", ":8080", "address of /metrics, /lines, /healthz and /readyz; empty for none")
	flags.StringVar(&o.logFormat, "log-format", "json", "json or text")
	flags.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.BoolVar(&o.version, "version", false, "print the version and exit")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			flags.SetOutput(stderr)
			flags.Usage()
		}
		return options{}, err
	}
	level, known := levels[strings.ToLower(o.logLevel)]
	o.level = level
	switch {
	case flags.NArg() > 0:
		return options{}, fmt.Errorf("unexpected argument %q: all options are flags, see --help", flags.Arg(0))
	case o.once && o.cleanup:
		return options{}, errors.New("--once and --cleanup exclude each other: --cleanup runs once by itself")
	case o.resync < time.Second:
		return options{}, fmt.Errorf("--resync-period=%s: must be at least 1s", o.resync)
	case o.logFormat != "json" && o.logFormat != "text":
		return options{}, fmt.Errorf("--log-format=%q: must be json or text", o.logFormat)
	case !known:
		return options{}, fmt.Errorf("--log-level=%q: must be debug, info, warn or error", o.logLevel)
	case o.config == "" && !o.cleanup && !o.version:
		return options{}, errors.New("--config is empty: name the configuration file, or the folder where it is mounted")
	case o.daemonSet != "" && !isReference(o.daemonSet):
		return options{}, fmt.Errorf("--daemonset=%q: must be a namespace and a name, such as tcr-assistant-system/hosts-updater", o.daemonSet)
	case o.hostsFile == "":
		return options{}, errors.New("--hosts-file is empty: name the node's hosts file, such as /host/etc/hosts")
	}
	return o, nil
}

// isReference reports whether text is "namespace/name", of valid characters.
func isReference(text string) bool {
	namespace, name, found := strings.Cut(text, "/")
	odd := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' }
	return found && namespace != "" && name != "" && strings.IndexFunc(namespace, odd) < 0 && strings.IndexFunc(name, odd) < 0
}
