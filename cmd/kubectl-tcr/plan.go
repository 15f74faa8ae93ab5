package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/resource"
	kjson "sigs.k8s.io/json"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/diagnose"
	"github.com/tcr-assistant/tcr-assistant/diagnose/gather"
	"github.com/tcr-assistant/tcr-assistant/preview"
)

func newPlan(o *options) *cobra.Command {
	var files resource.FilenameOptions
	command := &cobra.Command{
		Use:   "plan -f FILE",
		Short: "Say what creating or changing an ImagePullSecret would do, without doing it",
		Long: `Say what creating or changing an ImagePullSecret would do, without doing it: which namespaces and service accounts gain and
lose, which Secrets are in the way, which other ImagePullSecrets have another credential for the server, and what would be refused.

Exit codes: 0 if nothing would change, 1 if something would, or would be refused, 2 if it could not find out.`,
		Example: `  # What would this file do?
  kubectl tcr plan -f imagepullsecret.yaml

  # The same for the output of another program
  cat imagepullsecret.yaml | kubectl tcr plan -f -

  # For a program
  kubectl tcr plan -f imagepullsecret.yaml -o yaml`,
		Args: taking(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return o.plan(cmd, files) },
	}
	command.Flags().StringSliceVarP(&files.Filenames, "filename", "f", nil,
		"`file`, folder or URL of the ImagePullSecrets; - for standard input")
	command.Flags().BoolVarP(&files.Recursive, "recursive", "R", false, "read folders within folders, too")
	cobra.CheckErr(command.MarkFlagRequired("filename"))
	return command
}

// planned is what "plan" prints.
type planned struct {
	Objects []preview.Preview `json:"objects"`
	Unseen  []diagnose.Unseen `json:"unseen,omitempty"`
}

func (o *options) plan(cmd *cobra.Command, files resource.FilenameOptions) error {
	wanted, err := o.read(files)
	if err != nil {
		return err
	}
	cluster, _, err := o.connect()
	if err != nil {
		return err
	}
	found, err := compare(cmd, cluster, wanted)
	if err != nil {
		return err
	}
	if err := o.print(found, found.text); err != nil {
		return err
	}
	if slices.ContainsFunc(found.Objects, func(p preview.Preview) bool { return !p.Empty() }) {
		return errFound
	}
	return nil
}

// document is an ImagePullSecret from a file, or what is wrong with it.
type document struct {
	object  *v1.ImagePullSecret
	refused []string
}

// read returns the ImagePullSecrets of files.
func (o *options) read(files resource.FilenameOptions) ([]document, error) {
	var wanted []document
	result := resource.NewLocalBuilder().Unstructured().FilenameParam(false, &files).ContinueOnError().Flatten().Do()
	err := result.Visit(func(info *resource.Info, err error) error {
		if err != nil {
			return err
		}
		object, is := info.Object.(*unstructured.Unstructured)
		if !is || object.GroupVersionKind() != v1.Kind {
			kind := info.Object.GetObjectKind().GroupVersionKind()
			page{Writer: o.ErrOut}.printf("%s %s of %s is not an ImagePullSecret of %s: left out\n",
				kind.Kind, info.Name, kind.GroupVersion(), v1.GroupVersion)
			return nil
		}
		read, err := parse(object)
		wanted = append(wanted, read)
		return err
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the files: %s", repeated.ReplaceAllString(err.Error(), "…"))
	case len(wanted) == 0:
		return nil, errors.New("reading the files: there is no ImagePullSecret in them")
	}
	return wanted, nil
}

// repeated matches what errors quote of a file, and of its URL. Such a quote may be a password: YAML takes one that begins with "*" for the
// name of an anchor.
var repeated = regexp.MustCompile("`[^`]*`|'[^']*'" + `|//[^\s"/@]+@|\?[^\s"]+`)

// parse reads an ImagePullSecret as the API server does. It quotes no value: any may be a password by mistake.
func parse(object *unstructured.Unstructured) (document, error) {
	encoded, err := json.Marshal(object.Object)
	if err != nil {
		return document{}, fmt.Errorf("reading imagepullsecret %s: it is not JSON", object.GetName())
	}
	read := document{object: &v1.ImagePullSecret{}}
	unknown, err := kjson.UnmarshalStrict(encoded, read.object)
	var typed *json.UnmarshalTypeError
	switch {
	case errors.As(err, &typed):
		read.refused = append(read.refused, fmt.Sprintf("%s: Invalid value: must be a %s: write it in quotes", typed.Field, typed.Type))
	case err != nil:
		read.refused = append(read.refused, "it cannot be decoded as an ImagePullSecret")
	}
	for _, err := range unknown {
		read.refused = append(read.refused, err.Error())
	}
	read.object.Name = object.GetName()
	return read, nil
}

func compare(cmd *cobra.Command, cluster *gather.Cluster, wanted []document) (planned, error) {
	var found planned
	existing, err := cluster.Objects(cmd.Context())
	if err != nil {
		return found, err
	}
	namespaces, hidden, err := cluster.Namespaces(cmd.Context())
	if err != nil {
		return found, err
	}
	found.Unseen = hidden
	for _, document := range wanted {
		if len(document.refused) > 0 {
			found.Objects = append(found.Objects, preview.Preview{Name: document.object.Name, New: isNew(existing, document.object.Name),
				Refused: document.refused})
			continue
		}
		occupied, hidden := cluster.Occupied(cmd.Context(), document.object.Name, namespaces)
		referred, unread := cluster.Referred(cmd.Context(), append(preview.Compared(document.object, existing), *document.object)...)
		found.Unseen = merged(merged(found.Unseen, hidden), unread)
		found.Objects = append(found.Objects, preview.For(document.object, existing, referred, occupied))
		existing = replaced(existing, *document.object)
	}
	return found, cmd.Context().Err()
}

// isNew reports whether none of the existing objects has that name.
func isNew(existing []v1.ImagePullSecret, name string) bool {
	return !slices.ContainsFunc(existing, func(e v1.ImagePullSecret) bool { return e.Name == name })
}

// replaced returns the existing objects together with one from a file: the next ones in the file are compared with these.
func replaced(existing []v1.ImagePullSecret, object v1.ImagePullSecret) []v1.ImagePullSecret {
	others := slices.DeleteFunc(slices.Clone(existing), func(e v1.ImagePullSecret) bool { return e.Name == object.Name })
	return append(others, object)
}

func (f planned) text(p page) {
	for _, object := range f.Objects {
		textOf(p, object)
	}
	p.unseen(f.Unseen)
}

func textOf(p page, object preview.Preview) {
	name := "imagepullsecret " + cmp.Or(object.Name, "without a name")
	switch {
	case len(object.Refused) > 0:
		p.printf("%s %s\n", name, p.in(red, "would be refused"))
		for _, refusal := range object.Refused {
			p.printf("! %s\n", refusal)
		}
		return
	case object.Empty():
		p.printf("%s would change nothing\n", name)
	case object.New:
		p.printf("%s would be created\n", name)
	default:
		p.printf("%s would be changed\n", name)
	}
	if servers := signed(object.GainServers, object.LoseServers); servers != "" {
		p.printf("~ servers: %s\n", servers)
	}
	if object.Credential {
		p.printf("~ credential: every Secret is rewritten in place\n")
	}
	if object.Pods != "" {
		p.printf("~ pods that list pull secrets of their own: %s, for those that are created from then on\n", object.Pods)
	}
	if object.Healing != "" {
		p.printf("~ pods that came before the credential: %s\n", healed[object.Healing])
	}
	for _, effect := range object.Effects {
		p.effect(effect, object.Name)
	}
	for _, kept := range object.OptedOut {
		p.printf("= %s: opted out by its label %s, gets nothing\n", kept, v1.OptOutLabel)
	}
	if object.Unread != "" {
		p.printf("%s the credential cannot be read, and until it can, no Secret is written: %s\n", p.in(yellow, "!"), object.Unread)
	}
	for _, text := range slices.Concat(object.InTheWay, object.Conflicts) {
		p.printf("%s %s\n", p.in(yellow, "!"), text)
	}
}

// healed says what happens to pods with a value of spec.healing.
var healed = map[string]string{
	v1.HealingEvict: "Evict, which evicts those that wait for an image, from then on",
	v1.HealingNever: "Never, none is evicted from then on",
}

// signed lists what is gained and what is lost.
func signed(gain, lose []string) string {
	var all []string
	for _, name := range gain {
		all = append(all, string(preview.Gain)+name)
	}
	for _, name := range lose {
		all = append(all, string(preview.Lose)+name)
	}
	return strings.Join(all, " ")
}

func (p page) effect(effect preview.Effect, name string) {
	var parts []string
	if effect.Secret {
		parts = append(parts, "secret tcr.ips"+name)
	}
	tones := map[preview.Op]colour{preview.Gain: green, preview.Lose: red, preview.Change: yellow}
	accounts := signed(effect.Gain, effect.Lose)
	if effect.Op != preview.Change { // its sign holds for all
		accounts = strings.Join(slices.Concat(effect.Gain, effect.Lose), " ")
	}
	if accounts != "" {
		parts = append(parts, "serviceaccounts "+accounts)
	}
	p.printf("%s namespace %s: %s\n", p.in(tones[effect.Op], string(effect.Op)), effect.Namespace, strings.Join(parts, "; "))
}
