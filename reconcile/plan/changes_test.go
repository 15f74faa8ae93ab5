package plan

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"gomodules.xyz/jsonpatch/v2"
)

func TestWhetherAnEditHadItsEffect(t *testing.T) {
	edit := EditAccount{Secrets: []string{"tcr.ipsold", "tcr.ipsnew"}, Patch: []jsonpatch.Operation{{Operation: "remove"}, {Operation: "add"}}}
	assert.True(t, edit.TookEffect([]string{"theirs", "tcr.ipsnew"}))
	assert.False(t, edit.TookEffect([]string{"tcr.ipsnew", "tcr.ipsold"}), "what was to go is there")
	assert.False(t, edit.TookEffect([]string{"theirs"}), "what was to come is not")
}
