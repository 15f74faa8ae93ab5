// Command node is what a node runs beside its container runtime, in one binary: kubelet,
// kube-proxy and, for want of another place, kube-scheduler. It runs the one that its own
// base name or its first argument names.
package main

import (
	"context"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // the metrics of client-go
	_ "k8s.io/component-base/metrics/prometheus/version"  // the metric kubernetes_build_info
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	"github.com/tcr-assistant/tcr-assistant/test/harness/kubernetes/multicall"
)

func main() {
	multicall.Main("node", map[string]func() int{
		"kubelet":        func() int { return cli.Run(kubelet.NewKubeletCommand(context.Background())) },
		"kube-proxy":     func() int { return cli.Run(proxy.NewProxyCommand()) },
		"kube-scheduler": func() int { return cli.Run(scheduler.NewSchedulerCommand()) },
	})
}
