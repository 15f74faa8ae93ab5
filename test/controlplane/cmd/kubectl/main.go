// Command kubectl is kubectl, built from the module that the API server comes from.
// It is a binary of its own because it runs often: linked together with the control
// plane it would initialize all of that on every call.
package main

import (
	"os"

	_ "k8s.io/client-go/plugin/pkg/client/auth" // the credential plugins
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

func main() {
	// While its command tree is built kubectl logs already, at the -v it was given.
	_, _ = logs.GlogSetter(cmd.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
	}
}
