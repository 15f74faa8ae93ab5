package integration

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestAccountsOfManyEntriesKeepNobodyWaiting(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.Create("all")
	var entries []string
	for i := range 20000 {
		entries = append(entries, fmt.Sprintf("tcr.ipsx%d", i))
	}
	for i := range 9 { // one more than there are workers
		namespace := fmt.Sprintf("hostile%d", i)
		w.Namespace(namespace)
		w.account(namespace, "many", entries...)
	}
	w.Namespace("honest")
	w.Within(15*time.Second, "another namespace has its Secret", func() error {
		_, err := w.Current("honest", "all")
		return err
	})
}

func TestMoreEntriesThanOnePatchMayRemoveGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.Create("all")
	w.Namespace("a")
	w.Holds("a", "all")
	var entries []string
	for i := range 12000 {
		entries = append(entries, fmt.Sprintf("tcr.ipsx%d", i/300)) // few to look up
	}
	w.account("a", "many", entries...)
	w.Eventually("what nobody stands behind is gone", func() error {
		if have := w.Entries("a", "many"); !slices.Equal(have, []string{"tcr.ipsall"}) {
			return fmt.Errorf("%d entries", len(have))
		}
		return nil
	})
}
