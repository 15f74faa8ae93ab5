package latest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// transcript plays what is heard of an object, in the order in which it arrives, and returns what is known in the end: its
// version, and "gone" where it is not there. The lines:
//
//	watch 5       the watch tells that it was written at version 5
//	gone 6        the watch tells that it was removed at version 6
//	write A       a write is begun, named A
//	answer A 5    and answered: it was stored at version 5
//	ask A         a read is begun, named A
//	found A 5 7   and answered: at version 7 there is what was written at version 5
//	none A 7      and answered: at version 7 there is nothing
func transcript(t *testing.T, text string) string {
	t.Helper()
	r := record[string]{}
	begun := map[string]record[string]{}
	for line := range strings.Lines(text) {
		var verb, name string
		var at, now uint64
		fields := strings.Fields(line)
		scan := func(into ...any) {
			t.Helper()
			_, err := fmt.Sscan(strings.Join(fields, " "), append([]any{&verb}, into...)...)
			require.NoError(t, err, line)
		}
		switch fields[0] {
		case "watch":
			scan(&at)
			r = r.told(fmt.Sprint(at), true, at, r.era)
		case "gone":
			scan(&at)
			r = r.told("", false, at, r.era)
		case "write", "ask":
			scan(&name)
			begun[name] = r
		case "answer":
			scan(&name, &at)
			r = r.told(fmt.Sprint(at), true, at, begun[name].era)
		case "found":
			scan(&name, &at, &now)
			r = r.read(fmt.Sprint(at), true, now, begun[name])
		case "none":
			scan(&name, &now)
			r = r.read("", false, now, begun[name])
		default:
			t.Fatalf("%q is no line of a transcript", line)
		}
	}
	switch {
	case !r.heard:
		return "unknown"
	case !r.exists:
		return "gone"
	default:
		return r.object
	}
}

func TestTranscripts(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"nothing was heard", ``, "unknown"},
		{"a read finds it", "ask a\n found a 5 9", "5"},
		{"a read finds nothing", "ask a\n none a 9", "gone"},
		{"a watch tells of it", "ask a\n none a 4\n watch 5", "5"},

		// What comes late.
		{"a late event undoes nothing", "watch 5\n watch 4", "5"},
		{"the echo of a write is no news", "write a\n answer a 5\n watch 5", "5"},
		{"an event overtakes the answer to the write before it", "write a\n watch 6\n answer a 5", "6"},
		{"the late answer to a creation brings nothing back", "write a\n watch 100\n gone 101\n answer a 100", "gone"},
		{"the late answer to a creation brings nothing back that a read did not find", "write a\n ask b\n none b 101\n answer a 100", "gone"},
		{"the late removal of the one before removes nothing", "watch 7\n gone 6", "7"},
		{"it is made anew", "watch 5\n gone 6\n watch 7", "7"},
		{"a read that an answer has overtaken undoes nothing", "watch 5\n ask a\n write b\n answer b 8\n found a 5 7", "8"},
		{"a read that a removal has overtaken brings nothing back", "watch 5\n ask a\n gone 8\n found a 5 7", "gone"},
		{"an event that a read has overtaken undoes nothing", "ask a\n found a 5 9\n watch 5", "5"},
		{"an event from before a read that found nothing brings nothing back", "ask a\n none a 9\n watch 8", "gone"},

		// etcd was restored to an older revision.
		{"a read that knows less than was told before is true", "watch 100\n ask a\n found a 50 60", "50"},
		{"and so it is where it finds nothing", "watch 100\n ask a\n none a 60", "gone"},
		{"and where what it finds was never heard of", "watch 5\n gone 100\n ask a\n found a 50 60", "50"},
		{"from then on older versions are news", "watch 100\n ask a\n found a 50 60\n watch 61", "61"},
		{"and so are removals", "watch 100\n ask a\n found a 50 60\n gone 61", "gone"},
		{"and answers", "watch 100\n ask a\n found a 50 60\n write b\n answer b 61", "61"},
		{"the answer to a write of the time before is none", "watch 100\n write b\n ask a\n found a 50 60\n answer b 101", "50"},
		{"a read of the time before is none", "watch 100\n ask a\n ask b\n found a 50 60\n found b 100 101", "50"},
		{"it is told once where two reads find it", "watch 100\n ask a\n ask b\n found a 50 60\n found b 55 61", "50"},
		{"a second restoration is seen, too", "watch 100\n ask a\n found a 50 60\n watch 70\n ask b\n found b 10 20", "10"},
		{"what is still as it was stays", "ask a\n found a 5 100\n ask b\n found b 5 60\n watch 61", "61"},
	} {
		t.Run(test.name, func(t *testing.T) {
			assert.Equal(t, test.want, transcript(t, test.text))
		})
	}
}

func TestVersion(t *testing.T) {
	assert.Equal(t, uint64(18446744073709551615), Version("18446744073709551615"))
	assert.Zero(t, Version(""))
	assert.Zero(t, Version("a"))
	assert.Zero(t, Version("-1"))
}
