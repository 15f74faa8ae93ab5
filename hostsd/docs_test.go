//go:build linux

package hostsd

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const document = "../docs/hosts-updater.md"

// TestDocumentation holds the document against what the program really tells and reads.
func TestDocumentation(t *testing.T) {
	text := read(t, document)

	t.Run("the metrics table is what is exposed", func(t *testing.T) {
		r := start(t, write(t, ubuntuFile), demoConfig)
		r.becomes(t, demoLine+ubuntuFile)
		_, body := r.get(t, "/metrics")
		var exposed []string
		for _, m := range regexp.MustCompile(`(?m)^# TYPE (tcr_hosts_\w+) (\w+)$`).FindAllStringSubmatch(body, -1) {
			label := ""
			if l := regexp.MustCompile(`(?m)^` + m[1] + `\{(\w+)="`).FindStringSubmatch(body); l != nil {
				label = "`" + l[1] + "` "
			}
			exposed = append(exposed, "| `"+m[1]+"` | "+m[2]+" | "+label+"|")
		}
		documented := regexp.MustCompile("(?m)^\\| `tcr_hosts_\\w+` \\| \\w+ \\| [^|]*\\|").FindAllString(text, -1)
		assert.ElementsMatch(t, exposed, documented)
	})
	t.Run("the example ConfigMap says what the text says", func(t *testing.T) {
		_, example, ok := strings.Cut(text, "  hosts.yaml: |\n")
		require.True(t, ok)
		example, _, _ = strings.Cut(example, "```")
		c, err := ParseConfig([]byte(strings.ReplaceAll(example, "\n    ", "\n")[4:]))
		require.NoError(t, err)
		assert.Empty(t, refusals(c))
		assert.Equal(t, []string{"10.0.0.5 demo.tencentcloudcr.com", "10.0.0.5 demo-vpc.tencentcloudcr.com"}, texts(c.Entries))
		_, shown, _ := strings.Cut(text, "```\n")
		assert.True(t, strings.HasPrefix(shown, string(Edit([]byte("127.0.0.1 localhost\n"), c.Entries))), "the file that is shown")
	})
	t.Run("every log message is explained", func(t *testing.T) {
		found := 0
		for _, path := range []string{"daemon.go", "watch.go", "../cmd/hosts-updater/main.go", "../cmd/hosts-updater/daemonset.go",
			"../cmd/hosts-updater/watch.go"} {
			source, err := os.ReadFile(path)
			require.NoError(t, err)
			for _, m := range regexp.MustCompile(`(?i)\blog\.(?:Info|Warn|Error)\("([^"]+)"`).FindAllSubmatch(source, -1) {
				found++
				assert.Contains(t, text, "`"+string(m[1])+"`")
			}
		}
		for _, message := range []string{"kept last good configuration", "read no configuration", "configuration is readable again",
			"left hosts file as it was", "hosts file is writable again"} {
			assert.Contains(t, text, "`"+message+"`")
		}
		assert.Greater(t, found, 10)
	})
}
