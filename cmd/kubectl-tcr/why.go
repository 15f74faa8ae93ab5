package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/tcr-assistant/tcr-assistant/diagnose"
	"github.com/tcr-assistant/tcr-assistant/diagnose/gather"
)

func newWhy(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "why [POD | KIND/NAME]",
		Short: "Say why pods cannot pull their images",
		Long: `Say why pods cannot pull their images: what is wrong, how that is known, and what to do.

KIND is pod, deployment, statefulset, daemonset, replicaset, job or namespace. Without an argument, it looks at every pod of the namespace.
Exit codes: 0, with the finding Healthy, if no pull has failed, 1 if it found why one has, 2 if it could not find out.`,
		Example: `  # Why does a pod not start?
  kubectl tcr why web-1 -n shop

  # Why do the pods of a deployment not start?
  kubectl tcr why deployment/web -n shop

  # Which pods of a namespace cannot pull, and why?
  kubectl tcr why namespace/shop

  # For a program
  kubectl tcr why web-1 -n shop -o json`,
		Args: taking(cobra.MaximumNArgs(1)),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			_, namespace, err := o.connect()
			if err != nil || len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return o.complete(cmd, "pods", namespace)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			argument := ""
			if len(args) > 0 {
				argument = args[0]
			}
			return o.why(cmd, argument)
		},
	}
}

// explanation is what "why" prints.
type explanation struct {
	Findings []diagnose.Finding `json:"findings"`
	NextTry  time.Time          `json:"nextTry,omitzero"`
	Unseen   []diagnose.Unseen  `json:"unseen,omitempty"`
}

func (o *options) why(cmd *cobra.Command, argument string) error {
	cluster, namespace, err := o.connect()
	if err != nil {
		return err
	}
	target, err := gather.ParseTarget(argument, namespace)
	if err != nil {
		return err
	}
	evidence, err := cluster.Evidence(cmd.Context(), target, time.Now())
	if err != nil {
		return err
	}
	explained := explain(target, evidence)
	if err := o.print(explained, explained.text); err != nil {
		return err
	}
	return explained.verdict()
}

// explain combines what is wrong with several pods.
func explain(target gather.Target, evidence []diagnose.Evidence) explanation {
	var all explanation
	healthy := 0
	for _, one := range evidence {
		report := one.Diagnose()
		if report.Healthy() {
			healthy++
			continue
		}
		for _, finding := range report.Findings {
			if !slices.Contains(all.Findings, finding) {
				all.Findings = append(all.Findings, finding)
			}
		}
		all.Unseen = merged(all.Unseen, report.Unseen)
		if !report.NextTry.IsZero() && (all.NextTry.IsZero() || report.NextTry.Before(all.NextTry)) {
			all.NextTry = report.NextTry
		}
	}
	if len(all.Findings) == 0 {
		message := "no image waits to be pulled"
		if target.Kind != "pod" {
			message = fmt.Sprintf("none of its %d pods waits for an image", healthy)
		}
		all.Findings = []diagnose.Finding{{Reason: diagnose.Healthy, Object: target.String(), Message: message}}
	}
	return all
}

// verdict returns the error that decides the exit code.
func (e explanation) verdict() error {
	is := func(reason diagnose.Reason) func(diagnose.Finding) bool {
		return func(f diagnose.Finding) bool { return f.Reason == reason }
	}
	switch {
	case slices.ContainsFunc(e.Findings, is(diagnose.Healthy)):
		return nil
	case !slices.ContainsFunc(e.Findings, func(f diagnose.Finding) bool { return f.Reason != diagnose.Undecided }):
		return errBlocked
	default:
		return errFound
	}
}

// maxOthers is how many more objects with the same finding are named.
const maxOthers = 3

// text prints each kind of finding once, with one example.
func (e explanation) text(p page) {
	done := map[diagnose.Reason]bool{}
	for _, finding := range e.Findings {
		if done[finding.Reason] {
			continue
		}
		done[finding.Reason] = true
		tone := red
		switch finding.Reason {
		case diagnose.Healthy:
			tone = green
		case diagnose.BackingOff, diagnose.Undecided:
			tone = yellow
		}
		p.printf("%s: %s\n  %s\n", p.in(tone, string(finding.Reason)), finding.Object, finding.Message)
		if finding.Action != "" {
			p.printf("  %s %s\n", p.in(green, "To do:"), finding.Action)
		}
		var others []string
		for _, other := range e.Findings {
			if other.Reason == finding.Reason && other.Object != finding.Object && !slices.Contains(others, other.Object) {
				others = append(others, other.Object)
			}
		}
		for _, other := range others[:min(len(others), maxOthers)] {
			p.printf("  the same: %s\n", other)
		}
		if more := len(others) - maxOthers; more > 0 {
			p.printf("  and %d more\n", more)
		}
	}
	if !e.NextTry.IsZero() {
		p.printf("The kubelet tries again at about %s.\n", e.NextTry.UTC().Format("15:04:05 MST"))
	}
	p.unseen(e.Unseen)
}
