package main

import (
	"crypto/x509"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential/check"
)

// trial is how a credential is tried.
type trial struct {
	image  string
	realms []string
	caFile string
}

func newCheck(o *options) *cobra.Command {
	var how trial
	command := &cobra.Command{
		Use:   "check NAME",
		Short: "Log in to the registry of an ImagePullSecret, now and from here",
		Long: `Log in to the registry of an ImagePullSecret, now and from here: with its credential, as a kubelet would.

The credential is sent over HTTPS alone, to the registry's own domain and to the realms that you list, and across no redirect. That it
works from here does not say that it works from the nodes: kubectl tcr why says that.
It ends with 0 where the registry takes the credential, with 1 where it does not, and with 2 where nothing can be said.`,
		Example: `  # Is the credential right?
  kubectl tcr check imagepullsecret-sample

  # May it pull this image?
  kubectl tcr check imagepullsecret-sample --image=team/app:v1

  # For a program
  kubectl tcr check imagepullsecret-sample -o json`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return o.complete(cmd, "imagepullsecrets", "")
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.check(cmd, args[0], how) },
	}
	command.Flags().StringVar(&how.image, "image", "", "`image` that the credential should be able to pull")
	command.Flags().StringSliceVar(&how.realms, "realm", nil, "`host` of another domain that the registry may want the credential sent to")
	command.Flags().StringVar(&how.caFile, "registry-ca-file", "",
		"`file` of the PEM certificates of the authorities that the registry's is of, if not of the system's")
	return command
}

// checked is what "check" prints.
type checked struct {
	Name   string `json:"name"`
	Server string `json:"server"`
	// From is the host that asked.
	From string `json:"from"`
	check.Result
}

func (o *options) check(cmd *cobra.Command, name string, how trial) error {
	cluster, _, err := o.connect()
	if err != nil {
		return err
	}
	object, err := cluster.Object(cmd.Context(), name)
	if err != nil {
		return err
	}
	login, err := loginOf(object, how)
	if err != nil {
		return err
	}
	from, err := os.Hostname()
	if err != nil {
		from = "this host"
	}
	found := checked{Name: name, Server: login.Server, From: from, Result: check.Run(cmd.Context(), login)}
	if err := o.print(found, found.text); err != nil {
		return err
	}
	switch found.Verdict {
	case check.Valid:
		return nil
	case check.Refused:
		return errFound
	default:
		return errBlocked
	}
}

// loginOf returns how an object's credential is tried.
func loginOf(object *v1.ImagePullSecret, how trial) (check.Login, error) {
	credential := object.Spec.Docker
	login := check.Login{Server: credential.Server, Username: credential.Username, Password: credential.Password, Image: how.image,
		Realms: how.realms}
	if how.caFile == "" {
		return login, nil
	}
	text, err := os.ReadFile(how.caFile)
	if err != nil {
		return login, fmt.Errorf("reading the registry's authorities: %w", err)
	}
	login.Roots = x509.NewCertPool()
	if !login.Roots.AppendCertsFromPEM(text) {
		return login, fmt.Errorf("reading the registry's authorities: %s holds no PEM certificate", how.caFile)
	}
	return login, nil
}

func (c checked) text(p page) {
	tone := map[check.Verdict]colour{check.Valid: green, check.Refused: red, check.Unknown: yellow}[c.Verdict]
	p.printf("%s: imagepullsecret %s, asked from %s\n  %s: %s\n", p.in(tone, string(c.Verdict)), c.Name, c.From, c.Reason,
		printable(c.Message))
}
