// Package multicall makes one binary of several programs, which links once instead of once for each.
package multicall

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Main runs the program that the binary's own base name or else its first argument names, and ends the process with the
// exit code that the program returns.
func Main(binary string, programs map[string]func() int) {
	run, ok := programs[filepath.Base(os.Args[0])]
	if !ok && len(os.Args) > 1 {
		if run, ok = programs[os.Args[1]]; ok {
			os.Args = os.Args[1:]
		}
	}
	if !ok {
		names := strings.Join(slices.Sorted(maps.Keys(programs)), "|")
		fmt.Fprintf(os.Stderr, "usage: %s %s [flags]\n", binary, names)
		os.Exit(2)
	}
	os.Exit(run())
}
