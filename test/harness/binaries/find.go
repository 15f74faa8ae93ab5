package binaries

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Find returns the path of a program of one of Debian's packages: the one in PATH, or the one that a target of make has put into one of
// some folders of the cache.
func Find(program, target string, folders ...string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	for _, folder := range folders {
		path := filepath.Join(cache, folder, "usr", "bin", program)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("finding %s: it is neither in PATH nor in %s: run \"make %s\", or install Debian's package of it",
		program, cache, target)
}
