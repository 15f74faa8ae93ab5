package hostsd

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func entry(t testing.TB, domain, ip string) Entry {
	t.Helper()
	e, err := ParseEntry(domain, ip)
	require.NoError(t, err)
	return e
}

const (
	demoLine   = "10.0.0.5 demo.tencentcloudcr.com # managed by tcr hosts-updater\n"
	demo6Line  = "fd00::5 demo.tencentcloudcr.com # managed by tcr hosts-updater\n"
	vpcLine    = "10.0.0.5 demo-vpc.tencentcloudcr.com # managed by tcr hosts-updater\n"
	ubuntuFile = "127.0.0.1\tlocalhost\n127.0.1.1\tnode-1\n\n# IPv6\n::1 ip6-localhost ip6-loopback\n"
)

func TestEdit(t *testing.T) {
	demo, demo6 := entry(t, "demo.tencentcloudcr.com", "10.0.0.5"), entry(t, "demo.tencentcloudcr.com", "fd00::5")
	vpc := entry(t, "demo-vpc.tencentcloudcr.com", "10.0.0.5")
	for _, test := range []struct {
		name    string
		file    string
		entries []Entry
		want    string
	}{
		{"an empty file gets our lines alone", "", []Entry{demo}, demoLine},
		{"our lines stand before foreign ones", ubuntuFile, []Entry{demo}, demoLine + ubuntuFile},
		{"entries are sorted, whatever their order", ubuntuFile, []Entry{demo6, demo, vpc}, vpcLine + demoLine + demo6Line + ubuntuFile},
		{"a repeated entry gets one line", "", []Entry{demo, demo}, demoLine},
		{"the zero entry gets none", "x\n", []Entry{{}}, "x\n"},
		{"a last line without newline stays without", "127.0.0.1 localhost", []Entry{demo}, demoLine + "127.0.0.1 localhost"},
		{"CRLF, NUL and tabs stay", "127.0.0.1\tlocalhost\r\n\x00\xff\t\r\n", []Entry{demo}, demoLine + "127.0.0.1\tlocalhost\r\n\x00\xff\t\r\n"},
		{"an address that changed is replaced", "10.9.9.9 demo.tencentcloudcr.com " + Marker + "\n" + ubuntuFile, []Entry{demo},
			demoLine + ubuntuFile},
		{"lines of entries that left are removed", vpcLine + demoLine + ubuntuFile, []Entry{demo}, demoLine + ubuntuFile},
		{"our lines are found wherever they were moved to", "a\n" + demoLine + "b\n" + vpcLine + "c", nil, "a\nb\nc"},
		{"our last line may lack its newline", "a\n" + strings.TrimSuffix(demoLine, "\n"), nil, "a\n"},
		{"our line in CRLF is ours", "a\r\n" + strings.TrimSuffix(demoLine, "\n") + "\r\nb\r\n", nil, "a\r\nb\r\n"},
		{"our line with other blanks is ours", "\t10.0.0.5 \t demo.tencentcloudcr.com\t" + Marker + " \t\nb", nil, "b"},
		{"our line in capitals is ours", "10.0.0.5 DEMO.tencentcloudcr.com. " + Marker + "\n", nil, ""},
		{"our marker inside a foreign comment is foreign", "# see: " + demoLine, nil, "# see: " + demoLine},
		{"our marker behind two names is foreign", "10.0.0.5 demo.tencentcloudcr.com mine " + Marker + "\n", nil,
			"10.0.0.5 demo.tencentcloudcr.com mine " + Marker + "\n"},
		{"our marker alone is foreign", Marker + "\n", nil, Marker + "\n"},
		{"a line commented out is foreign, and ours comes back", "#" + demoLine, []Entry{demo}, demoLine + "#" + demoLine},
		{"foreign text glued to our line is kept", strings.TrimSuffix(demoLine, "\n") + "127.0.0.1 localhost\n", nil,
			strings.TrimSuffix(demoLine, "\n") + "127.0.0.1 localhost\n"},
		{"our line glued to foreign text is kept", "127.0.0.1 localhost" + demoLine, nil, "127.0.0.1 localhost" + demoLine},
		{"a foreign line for our domain is kept", "1.2.3.4 demo.tencentcloudcr.com\n", []Entry{demo},
			demoLine + "1.2.3.4 demo.tencentcloudcr.com\n"},
		{"the same line without marker is foreign", "10.0.0.5 demo.tencentcloudcr.com\n", nil, "10.0.0.5 demo.tencentcloudcr.com\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			assert.Equal(t, test.want, string(Edit([]byte(test.file), test.entries)))
		})
	}

	t.Run("arguments stay as they are", func(t *testing.T) {
		file, entries := []byte(demoLine+ubuntuFile), []Entry{vpc, demo}
		Edit(file, entries)
		assert.Equal(t, demoLine+ubuntuFile, string(file))
		assert.Equal(t, []Entry{vpc, demo}, entries)
	})
}

func TestConflicts(t *testing.T) {
	demo, demo6 := entry(t, "demo.tencentcloudcr.com", "10.0.0.5"), entry(t, "demo.tencentcloudcr.com", "fd00::5")
	file := demoLine +
		"1.2.3.4 other DEMO.tencentcloudcr.com.\r\n" + // line 2: another address
		"10.0.0.5 demo.tencentcloudcr.com\n" + // agrees
		"::ffff:10.0.0.5 demo.tencentcloudcr.com\n" + // agrees
		"fd00::5 demo.tencentcloudcr.com\n" + // another address while ours has IPv4 alone
		"# 1.2.3.4 demo.tencentcloudcr.com\n" + // a comment
		"1.2.3.4 # demo.tencentcloudcr.com\n" + // a comment
		"1.2.3 demo.tencentcloudcr.com\n" + // no address
		"1.2.3.4 xdemo.tencentcloudcr.com\n" + // another name
		"1.2.3.4" // no name
	first := Conflict{Line: 2, Domain: "demo.tencentcloudcr.com", Addr: netip.MustParseAddr("1.2.3.4")}
	second := Conflict{Line: 5, Domain: "demo.tencentcloudcr.com", Addr: netip.MustParseAddr("fd00::5")}
	assert.Equal(t, []Conflict{first, second}, Conflicts([]byte(file), []Entry{demo}))
	assert.Equal(t, []Conflict{first}, Conflicts([]byte(file), []Entry{demo, demo6}))
	assert.Empty(t, Conflicts([]byte(file), nil))
}

// laws holds Edit against what it promises, for any file and entries.
func laws(t *testing.T, file []byte, entries []Entry) {
	t.Helper()
	edited := Edit(file, entries)
	require.Equal(t, edited, Edit(edited, entries), "a second edit changes nothing")
	require.ElementsMatch(t, Owned(Edit(nil, entries)), Owned(edited), "exactly the entries are ours")
	require.Equal(t, Edit(file, nil), Edit(edited, nil), "foreign bytes stay, in order")
	require.True(t, bytes.HasSuffix(edited, Edit(file, nil)), "our lines stand first")
	if len(Owned(file)) == 0 {
		require.Equal(t, string(file), string(Edit(edited, nil)), "removal restores the file")
	}
	for _, c := range Conflicts(edited, entries) {
		require.Greater(t, c.Line, len(Owned(edited)), "every foreign line for a domain stands after ours")
	}
}

func FuzzEdit(f *testing.F) {
	f.Add([]byte(ubuntuFile), "demo.tencentcloudcr.com", "10.0.0.5", "demo.tencentcloudcr.com", "fd00::5")
	f.Add([]byte("127.0.0.1 localhost"), "a.example", "10.0.0.5", "b.example", "10.0.0.5")
	f.Add([]byte(demoLine+"a\r\n\x00"+vpcLine+"# "+demo6Line+"10.0.0.5 x y "+Marker), "demo.tencentcloudcr.com", "10.0.0.6", "", "")
	f.Add([]byte("fe80::1%a#b x "+Marker+"\n::ffff:1.2.3.4\tX. "+Marker+"\r\n"), "x", "1.2.3.4", "x", "1.2.3.4")
	f.Add([]byte("\xef\xbb\xbf1.1.1.1 a\u212a "+Marker+"\n"), "ak", "1.1.1.1", "k.", "::2")
	f.Fuzz(func(t *testing.T, file []byte, domain1, ip1, domain2, ip2 string) {
		var entries []Entry
		for _, text := range [][2]string{{domain1, ip1}, {domain2, ip2}} {
			if e, err := ParseEntry(text[0], text[1]); err == nil {
				entries = append(entries, e)
			}
		}
		laws(t, file, entries)
	})
}

func TestEditOnRandomBytes(t *testing.T) {
	entries := []Entry{entry(t, "demo.tencentcloudcr.com", "10.0.0.5"), entry(t, "demo-vpc.tencentcloudcr.com", "fd00::5")}
	// Whole lines and pieces of them, so that random files come close to ours.
	pieces := []string{
		demoLine, vpcLine, demo6Line, Marker, "10.0.0.5", "demo.tencentcloudcr.com", " ", "\t", "\n", "\r\n", "\r", "\x00", "#",
		"127.0.0.1 localhost\n", "::1", "10.0.0.5 demo.tencentcloudcr.com",
	}
	random := rand.NewChaCha8([32]byte{5})
	pick := rand.New(random)

	t.Run("ten million random bytes change nothing that is foreign", func(t *testing.T) {
		for range 10 {
			file := make([]byte, 1_000_000)
			_, _ = random.Read(file)
			laws(t, file, entries)
		}
	})
	t.Run("a hundred thousand files that come close to ours keep the laws", func(t *testing.T) {
		for range 100_000 {
			var file []byte
			for range pick.IntN(12) {
				file = append(file, pieces[pick.IntN(len(pieces))]...)
			}
			laws(t, file, entries[:pick.IntN(3)])
		}
	})
	t.Run("a million bytes in one line and in a million lines", func(t *testing.T) {
		for _, file := range [][]byte{
			bytes.Repeat([]byte("x"), 1_000_000),
			bytes.Repeat([]byte("\n"), 1_000_000),
			append(bytes.Repeat([]byte("10.0.0.5 "), 120_000), Marker...),
			[]byte("10.0.0.5 " + strings.Repeat("a", 1_000_000) + " " + Marker + "\n"),
		} {
			laws(t, file, entries)
			assert.Equal(t, len(file), len(Edit(file, nil)))
		}
	})
	t.Run("a thousand entries come and go without a trace", func(t *testing.T) {
		file := []byte(ubuntuFile)
		for round := range 5 {
			var many []Entry
			for i := range 1000 {
				many = append(many, entry(t, fmt.Sprintf("r%d.example", i), fmt.Sprintf("10.%d.%d.%d", round, i/256, i%256)))
			}
			file = Edit(file, many)
			require.Len(t, Owned(file), 1000)
		}
		assert.Equal(t, ubuntuFile, string(Edit(file, nil)))
	})
}
