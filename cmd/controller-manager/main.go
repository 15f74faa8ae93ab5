// Command controller-manager issues registry credentials to the namespaces and service accounts of a cluster: it answers
// admission requests on every replica, and brings the cluster in line on the leader.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
	_ "golang.org/x/crypto/x509roots/fallback" // the image has no CA certificates: those of Mozilla are trusted for registries and the cloud
)

// version is set by the linker.
var version = "dev"

func main() {
	options, err := parseFlags(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	case options.version:
		fmt.Println("tcr-assistant controller-manager", version)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	log := options.logger(os.Stderr)
	work := run
	if options.cleanup {
		work = cleanUp
		log.Info("cleanup started", "version", version)
	} else {
		log.Info("controller manager started", "version", version)
	}
	// Close to nine tenths of the container's memory limit, the process collects garbage more often, instead of being killed. GOMEMLIMIT
	// overrides this.
	if limit, err := memlimit.Set(); err != nil {
		log.Debug("memory limit of the container was not found", "error", err)
	} else {
		log.Debug("memory limit was set", "bytes", limit)
	}
	go giveBack(ctx)
	if err := work(ctx, log, options); err != nil {
		log.Error("controller manager ended", "error", err)
		os.Exit(1)
	}
}
