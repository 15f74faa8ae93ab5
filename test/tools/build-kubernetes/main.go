// Command build-kubernetes builds the programs of the control plane that the tests run on, or of a node, unless they are in the
// cache already, and prints the folder that holds them.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/tcr-assistant/tcr-assistant/test/harness/binaries"
)

func main() {
	version := flag.String("version", "", "version of Kubernetes, as in v1.36.3; empty is the usual one")
	node := flag.Bool("node", false, "build kubelet, kube-proxy and kube-scheduler instead")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	binary, err := build(ctx, *version, *node)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(filepath.Dir(binary))
}

func build(ctx context.Context, version string, node bool) (binary string, err error) {
	if node {
		return binaries.BuildNode(ctx, version, os.Stderr)
	}
	kubernetes, err := binaries.Build(ctx, version, os.Stderr)
	return kubernetes.ControlPlane, err
}
