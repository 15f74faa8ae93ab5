package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func reportOf(unit unit, values ...float64) *report {
	return &report{Figures: []*figure{{Benchmark: "b", Name: "f", Size: 100, Unit: unit, Values: values}}}
}

func TestGuard(t *testing.T) {
	for name, test := range map[string]struct {
		unit          unit
		now, baseline []float64
		worse         bool
	}{
		"a ratio that is as it was passes":                     {ratio, []float64{1.2}, []float64{1.2}, false},
		"a ratio a quarter above passes":                       {ratio, []float64{1.25}, []float64{1}, false},
		"a ratio more than a quarter above fails":              {ratio, []float64{1.26}, []float64{1}, true},
		"one good round is enough":                             {ratio, []float64{3, 1.1, 3}, []float64{1}, false},
		"it is held against the middle round of the baseline":  {ratio, []float64{1.25}, []float64{1, 1.2, 0.8}, false},
		"and not against its worst":                            {ratio, []float64{1.3}, []float64{1, 1.2, 0.8}, true},
		"a better ratio passes":                                {ratio, []float64{0.1}, []float64{1}, false},
		"one call where there was none fails":                  {count, []float64{1}, []float64{0}, true},
		"an allocation within a quarter passes":                {allocations, []float64{40}, []float64{35}, false},
		"seconds mean something else on every machine":         {seconds, []float64{100}, []float64{1}, false},
		"and so does memory, in another version of the kernel": {mebibytes, []float64{100}, []float64{1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			lines := reportOf(test.unit, test.now...).worse(reportOf(test.unit, test.baseline...))
			assert.Equal(t, test.worse, len(lines) > 0, "%v", lines)
		})
	}
	t.Run("what is no longer measured fails", func(t *testing.T) {
		assert.Equal(t, []string{"b: f at 100: was not measured"}, (&report{}).worse(reportOf(ratio, 1)))
	})
}

func TestRoundsMakeOneFigure(t *testing.T) {
	var r report
	r.add("b", "f", 1, ratio, 3).atMost(1)
	r.add("b", "f", 1, ratio, 1)
	r.add("b", "f", 1, ratio, 2)
	r.add("b", "f", 2, ratio, 9)
	require.Len(t, r.Figures, 2)
	assert.Equal(t, []float64{3, 1, 2}, r.Figures[0].Values)
	assert.InDelta(t, 2, r.Figures[0].median(), 0)

	var table strings.Builder
	require.NoError(t, r.print(&table))
	assert.Regexp(t, `b\s+f\s+1\s+2\s+1\s+3\s+x\s+<= 1\s+missed`, table.String())
}

func TestEarlierBenchmarksStay(t *testing.T) {
	earlier := reportOf(ratio, 1)
	earlier.Figures = append(earlier.Figures, &figure{Benchmark: "other", Name: "f", Values: []float64{5}})
	all := reportOf(ratio, 2).over(earlier)
	require.Len(t, all.Figures, 2)
	assert.Equal(t, []float64{2}, all.Figures[0].Values, "what was measured anew is new")
	assert.Equal(t, []float64{5}, all.Figures[1].Values, "what was not is kept")
}

func TestSlope(t *testing.T) {
	assert.InDelta(t, 1, slope([]point{{100, 1}, {1000, 10}, {5000, 50}}), 1e-9, "twice as much for twice as many")
	assert.InDelta(t, 0, slope([]point{{100, 7}, {1000, 7}}), 1e-9, "the same for any number")
	assert.InDelta(t, 2, slope([]point{{10, 100}, {100, 10000}}), 1e-9, "four times as much for twice as many")
}

func TestPlotIsWellFormed(t *testing.T) {
	var r report
	for _, n := range []int{100, 1000} {
		r.add("convergence", "time", n, seconds, float64(n)/100)
		r.add("memory", "at rest", n, mebibytes, 30)
		r.add("objects", "account: p50", n, milliseconds, 5)
	}
	svg := string(plot(&r))
	decoder := xml.NewDecoder(strings.NewReader(svg))
	for {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
	}
	assert.Contains(t, svg, "the manager, from its start: grows with N^1.00")
	assert.Contains(t, svg, "policy and webhook: grows with N^0.00")
	assert.NotContains(t, svg, "NaN")
}
