package latest

import "strconv"

// record is what is known about an object, and how new that is.
type record[Kind any] struct {
	object Kind
	exists bool

	// asOf is the latest known version: of the object, of its deletion, or of the read that found it, or found nothing.
	asOf uint64
	// heard says that anything is known at all.
	heard bool
	// era counts how often the API server went back in time. An answer to a request of one era says nothing about the next.
	era int
}

// told returns what is known after an event that an object was written at a version or, if it does not exist, deleted. An event of an
// earlier era, or one that is not newer than what is known, changes nothing.
func (r record[Kind]) told(object Kind, exists bool, version uint64, era int) record[Kind] {
	if era != r.era || r.heard && version <= r.asOf {
		return r
	}
	return record[Kind]{object, exists, version, true, r.era}
}

// read returns what is known after a read that began when asked was known, and that found this at a version. When it began, the API
// server was at least at the version that it had reported before. If the read's version is below that, the API server was taken back in
// time: what it says is true now, however old, and whatever else was known never happened. A read that is merely older than what is
// known by now changes nothing.
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

// Version parses a resourceVersion, by which the API server promises to order all changes to objects of one kind (KEP-5504). One that is
// not a number is 0, which counts as older than all others.
func Version(text string) uint64 {
	number, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return number
}

// Relist is the version of a complete list.
type Relist struct {
	Version uint64
	// Rewound says that the API server had reported a later version before: its data was restored from a backup, and whatever
	// else is known never happened.
	Rewound bool
}

// Overrules reports whether a relist is at least as new as what is known about an object, which is at that version.
func (r Relist) Overrules(known uint64) bool { return r.Rewound || known <= r.Version }
