package pullsecret

import (
	"encoding/json"
	"hash/maphash"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// identity tells whether an ImagePullSecret says the same as before. The generation alone does not: after a restoration from a
// backup, the API server counts on from the older generation.
type identity struct {
	uid        string
	generation int64
	spec       uint64
}

var specSeed = maphash.MakeSeed()

func identify(object *v1.ImagePullSecret) identity {
	var spec maphash.Hash
	spec.SetSeed(specSeed)
	_ = json.NewEncoder(&spec).Encode(object.Spec) // what was decoded can be encoded, and writing to a hash never fails
	return identity{string(object.UID), object.Generation, spec.Sum64()}
}
