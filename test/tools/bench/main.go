// Command bench measures the product on a real control plane of its own, next to the cheapest way to do the same in the
// same run, and prints one table.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// program is what is measured, and how long.
type program struct {
	rounds        int
	convergence   []int // numbers of namespaces
	restricted    []int // and the same under the policies that restrict the manager
	births        []birthProgram
	memory        []int // numbers of namespaces
	labels        []int // and of such with many labels
	cloud         []int // and of those where the cloud issues the credential
	objects       objectsProgram
	peer          peerProgram
	scale         []int // numbers of namespaces
	pods          podsProgram
	writers       writersProgram
	idle          time.Duration
	admissionTime time.Duration // for each figure
	servers       bool          // admission over TLS, too
}

var (
	whole = program{
		rounds: 3, convergence: []int{100, 1000, 5000}, restricted: []int{100, 1000, 5000},
		births: []birthProgram{quietBirths(400, time.Minute), birthStorm, birthInReissue},
		memory: []int{200, 1000, 2000, 10000}, labels: []int{10000}, cloud: []int{200}, objects: manyObjects, pods: manyPods,
		writers: manyWriters,
		peer:    peerProgram{sizes: []int{1000}, births: 100, idle: 10 * time.Second},
		scale:   []int{50000}, idle: time.Minute, admissionTime: time.Second, servers: true,
	}
	short = program{
		rounds: 3, convergence: []int{500}, births: []birthProgram{quietBirths(100, 10*time.Second)}, objects: someObjects,
		pods: somePods, writers: someWriters,
		idle: 10 * time.Second, admissionTime: 300 * time.Millisecond,
	}
)

// benchmarks are those that a program has.
const benchmarks = "convergence,birth,memory,labels,cloud,objects,pods,writers,peer,scale,hosts-updater,admission"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	isShort := flag.Bool("short", false, "measure less, as a guard")
	only := flag.String("only", "", "measure only `these`, of "+benchmarks)
	rounds := flag.Int("rounds", 0, "measure so `many` times instead of the usual")
	sizes := flag.String("namespaces", "", "`numbers` of namespaces, and of service accounts for writers, instead of the usual")
	many := flag.String("objects", "", "`numbers` of ImagePullSecrets, instead of the usual")
	born := flag.Int("births", 0, "create so `many` namespaces for birth instead of the usual")
	narrowed := flag.Bool("narrowed", false, "measure objects with permission for named Secrets alone, as the chart installs it, instead of all")
	output := flag.String("json", "", "write the measurements to this `file`; what it holds of other benchmarks stays")
	plotted := flag.String("plot", "", "draw what -json holds in this SVG `file`")
	against := flag.String("baseline", "", "fail where a ratio or a count is worse than in this `file` by more than 25 %")
	flag.Parse()
	p := whole
	if *isShort {
		p = short
	}
	if *rounds > 0 {
		p.rounds, p.objects.rounds = *rounds, *rounds
	}
	p.objects.narrowed = *narrowed
	if err := p.resize(*sizes, *many, *born); err != nil {
		return err
	}
	var baseline *report
	if *against != "" {
		var err error
		if baseline, err = readReport(*against); err != nil {
			return err
		}
	}
	measured := &report{Go: runtime.Version(), CPUs: runtime.NumCPU()}
	names := strings.FieldsFunc(*only, func(r rune) bool { return r == ',' })
	measure := p.measure
	if baseline != nil {
		measure = p.untilGood(baseline)
	}
	err := measure(ctx, measured, names)
	if err := measured.print(os.Stdout); err != nil {
		return err
	}
	if err == nil && *output != "" {
		err = publish(measured, *output, *plotted)
	}
	if err != nil || baseline == nil {
		return err
	}
	if lines := measured.worse(baseline); len(lines) > 0 {
		return fmt.Errorf("worse than the baseline by more than %.0f %%:\n%s", tolerance*100, strings.Join(lines, "\n"))
	}
	return nil
}

// resize has other numbers measured than the usual ones where they are given: of namespaces, of ImagePullSecrets and of births.
func (p *program) resize(namespaces, objects string, born int) error {
	if namespaces != "" {
		numbers, err := numbers(namespaces)
		if err != nil {
			return fmt.Errorf("-namespaces %q: %w", namespaces, err)
		}
		p.convergence, p.memory, p.labels, p.cloud, p.peer.sizes, p.scale = numbers, numbers, numbers, numbers, numbers, numbers
		p.objects.namespaces, p.writers.births = numbers[0], numbers
		for i := range p.births {
			p.births[i].among = min(p.births[i].among, numbers[0])
		}
	}
	for i := range p.births {
		p.births[i].births = cmp.Or(born, p.births[i].births)
	}
	if objects == "" {
		return nil
	}
	var err error
	if p.objects.sizes, err = numbers(objects); err != nil {
		return fmt.Errorf("-objects %q: %w", objects, err)
	}
	p.pods.sizes = p.objects.sizes
	return nil
}

// numbers reads a flag.
func numbers(text string) ([]int, error) {
	var all []int
	for one := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(one)
		if err != nil || n < 1 {
			return nil, errors.New("must be numbers, separated by commas")
		}
		all = append(all, n)
	}
	return all, nil
}

// publish writes what was measured, and draws it with what is known from earlier runs.
func publish(measured *report, file, plotted string) error {
	all := measured
	if earlier, err := readReport(file); err == nil {
		all = measured.over(earlier)
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := all.write(file); err != nil || plotted == "" {
		return err
	}
	if err := os.WriteFile(plotted, plot(all), 0o644); err != nil {
		return fmt.Errorf("drawing the measurements: %w", err)
	}
	return nil
}

// untilGood returns a function that measures round by round, and ends with the one after which nothing is worse than the baseline: of many
// rounds the best one counts.
func (p program) untilGood(baseline *report) func(context.Context, *report, []string) error {
	rounds := p.rounds
	p.rounds, p.objects.rounds = 1, 1
	return func(ctx context.Context, r *report, only []string) error {
		for range rounds {
			if err := p.measure(ctx, r, only); err != nil || len(r.worse(baseline)) == 0 {
				return err
			}
		}
		return nil
	}
}

func (p program) measure(ctx context.Context, r *report, only []string) (err error) {
	dir, err := os.MkdirTemp("", "tcr-assistant-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	controllerManager, err := manager.Build(ctx, dir, "controller-manager")
	if err != nil {
		return err
	}
	updater, err := manager.Build(ctx, dir, "hosts-updater")
	if err != nil {
		return err
	}
	do := func(name string, f func() error) {
		if err != nil || len(only) > 0 && !slices.Contains(only, name) {
			return
		}
		fmt.Fprintln(os.Stderr, "measuring", name)
		if err = f(); err != nil {
			err = fmt.Errorf("measuring %s: %w", name, err)
		}
	}
	for range p.rounds {
		for _, n := range p.convergence {
			do("convergence", func() error { return converge(ctx, r, controllerManager, n, false) })
		}
		for _, n := range p.restricted {
			do("convergence", func() error { return converge(ctx, r, controllerManager, n, true) })
		}
		for _, births := range p.births {
			do("birth", func() error { return birth(ctx, r, controllerManager, births) })
		}
	}
	p.measureSizes(ctx, r, controllerManager, dir, do)
	do("hosts-updater", func() error { return hostsUpdater(ctx, r, updater, p.idle) })
	for range p.rounds {
		do("admission", func() error { return admission(ctx, r, dir, p.admissionTime, p.servers) })
	}
	return err
}

// measureSizes measures what there is of several sizes.
func (p program) measureSizes(ctx context.Context, r *report, binary, dir string, do func(string, func() error)) {
	if len(p.memory) > 0 {
		do("memory", func() error { return memory(ctx, r, binary, p.memory, p.idle/4) })
	}
	for _, n := range p.labels {
		do("labels", func() error { return labels(ctx, r, binary, n, p.idle/4) })
	}
	for _, n := range p.cloud {
		do("cloud", func() error { return issuedByCloud(ctx, r, binary, n, p.rounds, p.idle/4) })
	}
	for range p.objects.rounds {
		for _, n := range p.objects.sizes {
			do("objects", func() error { return objects(ctx, r, binary, p.objects, n) })
		}
	}
	for _, setting := range p.pods.settings() {
		do("pods", func() error { return pods(ctx, r, binary, p.pods, setting) })
	}
	do("writers", func() error { return writers(ctx, r, binary, p.writers) })
	for _, n := range p.peer.sizes {
		do("peer", func() error { return peers(ctx, r, binary, dir, p.peer, n, p.rounds) })
	}
	for _, n := range p.scale {
		do("scale", func() error { return scale(ctx, r, binary, n, p.idle/4) })
	}
}
