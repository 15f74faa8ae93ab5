// Command kubectl-tcr is a plugin of kubectl: it says why a pod cannot pull, what an ImagePullSecret would change, what state all of them
// are in, and whether a registry accepts a credential.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/tcr-assistant/tcr-assistant/diagnose/gather"
)

var version = "dev"

// The codes that the command ends with.
const (
	exitFine    = 0 // nothing is wrong, or nothing would change
	exitFound   = 1 // something is wrong, or something would change
	exitBlocked = 2 // it could not find out
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}))
}

// errFound ends the command with exitFound, and says nothing more.
var errFound = errors.New("something was found")

// errBlocked ends the command with exitBlocked, and says nothing more.
var errBlocked = errors.New("the answer could not be found")

func run(ctx context.Context, args []string, streams genericiooptions.IOStreams) int {
	log.SetOutput(io.Discard) // Go's HTTP client logs what a registry sends without being asked, such as a password that it was sent before
	root := newRoot(streams)
	root.SetArgs(args)
	switch err := root.ExecuteContext(ctx); {
	case err == nil:
		return exitFine
	case errors.Is(err, errFound):
		return exitFound
	case errors.Is(err, errBlocked):
		return exitBlocked
	default:
		fmt.Fprintln(streams.ErrOut, "error:", printableLines(err.Error()))
		return exitBlocked
	}
}

// options holds what all commands have in common.
type options struct {
	genericiooptions.IOStreams
	config  *genericclioptions.ConfigFlags
	product string
	output  string
}

func newRoot(streams genericiooptions.IOStreams) *cobra.Command {
	o := &options{IOStreams: streams, config: genericclioptions.NewConfigFlags(true)}
	root := &cobra.Command{
		Use: "kubectl-tcr",
		Short: "Say why a pod cannot pull, what an ImagePullSecret would change, what state all of them are in, and whether a registry " +
			"accepts a credential",
		Long: `Say why a pod cannot pull, what an ImagePullSecret would change, what state all of them are in, and whether a registry accepts a
credential.

It only reads from the cluster, as you. It names what you may not see, and shows the rest. It prints no password. Only "check"
also sends requests elsewhere: to the registry.

Exit codes: 0 if nothing is wrong or would change, 1 if something is or would, 2 if it could not find out.`,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl tcr"},
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          taking(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	o.config.AddFlags(root.PersistentFlags())
	root.PersistentFlags().StringVar(&o.product, "product-namespace", "tcr-assistant-system", "`namespace` that TCR Assistant is "+
		"installed in")
	root.PersistentFlags().StringVarP(&o.output, "output", "o", "", "output `format`: json or yaml; blank for text")
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return o.checkOutput() }
	root.AddCommand(newWhy(o), newPlan(o), newStatus(o), newCheck(o))
	cobra.CheckErr(root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json", "yaml"},
		cobra.ShellCompDirectiveNoFileComp)))
	cobra.CheckErr(root.RegisterFlagCompletionFunc("namespace", func(cmd *cobra.Command, _ []string, _ string) ([]string,
		cobra.ShellCompDirective) {
		return o.complete(cmd, "namespaces", "")
	}))
	return root
}

// taking adds what to write instead to the error about the arguments of a command.
func taking(arguments cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		err := arguments(cmd, args)
		switch {
		case err == nil:
			return nil
		case cmd.HasSubCommands():
			return fmt.Errorf("%w: %s --help lists the commands", err, cmd.CommandPath())
		}
		return fmt.Errorf("%w: write %s", err, cmd.UseLine())
	}
}

// connect returns the cluster and the namespace that the flags and the kubeconfig name.
func (o *options) connect() (cluster *gather.Cluster, namespace string, err error) {
	config, err := o.config.ToRESTConfig()
	if err != nil {
		return nil, "", fmt.Errorf("reading the kubeconfig: %w", err)
	}
	if err := o.checkCluster(config.Host); err != nil {
		return nil, "", err
	}
	config.QPS, config.Burst = 50, 300 // as kubectl does: the API server sets the limit
	if namespace, _, err = o.config.ToRawKubeConfigLoader().Namespace(); err != nil {
		return nil, "", fmt.Errorf("reading the namespace of the kubeconfig: %w", err)
	}
	cluster, err = gather.New(config, o.product)
	return cluster, namespace, err
}

// nowhere is the address that client-go uses if nothing names a cluster.
const nowhere = "http://localhost:8080"

// checkCluster returns an error if nothing names a cluster.
func (o *options) checkCluster(host string) error {
	loader := o.config.ToRawKubeConfigLoader()
	known, err := loader.RawConfig()
	if err != nil || len(known.Clusters) > 0 || *o.config.APIServer != "" || host != nowhere {
		return nil
	}
	return fmt.Errorf("reading the kubeconfig: no cluster is named in %s: name another file in KUBECONFIG or with --kubeconfig",
		strings.Join(loader.ConfigAccess().GetLoadingPrecedence(), ", "))
}

// completing is how long a shell waits for names.
const completing = 2 * time.Second

// complete returns the names of objects of a kind, for the shell's completion.
func (o *options) complete(cmd *cobra.Command, kind, namespace string) ([]string, cobra.ShellCompDirective) {
	cluster, _, err := o.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completing)
	defer cancel()
	return cluster.Names(ctx, kind, namespace), cobra.ShellCompDirectiveNoFileComp
}
