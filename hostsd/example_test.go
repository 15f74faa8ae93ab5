package hostsd_test

import (
	"fmt"

	"github.com/tcr-assistant/tcr-assistant/hostsd"
)

// Our lines stand first, one for each entry, and every other byte stays as it is.
func ExampleEdit() {
	file := []byte("127.0.0.1 localhost\n# added by hand\n10.1.2.3 build.example.com\n")
	entry, err := hostsd.ParseEntry("Demo.tencentcloudcr.com.", "10.0.0.5")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s", hostsd.Edit(file, []hostsd.Entry{entry}))
	// Output:
	// 10.0.0.5 demo.tencentcloudcr.com # managed by tcr hosts-updater
	// 127.0.0.1 localhost
	// # added by hand
	// 10.1.2.3 build.example.com
}

// Without entries our lines go, and the file is byte for byte what it was before the first edit.
func ExampleEdit_remove() {
	before := "127.0.0.1 localhost\n10.1.2.3 last.line.without.newline"
	entry, err := hostsd.ParseEntry("demo.tencentcloudcr.com", "fd00::5")
	if err != nil {
		fmt.Println(err)
		return
	}
	edited := hostsd.Edit([]byte(before), []hostsd.Entry{entry})
	fmt.Println(hostsd.Owned(edited))
	fmt.Println(string(hostsd.Edit(edited, nil)) == before)
	// Output:
	// [fd00::5 demo.tencentcloudcr.com]
	// true
}

// A mistake is told with what to write instead.
func ExampleParseEntry() {
	for _, text := range [][2]string{{"Demo.tencentcloudcr.com.", "10.0.0.5"}, {"*.tencentcloudcr.com", "10.0.0.5"},
		{"demo.tencentcloudcr.com", "10.0.0.5:443"}} {
		entry, err := hostsd.ParseEntry(text[0], text[1])
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(entry)
	}
	// Output:
	// 10.0.0.5 demo.tencentcloudcr.com
	// domain: "*.tencentcloudcr.com" is a wildcard, which a hosts file cannot hold: write one entry for each domain
	// ip: "10.0.0.5:443" names a port, which a hosts file cannot hold: write 10.0.0.5
}
