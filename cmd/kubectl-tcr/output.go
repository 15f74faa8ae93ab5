package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"unicode"

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

// isTerminal reports whether out is a terminal, and colours are wanted (no-color.org).
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

// painted is a text that printf prints as it is.
type painted string

func (p page) in(c colour, text string) painted {
	text = printable(text)
	if !p.colour {
		return painted(text)
	}
	return painted(string(c) + text + string(plain))
}

// printf prints a line. Its arguments come from the cluster, or from a file, and must not control the terminal.
func (p page) printf(format string, args ...any) {
	for i, arg := range args {
		if text := reflect.ValueOf(arg); text.Kind() == reflect.String && text.Type() != reflect.TypeFor[painted]() {
			args[i] = printable(text.String())
		}
	}
	fmt.Fprintf(p, format, args...)
}

// printable replaces the characters of a text that would control a terminal: that begin a line, change colours, or reverse the direction of
// what follows.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}

// printableLines is printable for a text of several lines. All but the first are indented, so that none looks like a line of ours.
func printableLines(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, printable(strings.TrimSuffix(line, "\n")))
	}
	return strings.Join(lines, "\n  ")
}

// merged returns what could not be seen, without duplicates.
func merged(all, more []diagnose.Unseen) []diagnose.Unseen {
	for _, one := range more {
		if !slices.Contains(all, one) {
			all = append(all, one)
		}
	}
	return all
}

// unseen prints what could not be seen, once for each reason.
func (p page) unseen(all []diagnose.Unseen) {
	told := map[string]bool{}
	for _, one := range all {
		if !told[one.Why] {
			p.printf("%s %s\n", p.in(yellow, "not seen:"), one.Why)
		}
		told[one.Why] = true
	}
}
