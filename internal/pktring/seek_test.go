package pktring

import (
	"encoding/binary"
	"testing"
)

// Who has lost its place in a ring finds it where the filled slots begin.
func TestSeek(t *testing.T) {
	const slots, size = 8, 128
	for name, c := range map[string]struct {
		filled map[int]uint32 // slots, and when they were filled
		want   int
	}{
		"nothing":           {nil, Unknown},
		"one":               {map[int]uint32{5: 1}, 5},
		"the first":         {map[int]uint32{0: 1}, 0},
		"a run":             {map[int]uint32{2: 1, 3: 2, 4: 3}, 2},
		"over the end":      {map[int]uint32{6: 1, 7: 2, 0: 3, 1: 4}, 6},
		"a slot is missing": {map[int]uint32{2: 1, 4: 3, 5: 4}, 2},
		"the same, around":  {map[int]uint32{7: 1, 1: 3, 2: 4}, 7},
		"full":              {map[int]uint32{0: 6, 1: 7, 2: 8, 3: 1, 4: 2, 5: 3, 6: 4, 7: 5}, 3},
	} {
		mem := make([]byte, slots*size)
		for slot, at := range c.filled {
			b := mem[slot*size:]
			binary.NativeEndian.PutUint32(b[offSec:], at)
			storeStatus(b, statusUser)
		}
		r := NewRing(mem, size)
		r.SetPosition(Unknown)
		if r.Seek(); r.Position() != c.want || r.Lost() != (c.want == Unknown) {
			t.Errorf("%s: slot %d, want %d", name, r.Position(), c.want)
		}
	}
	r := NewRing(make([]byte, slots*size), size)
	for slot, want := range map[int]int{0: 0, slots - 1: slots - 1, slots: Unknown, -1: Unknown} {
		if r.SetPosition(slot); r.Position() != want {
			t.Errorf("set to %d: %d", slot, r.Position())
		}
	}
}
