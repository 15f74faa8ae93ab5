package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
)

// unit says what a figure counts. Less is better in every one.
type unit string

// Ratios and counts mean the same on every machine; what is measured in the other units does not.
const (
	ratio        unit = "x"
	count        unit = "calls"
	milliseconds unit = "ms"
	microseconds unit = "us"
	seconds      unit = "s"
	mebibytes    unit = "MiB"
	bytesEach    unit = "B"
	perMinute    unit = "/min"
	perSecond    unit = "/s"
	allocations  unit = "allocs"
)

// mebibyte is in bytes.
const mebibyte = 1 << 20

// comparable reports whether figures of this unit mean the same on another machine.
func (u unit) comparable() bool { return u == ratio || u == count || u == allocations }

// figure is one thing that was measured, in each round once.
type figure struct {
	Benchmark string `json:"benchmark"`
	Name      string `json:"name"`
	// Size is the number of namespaces, of ImagePullSecrets, or of bytes of an admission request; 0 where none of them matters.
	Size   int       `json:"size,omitempty"`
	Unit   unit      `json:"unit"`
	Values []float64 `json:"values"`
	// Goal is what the median should not exceed; none where it is absent.
	Goal *float64 `json:"goal,omitempty"`
}

// key names a figure within a report.
func (f figure) key() string { return fmt.Sprintf("%s: %s at %d", f.Benchmark, f.Name, f.Size) }

// median is the middle value; of an even number, the lower one of the middle two.
func (f figure) median() float64 {
	sorted := slices.Sorted(slices.Values(f.Values))
	return sorted[(len(sorted)-1)/2]
}

// report is what a run has measured.
type report struct {
	Kubernetes string    `json:"kubernetes,omitempty"`
	Go         string    `json:"go"`
	CPUs       int       `json:"cpus"`
	Figures    []*figure `json:"figures"`
}

// add takes in a value: a new figure's first, or one more of a figure that is there.
func (r *report) add(benchmark, name string, size int, unit unit, value float64) *figure {
	one := figure{Benchmark: benchmark, Name: name, Size: size, Unit: unit}
	for _, have := range r.Figures {
		if have.key() == one.key() {
			have.Values = append(have.Values, value)
			return have
		}
	}
	one.Values = []float64{value}
	r.Figures = append(r.Figures, &one)
	return &one
}

// atMost sets the goal.
func (f *figure) atMost(goal float64) { f.Goal = &goal }

// print writes the report as a table.
func (r *report) print(to io.Writer) error {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "BENCHMARK\tFIGURE\tSIZE\tMEDIAN\tMIN\tMAX\tUNIT\tGOAL\t")
	for _, f := range r.Figures {
		size, goal, met := "", "", ""
		if f.Size > 0 {
			size = fmt.Sprint(f.Size)
		}
		if f.Goal != nil {
			goal, met = "<= "+number(*f.Goal), "met"
			if f.median() > *f.Goal {
				met = "missed"
			}
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.Benchmark, f.Name, size,
			number(f.median()), number(slices.Min(f.Values)), number(slices.Max(f.Values)), f.Unit, goal, met)
	}
	return table.Flush()
}

// number is a value with as many digits as mean something.
func number(value float64) string {
	switch {
	case value == float64(int64(value)):
		return fmt.Sprint(int64(value))
	case value >= 100:
		return fmt.Sprintf("%.0f", value)
	case value >= 10:
		return fmt.Sprintf("%.1f", value)
	default:
		return fmt.Sprintf("%.2f", value)
	}
}

// over returns this report, completed by an earlier one's figures of benchmarks that this one has none of.
func (r *report) over(earlier *report) *report {
	all := *r
	if all.Kubernetes == "" {
		all.Kubernetes = earlier.Kubernetes
	}
	all.Figures = nil
	for _, old := range earlier.Figures {
		if !slices.ContainsFunc(r.Figures, func(f *figure) bool { return f.Benchmark == old.Benchmark }) {
			all.Figures = append(all.Figures, old)
		}
	}
	all.Figures = append(all.Figures, r.Figures...)
	slices.SortStableFunc(all.Figures, func(a, b *figure) int {
		return cmp.Or(cmp.Compare(a.Benchmark, b.Benchmark), cmp.Compare(a.Size, b.Size))
	})
	return &all
}

func readReport(file string) (*report, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading measurements: %w", err)
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("reading measurements %s: %w", file, err)
	}
	for _, f := range r.Figures {
		if len(f.Values) == 0 {
			return nil, fmt.Errorf("reading measurements %s: %s has no values", file, f.key())
		}
	}
	return &r, nil
}

func (r *report) write(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(file, append(text, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("writing measurements: %w", err)
	}
	return nil
}

// tolerance is how much worse than the baseline a ratio may be.
const tolerance = 0.25

// worse returns a line for each ratio and count that is worse than the baseline's by more than the tolerance, and for each
// that the baseline has and this report lacks. What depends on the machine is not compared.
func (r *report) worse(baseline *report) []string {
	var lines []string
	for _, old := range baseline.Figures {
		if !old.Unit.comparable() {
			continue
		}
		i := slices.IndexFunc(r.Figures, func(f *figure) bool { return f.key() == old.key() })
		if i < 0 {
			lines = append(lines, fmt.Sprintf("%s: was not measured", old.key()))
			continue
		}
		// What else a machine does moves single rounds by more than the tolerance, and a guard that cries wolf is soon ignored:
		// one good round is enough.
		if best := slices.Min(r.Figures[i].Values); best > old.median()*(1+tolerance) {
			lines = append(lines, fmt.Sprintf("%s: %s %s at best, instead of %s", old.key(), number(best), old.Unit, number(old.median())))
		}
	}
	return lines
}
