package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/credential"
	"github.com/tcr-assistant/tcr-assistant/diagnose"
	"github.com/tcr-assistant/tcr-assistant/diagnose/gather"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

func newStatus(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "status [NAME]",
		Short: "Show the state of ImagePullSecrets, the manager and hosts-updater, on one screen",
		Long: `Show the state of ImagePullSecrets, the manager and hosts-updater, on one screen.

Exit codes: 0 if everything is as it should be, 1 if something is not, 2 if it could not find out.`,
		Example: `  # All of them
  kubectl tcr status

  # One of them, with all of its failures
  kubectl tcr status imagepullsecret-sample

  # For a program
  kubectl tcr status -o json`,
		Args: taking(cobra.MaximumNArgs(1)),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return o.complete(cmd, "imagepullsecrets", "")
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			return o.status(cmd, name)
		},
	}
}

// overview is what "status" prints. It contains nothing secret of a spec.
type overview struct {
	Objects []row             `json:"objects"`
	Manager managerRow        `json:"manager"`
	Hosts   gather.Hosts      `json:"hosts"`
	Unseen  []diagnose.Unseen `json:"unseen,omitempty"`

	all     bool      // show every failure
	now     time.Time // when the cluster was read
	product string    // the namespace in which it looked for the manager
}

// row is the state of one ImagePullSecret.
type row struct {
	Name            string       `json:"name"`
	Servers         []string     `json:"servers"`
	Source          string       `json:"source,omitempty"`
	Ready           string       `json:"ready"`
	Reason          string       `json:"reason,omitempty"`
	Message         string       `json:"message,omitempty"`
	SecretsDesired  int32        `json:"secretsDesired"`
	SecretsSuccess  int32        `json:"secretsSuccess"`
	AccountsDesired int32        `json:"sAsDesired"`
	AccountsSuccess int32        `json:"sAsSuccess"`
	ValidUntil      time.Time    `json:"validUntil,omitzero"`
	OptedOut        *v1.OptedOut `json:"optedOut,omitempty"`
	Failures        []v1.Failure `json:"failures,omitempty"`
	// NotIssued is why the cloud does not issue or renew the credential.
	NotIssued string `json:"notIssued,omitempty"`
	// NotReached is why the registry is not reached over its private network.
	NotReached string `json:"notReached,omitempty"`
	// NotHealed is why pods that came before the credential are not evicted, although the object asks for it.
	NotHealed string `json:"notHealed,omitempty"`
	// Unread is why the credential cannot be read at its source, ExpiryUnread why its expiry cannot.
	Unread       string `json:"unread,omitempty"`
	ExpiryUnread string `json:"expiryUnread,omitempty"`
	// Valid is whether the registry takes the credential, as the manager last found, and ValidMessage is who answered what; both are blank if
	// the manager has not checked.
	Valid        string `json:"valid,omitempty"`
	ValidMessage string `json:"validMessage,omitempty"`
}

// managerRow is the state of the manager.
type managerRow struct {
	Leads     bool  `json:"leads"`
	Replicas  int32 `json:"replicas"`
	Available int32 `json:"available"`
	Attaches  bool  `json:"attaches"`
}

func (o *options) status(cmd *cobra.Command, name string) error {
	cluster, _, err := o.connect()
	if err != nil {
		return err
	}
	found, err := cluster.Overview(cmd.Context(), name)
	if err != nil {
		return err
	}
	shown := summarize(found, time.Now())
	shown.all, shown.product = name != "", o.product
	if err := o.print(shown, shown.text); err != nil {
		return err
	}
	if !shown.fine() {
		return errFound
	}
	return nil
}

func summarize(found gather.Overview, now time.Time) overview {
	shown := overview{
		Objects: []row{}, now: now, Hosts: found.Hosts, Unseen: found.Unseen,
		Manager: managerRow{
			Leads: found.Manager.LeaseUntil.After(now), Attaches: found.Manager.Attaches,
			Replicas: found.Manager.Replicas, Available: found.Manager.Available,
		},
	}
	for i := range found.Objects {
		shown.Objects = append(shown.Objects, rowOf(&found.Objects[i], found.Referred))
	}
	slices.SortFunc(shown.Objects, func(a, b row) int { return strings.Compare(a.Name, b.Name) })
	return shown
}

func rowOf(object *v1.ImagePullSecret, referred credential.Seen) row {
	status := object.Status
	shown := row{
		Name: object.Name, Ready: string(metav1.ConditionUnknown), Failures: status.Failures, OptedOut: status.OptedOut,
		SecretsDesired: status.SecretsDesired, SecretsSuccess: status.SecretsSuccess,
		AccountsDesired: status.SAsDesired, AccountsSuccess: status.SAsSuccess,
	}
	if rule, errs := pullsecret.Check(object); len(errs) > 0 {
		shown.Servers = []string{"(invalid)"} // they may contain a password by mistake
	} else {
		shown.Servers, shown.Source = rule.Servers, v1.SourceInline
		if rule.Reference != "" {
			shown.Source = v1.SourceSecret + rule.Reference
		}
		supplied := referred.Supply(rule)
		if supplied.Unread != nil {
			shown.Unread = supplied.Unread.Message
		}
		if rule.Registry != nil {
			shown.Source, shown.NotIssued = v1.SourceTCR+rule.Registry.ID, diagnose.NotIssued(object)
			shown.Servers = supplied.Servers
			if !supplied.Reachable() {
				shown.Servers = append([]string{"(unknown)"}, rule.Registry.Additional...)
			}
		}
	}
	if ready := meta.FindStatusCondition(status.Conditions, v1.ConditionReady); ready != nil &&
		status.ObservedGeneration == object.Generation {
		shown.Ready, shown.Reason, shown.Message = string(ready.Status), ready.Reason, ready.Message
	}
	if valid := meta.FindStatusCondition(status.Conditions, v1.ConditionCredentialValid); valid != nil {
		shown.Valid, shown.ValidMessage = string(valid.Status), valid.Message
	}
	shown.NotReached = failed(object, v1.ConditionPrivateNetworkReady)
	shown.NotHealed = failed(object, v1.ConditionHealing)
	if known := status.Credential; known != nil && status.ObservedGeneration == object.Generation {
		shown.ExpiryUnread = known.ExpiryUnread
		if known.ExpiresAt != nil {
			shown.ValidUntil = known.ExpiresAt.UTC()
		}
	}
	return shown
}

// failed returns the message of a condition that is False for the present spec; blank otherwise.
func failed(object *v1.ImagePullSecret, condition string) string {
	found := meta.FindStatusCondition(object.Status.Conditions, condition)
	if found == nil || found.Status != metav1.ConditionFalse || found.ObservedGeneration != object.Generation {
		return ""
	}
	return found.Message
}

func (s overview) saw(part diagnose.Part) bool {
	return !slices.ContainsFunc(s.Unseen, func(u diagnose.Unseen) bool { return u.Part == part })
}

// expired reports whether the object's credential has expired.
func (r row) expired(now time.Time) bool { return !r.ValidUntil.IsZero() && r.ValidUntil.Before(now) }

// fine reports whether everything that could be seen is as it should be.
func (s overview) fine() bool {
	ready := !slices.ContainsFunc(s.Objects, func(r row) bool {
		return r.Ready != string(metav1.ConditionTrue) || r.Unread+r.NotIssued+r.NotReached+r.NotHealed != "" ||
			r.Valid == string(metav1.ConditionFalse) || r.expired(s.now)
	})
	manager := !s.saw(diagnose.PartManager) || s.Manager.Leads
	hosts := !s.saw(diagnose.PartNode) || s.Hosts.Ready >= s.Hosts.Nodes
	return ready && manager && hosts
}

// maxFailures is how many failures are shown for each object, unless one object is asked for.
const maxFailures = 3

func (s overview) text(p page) {
	table := tabwriter.NewWriter(p, 0, 0, 3, ' ', 0)
	page{Writer: table}.printf("NAME\tREADY\tVALID UNTIL\tNAMESPACES\tACCOUNTS\tFAILURES\tSOURCE\tSERVERS\n")
	for _, r := range s.Objects {
		until := "-"
		if !r.ValidUntil.IsZero() {
			until = r.ValidUntil.UTC().Format("2006-01-02 15:04")
		}
		page{Writer: table}.printf("%s\t%s\t%s\t%d/%d\t%d/%d\t%d\t%s\t%s\n", r.Name, r.Ready, until,
			r.SecretsSuccess, r.SecretsDesired, r.AccountsSuccess, r.AccountsDesired, len(r.Failures), cmp.Or(r.Source, "-"), s.servers(r))
	}
	table.Flush()
	for _, r := range s.Objects {
		s.troubles(p, r)
	}
	if s.saw(diagnose.PartManager) {
		leads, tone := "a replica leads", green
		if !s.Manager.Leads {
			leads, tone = "no replica leads", red
		}
		p.printf("manager: %s", p.in(tone, leads))
		if s.saw(diagnose.PartDeployment) {
			p.printf(", %d of %d are available", s.Manager.Available, s.Manager.Replicas)
			if !s.Manager.Leads && s.Manager.Replicas == 0 {
				p.printf(" in the namespace %s; --product-namespace names another", printable(s.product))
			}
		}
		p.printf("\n")
	}
	if s.saw(diagnose.PartNode) {
		if s.Hosts.Installed {
			p.printf("hosts-updater: ready on %d of %d nodes, domains: %d\n", s.Hosts.Ready, s.Hosts.Nodes, len(s.Hosts.Lines))
		} else {
			p.printf("hosts-updater: not installed\n")
		}
	}
	p.unseen(s.Unseen)
}

// servers returns the first server and how many more there are, or all of them if one object is asked for.
func (s overview) servers(r row) string {
	if more := len(r.Servers) - 1; more > 0 && !s.all {
		return fmt.Sprintf("%s +%d", r.Servers[0], more)
	}
	return strings.Join(r.Servers, ",")
}

// troubles shows what is wrong with an object.
func (s overview) troubles(p page, r row) {
	if r.Ready != string(metav1.ConditionTrue) && r.Message != "" {
		p.printf("%s %s: %s\n", p.in(red, r.Reason), r.Name, r.Message)
	}
	if r.Unread != "" && !strings.Contains(r.Message, r.Unread) {
		p.printf("%s %s: %s\n", p.in(red, string(diagnose.CredentialUnread)), r.Name, r.Unread)
	}
	if r.NotIssued != "" && !strings.Contains(r.Message, r.NotIssued) {
		p.printf("%s %s: %s\n", p.in(red, string(diagnose.CredentialNotIssued)), r.Name, r.NotIssued)
	}
	if r.NotReached != "" && r.NotReached != r.NotIssued {
		p.printf("%s %s: %s\n", p.in(red, "PrivateNetworkNotReady"), r.Name, printable(r.NotReached))
	}
	if r.NotHealed != "" {
		p.printf("%s %s: %s\n", p.in(red, "PodsNotHealed"), r.Name, printable(r.NotHealed))
	}
	switch {
	case r.Valid == string(metav1.ConditionFalse):
		p.printf("%s %s: %s\n", p.in(red, string(diagnose.CredentialRefused)), r.Name, printable(r.ValidMessage))
	case r.expired(s.now):
		p.printf("%s %s: its credential ended at %s\n", p.in(red, string(diagnose.CredentialExpired)), r.Name,
			r.ValidUntil.Format("2006-01-02 15:04 MST"))
	case s.all && r.ValidMessage != "":
		p.printf("registry: %s\n", printable(r.ValidMessage))
	}
	if r.ExpiryUnread != "" {
		p.printf("%s: it is not known when its credential expires: %s\n", r.Name, printable(r.ExpiryUnread))
	}
	if r.OptedOut != nil && s.all {
		p.printf("opted out: %d namespaces, %d service accounts\n", r.OptedOut.Namespaces, r.OptedOut.ServiceAccounts)
	}
	shown := r.Failures
	if !s.all {
		shown = shown[:min(len(shown), maxFailures)]
	}
	for _, failure := range shown {
		p.printf("%s %s: %s\n", p.in(red, failure.Reason), failure.NamespacedName, failure.Message)
	}
	if more := len(r.Failures) - len(shown); more > 0 {
		p.printf("and %d more of %s: kubectl tcr status %s\n", more, r.Name, r.Name)
	}
}
