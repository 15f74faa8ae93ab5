package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTheDemo runs it until it stays up, closes its terminal, and holds the README to what it has printed.
func TestTheDemo(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "demo")
	out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	scratch := t.TempDir()
	demo := exec.CommandContext(t.Context(), program)
	demo.Env = append(os.Environ(), "TMPDIR="+scratch)
	demo.Cancel = func() error { return demo.Process.Signal(syscall.SIGTERM) }
	demo.WaitDelay = time.Minute
	stdout, err := demo.StdoutPipe()
	require.NoError(t, err)
	demo.Stderr = os.Stderr
	require.NoError(t, demo.Start())

	var printed []string
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		printed = append(printed, lines.Text())
		if strings.HasSuffix(lines.Text(), "delete ipss imagepullsecret-sample") { // the last line to try
			require.NoError(t, demo.Process.Signal(syscall.SIGHUP))
		}
	}
	require.NoError(t, demo.Wait())
	left, err := os.ReadDir(scratch)
	require.NoError(t, err)
	assert.Empty(t, left, "what is left of it")
	text := strings.Join(printed, "\n")
	assert.Contains(t, text, "-n another get serviceaccounts -o '"+entries+"'", "a list that shows the entries")
	assert.Contains(t, text, "\nStopping.")

	readme, err := os.ReadFile("../../../README.md")
	require.NoError(t, err)
	_, shown, found := strings.Cut(string(readme), "$ make run\nStarted ")
	require.True(t, found)
	shown, _, found = strings.Cut(shown, "…\n```")
	require.True(t, found)
	varying := regexp.MustCompile(`v1\.[0-9.]+|in [0-9.]+s|/tmp/\S+|\S*/tcr-assistant-demo-\S+|\b[0-9]+s\b|-{2,}| +`)
	same := func(s string) string { return varying.ReplaceAllString(s, "~") }
	assert.True(t, strings.HasPrefix(same(text), same("Started "+strings.TrimSpace(shown))), "the README shows\n%s\nand this was printed:\n%s",
		shown, text)
}
