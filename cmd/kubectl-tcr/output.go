package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"
	"sigs.k8s.io/yaml"

	"github.com/tcr-assistant/tcr-assistant/diagnose"
)

func (o *options) checkOutput() error {
	switch o.output {
	case "", "json", "yaml":
		return nil
	}
	return fmt.Errorf("reading --output: %q is unknown: write json or yaml", o.output)
}

// print writes a value in the format that was asked for, or else as text.
func (o *options) print(value any, text func(page)) error {
	var out []byte
	var err error
	switch o.output {
	case "json":
		if out, err = json.MarshalIndent(value, "", "  "); err == nil {
			out = append(out, '\n')
		}
	case "yaml":
		out, err = yaml.Marshal(value)
	default:
		text(page{Writer: o.Out, colour: isTerminal(o.Out)})
		return nil
	}
	if err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	_, err = o.Out.Write(out)
	return err
}

// page is what text is printed on.
type page struct {
	io.Writer
	colour bool
}

// isTerminal reports whether colours mean something there, and are wanted (no-color.org).
func isTerminal(out io.Writer) bool {
	file, is := out.(*os.File)
	return is && os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(file.Fd()))
}

type colour string

const (
	red    colour = "\x1b[31m"
	green  colour = "\x1b[32m"
	yellow colour = "\x1b[33m"
	plain  colour = "\x1b[0m"
)

func (p page) in(c colour, text string) string {
	if !p.colour {
		return text
	}
	return string(c) + text + string(plain)
}

func (p page) printf(format string, args ...any) { fmt.Fprintf(p, format, args...) }

// printable takes out of a text of the cluster's what would steer a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
}

// merged returns what could not be looked at, each once.
func merged(all, more []diagnose.Unseen) []diagnose.Unseen {
	for _, one := range more {
		if !slices.Contains(all, one) {
			all = append(all, one)
		}
	}
	return all
}

// unseen tells what could not be looked at, once for each reason.
func (p page) unseen(all []diagnose.Unseen) {
	told := map[string]bool{}
	for _, one := range all {
		if !told[one.Why] {
			p.printf("%s %s\n", p.in(yellow, "not seen:"), printable(one.Why))
		}
		told[one.Why] = true
	}
}
