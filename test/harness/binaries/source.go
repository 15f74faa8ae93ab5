package binaries

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// module is the folder of the module whose programs are built, as the root of a checkout sees it.
const module = "test/harness/kubernetes"

// findSource returns the folder of the module in the checkout that dir is in.
func findSource(dir string) (string, error) {
	for parent := dir; ; parent = filepath.Dir(parent) {
		source := filepath.Join(parent, module)
		if _, err := os.Stat(filepath.Join(source, "go.mod")); err == nil {
			return source, nil
		}
		if parent == filepath.Dir(parent) {
			return "", fmt.Errorf("finding %s/go.mod above %s: none there; run this inside a checkout", module, dir)
		}
	}
}

var kubernetesRequirement = regexp.MustCompile(`(?m)^(?:require)?\s*k8s\.io/kubernetes (v\S+)`)

// modFiles returns the module files of a source folder by the version of Kubernetes
// that each requires. The empty version stands for that of go.mod.
func modFiles(source fs.FS) (map[string]string, error) {
	names, err := fs.Glob(source, "*.mod")
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, name := range names {
		text, err := fs.ReadFile(source, name)
		if err != nil {
			return nil, err
		}
		match := kubernetesRequirement.FindSubmatch(text)
		if match == nil {
			return nil, fmt.Errorf("reading %s: it requires no k8s.io/kubernetes", name)
		}
		files[string(match[1])] = name
		if name == "go.mod" {
			files[""] = name
		}
	}
	return files, nil
}

// recipe is all that decides what the binaries are.
type recipe struct {
	version   string // of Kubernetes, as in v1.36.3
	modFile   string // in the source folder
	goVersion string // as in go1.26.8
	platform  string // as in linux-amd64
	programs  []string
}

// newRecipe finds the recipe of a version of Kubernetes, empty for the one in go.mod.
func newRecipe(source fs.FS, version, goVersion, platform string) (recipe, error) {
	files, err := modFiles(source)
	if err != nil {
		return recipe{}, err
	}
	file, ok := files[version]
	if !ok {
		delete(files, "")
		return recipe{}, fmt.Errorf("choosing Kubernetes %q: must be one of %s, which have a module file",
			version, strings.Join(slices.Sorted(maps.Keys(files)), ", "))
	}
	for v, f := range files {
		if f == file && v != "" {
			version = v
		}
	}
	return recipe{version: version, modFile: file, goVersion: goVersion, platform: platform}, nil
}

// linkerFlags has the binaries report the recipe's version; they would say v0.0.0.
func (r recipe) linkerFlags() (string, error) {
	parts := strings.SplitN(strings.TrimPrefix(r.version, "v"), ".", 3)
	if len(parts) != 3 {
		return "", fmt.Errorf("reading version %q of k8s.io/kubernetes: must be like v1.36.3", r.version)
	}
	const variable = " -X k8s.io/component-base/version."
	return "-s -w" + variable + "gitVersion=" + r.version + variable + "gitMajor=" + parts[0] +
		variable + "gitMinor=" + parts[1], nil
}

// key names the folder of the binaries in the cache. Another recipe or source has
// another key.
func (r recipe) key(source fs.FS) (string, error) {
	sum := sha256.New()
	sum.Write(fmt.Appendf(nil, "%q\n", r))
	modSum := strings.TrimSuffix(r.modFile, ".mod") + ".sum"
	err := fs.WalkDir(source, ".", func(path string, entry fs.DirEntry, err error) error {
		switch ext := filepath.Ext(path); {
		case err != nil:
			return err
		case entry.IsDir(), ext != ".go" && path != r.modFile && path != modSum:
			return nil
		}
		text, err := fs.ReadFile(source, path)
		sum.Write(fmt.Appendf(nil, "%q %q\n", path, text))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("hashing the source of Kubernetes' programs: %w", err)
	}
	return r.version + "-" + r.platform + "-" + hex.EncodeToString(sum.Sum(nil))[:12], nil
}

// CacheVariable is the environment variable that names the folder which keeps built
// binaries. Unset, it is tcr-assistant in the user's cache folder.
const CacheVariable = "TCR_ASSISTANT_CACHE"

// CacheDir returns the folder that keeps what takes long to build or to fetch.
func CacheDir() (string, error) {
	if dir := os.Getenv(CacheVariable); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", errors.Join(fmt.Errorf("finding a folder to keep binaries in: set %s, or HOME", CacheVariable), err)
	}
	return filepath.Join(dir, "tcr-assistant"), nil
}
