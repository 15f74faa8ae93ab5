package hostsd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// entriesOf makes entries of lines "address domain".
func entriesOf(t *testing.T, lines ...string) (entries []Entry) {
	t.Helper()
	for _, line := range lines {
		ip, domain, _ := strings.Cut(line, " ")
		entry, err := ParseEntry(domain, ip)
		require.NoError(t, err)
		entries = append(entries, entry)
	}
	return entries
}

func TestReadLines(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for name, c := range map[string]struct {
		file string
		want string
	}{
		"nothing":           {"", ""},
		"ours":              {"10.0.0.1 a.example.com " + Marker + "\n", "a.example.com=10.0.0.1"},
		"another before it": {"10.9.9.9\ta.example.com\n10.0.0.1 a.example.com " + Marker + "\n", "a.example.com=10.9.9.9"},
		"another behind it": {"10.0.0.1 a.example.com " + Marker + "\n10.9.9.9 a.example.com", "a.example.com=10.0.0.1"},
		"without newline":   {"10.9.9.9 a.example.com", "a.example.com=10.9.9.9"},
		"one of many names": {"10.9.9.9 x " + strings.Repeat("y ", 1<<16) + "b.example.com z A.Example.COM.\r\n",
			"b.example.com=10.9.9.9 a.example.com=10.9.9.9"},
		"names without end": {"10.9.9.9 " + long + "a.example.com a.example.com" + long + "\n10.0.0.2 b.example.com\n",
			"b.example.com=10.0.0.2"},
		"an address without end": {long + " a.example.com\n10.0.0.2 b.example.com\n", "b.example.com=10.0.0.2"},
		"comments": {"# 10.9.9.9 a.example.com\n10.9.9.9 x # a.example.com\n10.9.9.9#a.example.com\n10.9.9.9 b.example.com#" + long,
			"b.example.com=10.9.9.9"},
		"no address":            {"a.example.com b.example.com\n10.9.9 a.example.com\n\x00 a.example.com\n", ""},
		"an address alone":      {"10.9.9.9\na.example.com\n", ""},
		"a line that is broken": {"10.9.9.9\r\na.example.com b.example.com", ""},
		"blanks before":         {" \t10.9.9.9 a.example.com", "a.example.com=10.9.9.9"},
		"IPv6, mapped, and with a zone": {"::ffff:10.9.9.9 a.example.com\nfe80::1%\x1b[2J b.example.com",
			"a.example.com=10.9.9.9 b.example.com=fe80::1"},
		"others, of which nothing is to": {"127.0.0.1 localhost secret.internal\n10.1.1.1 db.internal b.example.com.internal", ""},
	} {
		t.Run(name, func(t *testing.T) {
			entries := entriesOf(t, "10.0.0.1 a.example.com", "10.0.0.2 b.example.com", "10.0.0.3 b.example.com")
			lines, err := ReadLines(iotest.OneByteReader(strings.NewReader(c.file)), entries)
			require.NoError(t, err)
			var have []string
			for _, line := range lines.Lines {
				have = append(have, line.Domain+"="+line.IP)
			}
			assert.Equal(t, c.want, strings.Join(have, " "))
			assert.False(t, lines.More)
		})
	}
}

func TestLinesAreBounded(t *testing.T) {
	entries := entriesOf(t, "10.0.0.1 absent.example.com")
	var file strings.Builder
	for i := range 2 * maxLines {
		line := fmt.Sprintf("10.0.0.1 d%d.example.com", i)
		entries = append(entries, entriesOf(t, line)...)
		file.WriteString(line + "\n")
	}
	lines, err := ReadLines(strings.NewReader(file.String()), entries)
	require.NoError(t, err)
	assert.Len(t, lines.Lines, maxLines-1, "the first ones, of which one has no line")
	assert.True(t, lines.More)

	w := words{Reader: bufio.NewReader(strings.NewReader(strings.Repeat("x", 1<<20)))}
	word, _, err := w.next()
	require.NoError(t, err)
	assert.Len(t, word, maxWord)
}

func TestLinesAreReadNoFurtherThanNeeded(t *testing.T) {
	broken := errors.New("broken")
	file := func() io.Reader {
		return io.MultiReader(strings.NewReader("10.0.0.1 a.example.com\n"+strings.Repeat("#", 8192)), iotest.ErrReader(broken))
	}
	lines, err := ReadLines(file(), entriesOf(t, "10.0.0.1 a.example.com"))
	require.NoError(t, err)
	assert.Equal(t, []Line{{"a.example.com", "10.0.0.1"}}, lines.Lines)
	_, err = ReadLines(file(), entriesOf(t, "10.0.0.1 a.example.com", "10.0.0.1 b.example.com"))
	require.ErrorIs(t, err, broken)
}
