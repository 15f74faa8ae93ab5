package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// panel is one of the plots, over the number of namespaces or of ImagePullSecrets, both axes logarithmic.
type panel struct {
	title string
	lines []line
}

// line is a figure at the sizes it was measured at.
type line struct {
	benchmark, name, label, color string
}

var panels = []panel{
	{"seconds to bring N namespaces in line", []line{
		{"convergence", "time", "the manager, from its start", "#0969da"},
		{"convergence", "time of bare writes", "bare writes", "#8c959f"},
	}},
	{"writes to bring N namespaces in line", []line{{"convergence", "writes", "all of them", "#0969da"}}},
	{"MiB of memory with N namespaces", []line{
		{"memory", "most while re-issuing", "most while re-issuing", "#8c959f"},
		{"memory", "at rest", "at rest", "#0969da"},
	}},
	{"ms to create an account, N ImagePullSecrets", []line{
		{"objects", "account: p50", "policy and webhook", "#0969da"},
		{"objects", "account: p50 of a bare one", "neither", "#8c959f"},
	}},
	{"ms until a new namespace is complete", []line{
		{"objects", "new namespace: p50 until the Secret is seen", "its Secret", "#0969da"},
		{"objects", "new namespace: p50 until the account is seen", "its default account", "#8250df"},
	}},
	{"MiB of memory with N ImagePullSecrets", []line{
		{"objects", "memory at most while they were created at once", "most while all are created at once", "#8c959f"},
		{"objects", "memory at rest", "at rest", "#0969da"},
	}},
	{"seconds until N ImagePullSecrets stand", []line{
		{"objects", "created at once: time", "created at once", "#0969da"},
		{"objects", "created at once: time of bare writes", "bare writes", "#8c959f"},
	}},
	{"ms of the manager's processor for a change", []line{{"objects", "processor time of the manager for a change", "one of N ImagePullSecrets", "#0969da"}}},
	{"seconds until a new process knows all N", []line{{"objects", "a process' start until it knows everything", "its start", "#0969da"}}},
}

// panelsInARow of the plot.
const panelsInARow = 3

// The size of a panel and of the space around it, in pixels.
const (
	panelWidth, panelHeight = 250.0, 200.0
	marginLeft, marginTop   = 60.0, 40.0
	marginBelow             = 70.0
)

// point is a number of namespaces or of ImagePullSecrets and what was measured there.
type point struct{ x, y float64 }

func (r *report) points(l line) []point {
	var points []point
	for _, f := range r.Figures {
		if f.Benchmark == l.benchmark && f.Name == l.name && f.Size > 0 && f.median() > 0 {
			points = append(points, point{float64(f.Size), f.median()})
		}
	}
	slices.SortFunc(points, func(a, b point) int { return int(a.x - b.x) })
	return points
}

// slope is the power of that number with which a figure grows: of a straight line through the logarithms by
// least squares.
func slope(points []point) float64 {
	var n, sx, sy, sxx, sxy float64
	for _, p := range points {
		x, y := math.Log(p.x), math.Log(p.y)
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	return (n*sxy - sx*sy) / (n*sxx - sx*sx)
}

// plot draws how figures grow with the number of namespaces and of ImagePullSecrets, as SVG.
func plot(r *report) []byte {
	var svg bytes.Buffer
	const column, row = marginLeft + panelWidth + 20, marginTop + panelHeight + marginBelow
	rows := (len(panels) + panelsInARow - 1) / panelsInARow
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="11">`+"\n", panelsInARow*column, float64(rows)*row)
	fmt.Fprintln(&svg, `<rect width="100%" height="100%" fill="#ffffff"/>`)
	for i, p := range panels {
		fmt.Fprintf(&svg, `<g transform="translate(%.0f %.0f)">`+"\n", marginLeft+float64(i%panelsInARow)*column, marginTop+float64(i/panelsInARow)*row)
		p.draw(&svg, r)
		fmt.Fprintln(&svg, `</g>`)
	}
	fmt.Fprintln(&svg, `</svg>`)
	return svg.Bytes()
}

func (p panel) draw(svg *bytes.Buffer, r *report) {
	var all []point
	for _, l := range p.lines {
		all = append(all, r.points(l)...)
	}
	fmt.Fprintf(svg, `<text x="0" y="-12" font-size="13">%s</text>`+"\n", html.EscapeString(p.title))
	fmt.Fprintf(svg, `<rect width="%.0f" height="%.0f" fill="none" stroke="#d0d7de"/>`+"\n", panelWidth, panelHeight)
	if len(all) == 0 {
		return
	}
	x := axisOf(all, func(p point) float64 { return p.x })
	y := axisOf(all, func(p point) float64 { return p.y })
	for _, tick := range x.ticks() {
		fmt.Fprintf(svg, `<text x="%.1f" y="%.0f" text-anchor="middle">%s</text>`+"\n", x.at(tick)*panelWidth, panelHeight+15, number(tick))
	}
	for _, tick := range y.ticks() {
		at := (1 - y.at(tick)) * panelHeight
		fmt.Fprintf(svg, `<line x2="%.0f" y1="%.1f" y2="%.1f" stroke="#eaeef2"/><text x="-5" y="%.1f" text-anchor="end">%s</text>`+"\n", panelWidth, at, at, at+4, number(tick))
	}
	for i, l := range p.lines {
		points := r.points(l)
		var path []string
		for _, point := range points {
			at := fmt.Sprintf("%.1f,%.1f", x.at(point.x)*panelWidth, (1-y.at(point.y))*panelHeight)
			path = append(path, at)
			left, top, _ := strings.Cut(at, ",")
			fmt.Fprintf(svg, `<circle cx="%s" cy="%s" r="3" fill="%s"/>`+"\n", left, top, l.color)
		}
		fmt.Fprintf(svg, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(path, " "), l.color)
		label := l.label
		if len(points) > 1 {
			label += fmt.Sprintf(": grows with N^%.2f", slope(points))
		}
		fmt.Fprintf(svg, `<text x="0" y="%.0f" fill="%s">%s</text>`+"\n", panelHeight+35+15*float64(i), l.color, html.EscapeString(label))
	}
}

// axis is a logarithmic scale between two values.
type axis struct{ low, high float64 }

// steps are where the ticks of an axis are, within a power of ten.
var steps = []float64{1, 2, 5}

func axisOf(points []point, value func(point) float64) axis {
	a := axis{math.Inf(1), math.Inf(-1)}
	for _, p := range points {
		a.low, a.high = min(a.low, value(p)), max(a.high, value(p))
	}
	a.low, a.high = a.low/1.3, a.high*1.3
	return a
}

// at returns where a value is, from 0 to 1.
func (a axis) at(value float64) float64 { return math.Log(value/a.low) / math.Log(a.high/a.low) }

func (a axis) ticks() []float64 {
	var ticks []float64
	for power := math.Pow(10, math.Floor(math.Log10(a.low))); power <= a.high; power *= 10 {
		for _, step := range steps {
			if tick := power * step; tick >= a.low && tick <= a.high {
				ticks = append(ticks, tick)
			}
		}
	}
	return ticks
}
