package latest

import "strconv"

// record is what is known of an object, and how new that is.
type record[Kind any] struct {
	object Kind
	exists bool

	// asOf is the latest version heard of: of the object, of its removal, or of the read that found it, or found nothing.
	asOf uint64
	// heard says that anything was heard at all.
	heard bool
	// era counts how often the API server went back in time. What was begun in one era says nothing of the next.
	era int
}

// told returns what is known once an object is heard to have been written at a version or, where it does not exist, removed.
// What is of an earlier era, or older than what is known, changes nothing.
func (r record[Kind]) told(object Kind, exists bool, version uint64, era int) record[Kind] {
	if era != r.era || r.heard && version <= r.asOf {
		return r
	}
	return record[Kind]{object, exists, version, true, r.era}
}

// read returns what is known after the API server was asked, when asked was known, and found that this is all there is at a
// version. By then it knew all that it had told before. Where its version is below that, it was taken back in time: what it says
// is true now, however old, and whatever else was known never happened. A read that is merely older than what is known by now
// changes nothing.
func (r record[Kind]) read(object Kind, exists bool, version uint64, asked record[Kind]) record[Kind] {
	switch {
	case asked.era != r.era:
		return r
	case asked.heard && version < asked.asOf:
		return record[Kind]{object, exists, version, true, r.era + 1}
	case r.heard && version < r.asOf:
		return r
	default:
		return record[Kind]{object, exists, version, true, r.era}
	}
}

// Version reads a resourceVersion, by which the API server promises to order whatever happens to objects of one kind
// (KEP-5504); 0 for one that is no number, which counts as older than all others.
func Version(text string) uint64 {
	number, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return number
}

// Relist says when a list was all there was.
type Relist struct {
	Version uint64
	// Rewound says that the API server had told of a later version before: its data was restored from a backup, and whatever
	// else is known never happened.
	Rewound bool
}

// Overrules reports whether a relist is newer than what is known of an object, which is at that version.
func (r Relist) Overrules(known uint64) bool { return r.Rewound || known <= r.Version }
