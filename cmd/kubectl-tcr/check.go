package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/credential/check"
	"github.com/tcr-assistant/tcr-assistant/diagnose"
	"github.com/tcr-assistant/tcr-assistant/diagnose/gather"
	"github.com/tcr-assistant/tcr-assistant/image"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
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
		Long: `Log in to the registry of an ImagePullSecret, now and from here: with its credential, as a kubelet would, at each of its servers.

It follows spec.check of the ImagePullSecret, unless flags override it; the flags' realms are added to its realms. The credential is
sent only over HTTPS, only to the registry's own domain and to the realms, and follows no redirect. That it works from here does not mean
that it works from the nodes: for that, use kubectl tcr why.

Exit codes: 0 if each server accepts the credential, 1 if one refuses it, 2 if it could not find out.`,
		Example: `  # Is the credential right?
  kubectl tcr check imagepullsecret-sample

  # May it pull this image?
  kubectl tcr check imagepullsecret-sample --image=team/app:v1

  # For a program
  kubectl tcr check imagepullsecret-sample -o json`,
		Args: taking(cobra.ExactArgs(1)),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return o.complete(cmd, "imagepullsecrets", "")
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.check(cmd, args[0], how) },
	}
	command.Flags().StringVar(&how.image, "image", "", "`image` that the credential should be able to pull, requested from "+
		"each server, or only from the one that its name begins with")
	command.Flags().StringSliceVar(&how.realms, "realm", nil, "`host` of another domain that the registry may want the credential sent to")
	command.Flags().StringVar(&how.caFile, "registry-ca-file", "",
		"`file` of PEM certificates of the registry's authorities, instead of those of the system")
	return command
}

// checked is what "check" prints.
type checked struct {
	Name string `json:"name"`
	// From is the host that asked.
	From    string    `json:"from"`
	Servers []attempt `json:"servers"`
}

// attempt is the result at one server.
type attempt struct {
	Server string `json:"server"`
	check.Result
}

func (o *options) check(cmd *cobra.Command, name string, how trial) error {
	if errs := pullsecret.CheckRealms(field.NewPath("--realm"), how.realms); len(errs) > 0 {
		return fmt.Errorf("reading the flags: %w", errs[0])
	}
	cluster, namespace, err := o.connect()
	if err != nil {
		return err
	}
	object, err := cluster.Object(cmd.Context(), name)
	if err != nil {
		return err
	}
	login, unknown, err := how.login(cmd.Context(), cluster, object)
	if err != nil {
		return err
	}
	logins, unread, err := readLogins(cmd.Context(), cluster, object, namespace, login)
	if err != nil {
		return err
	}
	found := checked{Name: name, Servers: unread}
	if found.From, err = os.Hostname(); err != nil {
		found.From = "this host"
	}
	for _, login := range at(logins, how.image) {
		came := unknown
		if came == nil {
			answered := check.Run(cmd.Context(), login)
			came = &answered
		}
		found.Servers = append(found.Servers, attempt{login.Server, *came})
	}
	if err := cmd.Context().Err(); err != nil {
		return fmt.Errorf("asking the registry: %w", err)
	}
	if err := o.print(found, found.text); err != nil {
		return err
	}
	return found.verdict()
}

// readLogins reads the credential of an object at its source, or, if the cloud issues it, in the Secret of a namespace.
func readLogins(
	ctx context.Context, cluster *gather.Cluster, object *v1.ImagePullSecret, namespace string, how check.Login,
) ([]check.Login, []attempt, error) {
	if object.Spec.TCR == nil {
		referred, hidden := cluster.Referred(ctx, *object)
		if len(hidden) > 0 {
			return nil, nil, fmt.Errorf("reading the credential of imagepullsecret %s: %s", object.Name, hidden[0].Why)
		}
		return loginsOf(object, referred, how)
	}
	secret, err := cluster.Issued(ctx, object.Name, namespace)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the credential of imagepullsecret %s: %w", object.Name, err)
	}
	logins, err := loginsIn(secret, how)
	return logins, nil, err
}

// loginsIn returns the logins to try with the credential in a Secret.
func loginsIn(secret *corev1.Secret, how check.Login) ([]check.Login, error) {
	name := types.NamespacedName{Namespace: secret.Namespace, Name: secret.Name}
	servers, err := diagnose.Read(secret.Data[corev1.DockerConfigJsonKey])
	if err != nil {
		return nil, fmt.Errorf("reading secret %s: %w", name, err)
	}
	logins := check.Each(servers, how)
	for i := range logins {
		one, unread := credential.LoginOf(name, secret, logins[i].Server)
		if unread != nil {
			return nil, errors.New(unread.Message)
		}
		logins[i].Username, logins[i].Password = one.Username, one.Password
	}
	return logins, nil
}

// at returns the logins at the server that an image names; all if it names none.
func at(logins []check.Login, wanted string) []check.Login {
	if i := slices.IndexFunc(logins, func(login check.Login) bool { return image.IsOf(wanted, login.Server) }); i >= 0 {
		return logins[i : i+1]
	}
	return logins
}

// verdict returns the error that decides the exit code.
func (c checked) verdict() error {
	came := func(verdict check.Verdict) bool {
		return slices.ContainsFunc(c.Servers, func(a attempt) bool { return a.Verdict == verdict })
	}
	switch {
	case came(check.Refused):
		return errFound
	case came(check.Unknown):
		return errBlocked
	default:
		return nil
	}
}

// loginsOf returns the logins to try with an object's credential, one for each of its servers. If the credential cannot be read at its
// source, it returns that result instead.
func loginsOf(object *v1.ImagePullSecret, referred credential.Seen, how check.Login) ([]check.Login, []attempt, error) {
	rule, errs := pullsecret.Parse(object)
	if len(errs) > 0 {
		return nil, nil, fmt.Errorf("reading imagepullsecret %s: %w", object.Name, errs.ToAggregate())
	}
	rule = referred.Supply(rule)
	unread := func(message string) []attempt {
		return []attempt{{rule.Servers[0], check.Result{Verdict: check.Unknown, Reason: string(diagnose.CredentialUnread), Message: message}}}
	}
	if rule.Unread != nil {
		return nil, unread(rule.Unread.Message), nil
	}
	logins := check.Each(rule.Servers, how)
	for i := range logins {
		one, _ := credential.Issued(rule, logins[i].Server)
		logins[i].Username, logins[i].Password = one.Username, one.Password
	}
	return logins, nil, nil
}

// login returns how to try the credential of an object: as its spec says, with what the flags override or add. If the authorities cannot be
// read, it returns the result for the credential instead.
func (t trial) login(ctx context.Context, cluster *gather.Cluster, object *v1.ImagePullSecret) (check.Login, *check.Result, error) {
	login := check.Login{Image: t.image, Realms: t.realms}
	if spec := object.Spec.Check; spec != nil {
		login.Image = cmp.Or(t.image, spec.Image)
		login.Realms = append(slices.Clone(t.realms), spec.Realms...)
	}
	var unknown *check.Result
	var err error
	if t.caFile != "" {
		login.Roots, err = t.roots()
	} else if login.Roots, unknown, err = cluster.Authorities(ctx, object); err != nil {
		err = fmt.Errorf("reading the authorities of the registry: %w", err)
	}
	return login, unknown, err
}

// roots returns the certificate authorities in the file.
func (t trial) roots() (*x509.CertPool, error) {
	text, err := os.ReadFile(t.caFile)
	if err != nil {
		return nil, fmt.Errorf("reading the registry's authorities: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("reading the registry's authorities: %s holds no PEM certificate", t.caFile)
	}
	return roots, nil
}

func (c checked) text(p page) {
	tones := map[check.Verdict]colour{check.Valid: green, check.Refused: red, check.Unknown: yellow}
	for _, one := range c.Servers {
		p.printf("%s: imagepullsecret %s at %s, asked from %s\n  %s: %s\n", p.in(tones[one.Verdict], string(one.Verdict)), c.Name, one.Server,
			c.From,
			one.Reason, one.Message)
	}
}
