package integration

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/preview"
	"github.com/tcr-assistant/tcr-assistant/test/harness/suite"
)

func document(name, namespaces string) string {
	return `apiVersion: tcr.tencentcloudcr.com/v1
kind: ImagePullSecret
metadata: {name: ` + name + `}
spec:
  namespaces: "` + namespaces + `"
  docker: {username: robot, password: password-of-` + name + `, server: ` + name + `.example.com}
`
}

// plan asks what a manifest would do.
func (p *plugin) plan(manifest string) (preview.Preview, int) {
	p.T.Helper()
	out, code := p.ask(manifest, "plan", "-o", "json", "-f", "-")
	var printed struct {
		Objects []preview.Preview `json:"objects"`
	}
	require.NoError(p.T, json.Unmarshal([]byte(out), &printed), out)
	require.Len(p.T, printed.Objects, 1)
	return printed.Objects[0], code
}

func TestKubectlTCRPlansWhatThenHappens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	p := withPlugin(t, w)
	for _, namespace := range []string{"a", "b", "c"} {
		p.Namespace(namespace)
	}
	p.account("a", "builder")
	p.foreignSecret("c", "tcr.ipsdemo")

	planned, code := p.plan(document("demo", "a, c"))
	assert.Equal(t, 1, code)
	assert.True(t, planned.New)
	assert.Equal(t, []preview.Effect{
		{Op: preview.Gain, Namespace: "a", Secret: true, Gain: []string{"builder", "default"}},
		{Op: preview.Gain, Namespace: "c", Secret: true, Gain: []string{"default"}},
	}, planned.Effects)
	require.Len(t, planned.InTheWay, 1)
	assert.Contains(t, planned.InTheWay[0], "secret c/tcr.ipsdemo is of type Opaque")

	p.Apply(document("demo", "a, c"))
	p.Holds("a", "demo")
	p.Lists("a", "builder", "tcr.ipsdemo")
	p.Lists("a", "default", "tcr.ipsdemo")
	p.Lists("c", "default", "tcr.ipsdemo")
	p.Lists("b", "default")
	require.NoError(t, p.Client.CoreV1().Secrets("c").Delete(p.Ctx, "tcr.ipsdemo", metav1.DeleteOptions{}))
	p.Holds("c", "demo")

	planned, code = p.plan(document("demo", "a, c"))
	assert.Equal(t, 0, code, "nothing would change: %v", planned)

	out, code := p.ask(document("demo", "a, b"), "plan", "-f", "-")
	assert.Equal(t, 1, code)
	assert.Equal(t, `imagepullsecret demo would be changed
+ namespace b: secret tcr.ipsdemo; serviceaccounts default
- namespace c: secret tcr.ipsdemo; serviceaccounts default
`, out)
	p.Apply(document("demo", "a, b"))
	p.Holds("b", "demo")
	p.Lists("b", "default", "tcr.ipsdemo")
	p.Lacks("c", "demo")
	p.Lists("c", "default")

	t.Run("what the API server refuses is refused here", func(t *testing.T) {
		for _, bad := range []string{
			strings.Replace(document("demo", "a"), `"a"`, `"team-*"`, 1),
			strings.Replace(document("demo", "a"), "username: robot", "username: 'robot:hush'", 1),
			strings.Replace(document("demo", "a"), "server: demo", "server: https://demo", 1),
			strings.Replace(document("demo", "a"), "password: password-of-demo", "password: 123450", 1),
			strings.Replace(document("demo", "a"), "  namespaces:", "  namespace:", 1),
		} {
			planned, code := p.plan(bad)
			assert.Equal(t, 1, code)
			assert.NotEmpty(t, planned.Refused, bad)
			assert.NotContains(t, strings.Join(planned.Refused, ""), "123450")
			output, err := p.Pipe(bad, "apply", "--dry-run=server", "-f", "-")
			assert.Error(t, err, output)
		}
	})
	t.Run("status is one screen", func(t *testing.T) {
		p.Eventually("everything is ready", func() error {
			if out, code := p.ask("", "status"); code != 0 {
				return errors.New(out)
			}
			return nil
		})
		out, _ := p.ask("", "status", "demo")
		assert.Regexp(t, `(?m)^demo +True +- +2/2 +3/3 +0 +Inline +demo.example.com$`, out)
		assert.Contains(t, out, "manager: a replica leads")
		p.foreignSecret("c", "tcr.ipssecond")
		p.Create("second", suite.InNamespaces("c"))
		p.Eventually("the failure is told", func() error {
			if out, code := p.ask("", "status", "-o", "yaml"); code != 1 || !strings.Contains(out, "reason: ForeignSecret") {
				return errors.New(out)
			}
			return nil
		})
	})
	p.examples(t)
}

// examples runs every example of every command's help.
func (p *plugin) examples(t *testing.T) {
	t.Run("the examples of the help work", func(t *testing.T) {
		p.Namespace("shop")
		p.pod("shop", "web-1", "nginx")
		p.Kubectl("create", "deployment", "web", "-n", "shop", "--image=nginx")
		p.Create("imagepullsecret-sample", suite.InNamespaces("shop"))
		require.NoError(t, os.WriteFile(filepath.Join(p.folder, "imagepullsecret.yaml"), []byte(document("new", "shop")), 0o600))
		p.Eventually("the deployment has a pod", func() error {
			if _, code := p.ask("", "why", "deployment/web", "-n", "shop"); code != 0 {
				return errors.New("not yet")
			}
			return nil
		})
		var ran []string
		for _, command := range []string{"why", "plan", "status", "check"} {
			help, code := p.ask("", command, "--help")
			require.Equal(t, 0, code)
			_, examples, found := strings.Cut(help, "Examples:\n")
			require.True(t, found)
			examples, _, _ = strings.Cut(examples, "\n\n"+"Flags:")
			for line := range strings.Lines(examples) {
				line = strings.TrimSpace(line)
				if at := strings.Index(line, "kubectl tcr "); at >= 0 && !strings.HasPrefix(line, "#") {
					_, code := p.ask(document("new", "shop"), strings.Fields(line[at+len("kubectl tcr "):])...)
					if command == "check" {
						assert.Equal(t, 2, code, "there is no such registry: %s", line)
					} else {
						assert.Less(t, code, 2, line)
					}
					ran = append(ran, line)
				}
			}
		}
		assert.GreaterOrEqual(t, len(ran), 10)
		assert.True(t, slices.ContainsFunc(ran, func(line string) bool { return strings.Contains(line, "deployment/web") }))
	})
}
