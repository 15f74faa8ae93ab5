// Command kubectl is kubectl, built from the modules that the API server comes from.
//
// It is a binary of its own because it runs often: linked into the control plane it takes
// 90 ms to start instead of 50, as it would initialize all of the API server each time.
package main

import (
	_ "k8s.io/client-go/plugin/pkg/client/auth" // the credential plugins
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

func main() {
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
	}
}
