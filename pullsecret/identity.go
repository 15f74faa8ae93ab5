package pullsecret

import (
	"encoding/json"
	"hash/maphash"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// identity tells whether an ImagePullSecret says what it said before. The generation alone does not: an API server whose
// data was restored from a backup counts anew from what it was then.
type identity struct {
	uid        string
	generation int64
	spec       uint64
}

var specSeed = maphash.MakeSeed()

func identify(object *v1.ImagePullSecret) identity {
	var spec maphash.Hash
	spec.SetSeed(specSeed)
	_ = json.NewEncoder(&spec).Encode(object.Spec) // what was decoded can be encoded, and a hash can be written to
	return identity{string(object.UID), object.Generation, spec.Sum64()}
}
