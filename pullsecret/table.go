package pullsecret

import (
	"hash/maphash"
	"iter"
	"maps"
	"reflect"
)

// tableParts is the number of maps that a table is divided into. A change copies those that it touches, and the array of all.
const tableParts = 256

// table is an immutable map with string keys. A small change of it is cheap, however much it holds.
type table[V any] struct {
	parts *[tableParts]map[string]V // nil while it is empty
	size  int
}

var tableSeed = maphash.MakeSeed()

func partOf(key string) int { return int(maphash.String(tableSeed, key) % tableParts) }

func (t table[V]) get(key string) (V, bool) {
	if t.parts == nil {
		var none V
		return none, false
	}
	value, found := t.parts[partOf(key)][key]
	return value, found
}

func (t table[V]) all() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		if t.parts == nil {
			return
		}
		for _, part := range t.parts {
			for key, value := range part {
				if !yield(key, value) {
					return
				}
			}
		}
	}
}

// apart yields every key whose values may differ between two tables, one of which was made from the other. It also yields some keys
// whose values do not. Its cost depends on how much was changed.
func (t table[V]) apart(other table[V]) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range tableParts {
			mine, others := t.part(i), other.part(i)
			if reflect.ValueOf(mine).UnsafePointer() == reflect.ValueOf(others).UnsafePointer() {
				continue
			}
			for key := range mine {
				if !yield(key) {
					return
				}
			}
			for key := range others {
				if _, both := mine[key]; !both && !yield(key) {
					return
				}
			}
		}
	}
}

func (t table[V]) part(i int) map[string]V {
	if t.parts == nil {
		return nil
	}
	return t.parts[i]
}

// draft is a table that is being changed. The table that it was made from stays as it is.
type draft[V any] struct {
	table[V]
	owned *[tableParts]bool // the parts that have been copied
}

func (t table[V]) draft() draft[V] { return draft[V]{table: t} }

func (d *draft[V]) set(key string, value V) {
	part := d.own(partOf(key))
	if _, found := part[key]; !found {
		d.size++
	}
	part[key] = value
}

func (d *draft[V]) delete(key string) {
	if _, found := d.get(key); found {
		delete(d.own(partOf(key)), key)
		d.size--
	}
}

func (d *draft[V]) own(i int) map[string]V {
	if d.owned == nil {
		copied := [tableParts]map[string]V{}
		if d.parts != nil {
			copied = *d.parts
		}
		d.parts, d.owned = &copied, &[tableParts]bool{}
	}
	if !d.owned[i] {
		d.owned[i] = true
		if d.parts[i] = maps.Clone(d.parts[i]); d.parts[i] == nil {
			d.parts[i] = map[string]V{}
		}
	}
	return d.parts[i]
}

// done returns the changed table. The draft must not be changed after that.
func (d *draft[V]) done() table[V] { return d.table }
