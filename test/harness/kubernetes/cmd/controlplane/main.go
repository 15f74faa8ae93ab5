// Command controlplane is the control plane of Kubernetes in one binary: etcd,
// kube-apiserver and kube-controller-manager. It runs the one that its own base
// name or its first argument names.
//
// A component ends when its standard input does. Whoever starts one holds the
// other end of a pipe, and so takes the component along even when killed.
package main

import (
	"io"
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // the metrics of client-go
	_ "k8s.io/component-base/metrics/prometheus/version"  // the metric kubernetes_build_info
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"

	"github.com/tcr-assistant/tcr-assistant/test/harness/kubernetes/multicall"
)

func main() {
	programs := map[string]func() int{
		"etcd":                    runEtcd,
		"kube-apiserver":          func() int { return cli.Run(apiserver.NewAPIServerCommand()) },
		"kube-controller-manager": func() int { return cli.Run(controllermanager.NewControllerManagerCommand()) },
	}
	for name, run := range programs {
		programs[name] = func() int {
			go endWithInput()
			return run()
		}
	}
	multicall.Main("controlplane", programs)
}

// endWithInput ends the process when its standard input ends.
func endWithInput() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(1)
}
