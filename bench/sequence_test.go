package bench

import "testing"

func TestSequence(t *testing.T) {
	for _, c := range []struct {
		name    string
		arrived []uint64
		sent    uint64
		want    Tally
	}{
		{"nothing", nil, 3, Tally{Sent: 3, Lost: 3}},
		{"in order", []uint64{0, 1, 2}, 3, Tally{Sent: 3, Received: 3}},
		{"one lost", []uint64{0, 2}, 3, Tally{Sent: 3, Received: 2, Lost: 1}},
		{"the last lost", []uint64{0, 1}, 3, Tally{Sent: 3, Received: 2, Lost: 1}},
		{"a duplicate hides no loss", []uint64{0, 1, 1}, 3, Tally{Sent: 3, Received: 3, Lost: 1, Duplicated: 1}},
		{"swapped", []uint64{0, 2, 1, 3}, 4, Tally{Sent: 4, Received: 4, Reordered: 1}},
		{"late twice", []uint64{0, 2, 1, 1}, 3, Tally{Sent: 3, Received: 4, Reordered: 1, Duplicated: 1}},
		{"far late", []uint64{1000, 0, 1000}, 1001, Tally{Sent: 1001, Received: 3, Lost: 999, Reordered: 1, Duplicated: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s Sequence
			for _, n := range c.arrived {
				if !s.Add(n) {
					t.Fatalf("Add(%d) refused", n)
				}
			}
			if got := s.Tally(c.sent); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
	var s Sequence
	if s.Add(maxSequence) || s.Add(1<<63) {
		t.Error("a number that cannot have been sent was taken")
	}
}
