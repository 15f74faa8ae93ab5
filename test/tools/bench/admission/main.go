// Command admission measures the product's webhook next to the same mutation served by controller-runtime, and prints the
// figures as JSON. It is a module of its own, so that nothing else depends on controller-runtime.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"
)

// figure is one thing that was measured. Less is better in every one.
type figure struct {
	Benchmark string   `json:"benchmark"`
	Name      string   `json:"name"`
	Size      int      `json:"size,omitempty"`
	Unit      string   `json:"unit"`
	Value     float64  `json:"value"`
	Goal      *float64 `json:"goal,omitempty"`
}

// figures are those of one run, in their order.
type figures []*figure

func (f *figures) add(benchmark, name string, size int, unit string, value float64) *figure {
	one := &figure{Benchmark: benchmark, Name: name, Size: size, Unit: unit, Value: value}
	*f = append(*f, one)
	return one
}

func (f *figure) atMost(goal float64) { f.Goal = &goal }

func main() {
	testing.Init()
	serving := flag.String("serve", "", "serve this `handler`, product or controller-runtime, instead of measuring")
	alone := flag.Bool("handlers", false, "measure the handlers alone, and no servers")
	each := flag.Duration("time", 2*time.Second, "how long to measure each figure")
	flag.Parse()
	if err := run(*serving, *alone, *each); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(serving string, alone bool, each time.Duration) error {
	handlers := map[string]http.Handler{"product": product(), "controller-runtime": controllerRuntime()}
	if serving != "" {
		return serve(handlers[serving])
	}
	if err := flag.Set("test.benchtime", each.String()); err != nil {
		return err
	}
	if err := alike(handlers["product"], handlers["controller-runtime"]); err != nil {
		return err
	}
	var all figures
	compareHandlers(&all, handlers["product"], handlers["controller-runtime"])
	if !alone {
		if err := compareServers(&all, each); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(all)
}
