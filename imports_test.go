// Package imports_test keeps the packages that decide apart from those that act.
package imports_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/tcr-assistant/tcr-assistant/"

// pure lists the packages that link no client, each with the packages of ours that it may import, which are pure, too.
var pure = map[string][]string{
	"api/v1":               nil,
	"backoff":              nil,
	"credential":           {"api/v1", "pullsecret"},
	"credential/rotation":  nil,
	"diagnose":             {"api/v1", "credential", "image", "pullsecret"},
	"healing":              {"diagnose", "image", "pullsecret", "reconcile/plan"},
	"image":                nil,
	"jwt":                  nil,
	"latest":               {"backoff"},
	"preview":              {"api/v1", "credential", "pullsecret"},
	"privatenetwork":       {"image"},
	"pullsecret":           {"api/v1", "image", "jwt"},
	"pullsecret/matchtest": {"api/v1", "pullsecret"},
	"reconcile/plan":       {"api/v1", "backoff", "credential", "latest", "pullsecret"},
	"webhook":              {"api/v1", "pullsecret"},
}

// offline lists those that link no HTTP either. (The API types link it for its status codes.)
var offline = []string{"credential/rotation", "image", "privatenetwork"}

// alone lists packages that import none of ours, although they are not pure.
var alone = []string{"clientset", "crd", "hostsd"}

// listed is a package as go list prints it.
type listed struct {
	ImportPath, Dir string
	Imports, Deps   []string
}

func (l listed) ours() []string {
	var ours []string
	for _, path := range l.Imports {
		if name, is := strings.CutPrefix(path, module); is {
			ours = append(ours, name)
		}
	}
	return ours
}

// list returns all packages, by name.
func list(t *testing.T) map[string]listed {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,Imports,Deps", "./...").Output()
	require.NoError(t, err)
	all := map[string]listed{}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var one listed
		err := decoder.Decode(&one)
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		_, err = os.ReadDir(one.Dir) // so that go test knows what the result depends on, and does not use a cached one
		require.NoError(t, err)
		all[strings.TrimPrefix(one.ImportPath, module)] = one
	}
}

func TestImports(t *testing.T) {
	all := list(t)
	t.Run("what decides links no clients", func(t *testing.T) {
		for name, allowed := range pure {
			require.Contains(t, all, name)
			for _, imported := range all[name].ours() {
				assert.Contains(t, allowed, imported, "which %s imports", name)
				assert.Contains(t, pure, imported, "which %s imports", name)
			}
			for _, dependency := range all[name].Deps {
				assert.False(t, strings.HasPrefix(dependency, "k8s.io/client-go"), "%s links %s", name, dependency)
			}
		}
	})
	t.Run("some link no HTTP either", func(t *testing.T) {
		for _, name := range offline {
			require.Contains(t, pure, name)
			assert.NotContains(t, all[name].Deps, "net/http", name)
		}
	})
	t.Run("some know nothing of ours", func(t *testing.T) {
		for _, name := range alone {
			require.Contains(t, all, name)
			assert.Empty(t, all[name].ours(), name)
		}
	})
	t.Run("rotation knows nothing of Kubernetes", func(t *testing.T) {
		for _, dependency := range all["credential/rotation"].Deps {
			assert.False(t, strings.HasPrefix(dependency, "k8s.io/"), dependency)
		}
	})
}
