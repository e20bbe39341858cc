package bench

// Sequence tells loss, duplication and reordering apart from the numbers that
// arrive of one flow, which were sent as 0, 1, 2, ...
type Sequence struct {
	seen       []uint64 // bitmap of the numbers that have arrived
	next       uint64   // one more than the highest that has arrived
	unique     uint64
	duplicated uint64
	reordered  uint64
}

// maxSequence bounds what a corrupt number can make Sequence remember.
const maxSequence = 1 << 30

// Add takes note of an arrival. A number that cannot have been sent is refused.
func (s *Sequence) Add(n uint64) bool {
	if n >= maxSequence {
		return false
	}
	for uint64(len(s.seen)) <= n/64 {
		s.seen = append(s.seen, make([]uint64, 1+len(s.seen))...)
	}
	word, bit := &s.seen[n/64], uint64(1)<<(n%64)
	switch {
	case *word&bit != 0:
		s.duplicated++
		return true
	case n < s.next:
		s.reordered++ // RFC 4737: its number is smaller than one before it
	default:
		s.next = n + 1
	}
	*word |= bit
	s.unique++
	return true
}

// Tally is what became of a number of sent datagrams.
type Tally struct {
	Sent, Received              uint64 // Received counts every arrival
	Lost, Duplicated, Reordered uint64
	Corrupt                     uint64 // arrived, but not as anything that was sent
}

// Tally sums up, knowing how many were sent.
func (s *Sequence) Tally(sent uint64) Tally {
	t := Tally{Sent: sent, Received: s.unique + s.duplicated, Duplicated: s.duplicated, Reordered: s.reordered}
	if sent > s.unique {
		t.Lost = sent - s.unique
	}
	return t
}

// Plus adds the tallies of two flows.
func (t Tally) Plus(o Tally) Tally {
	t.Sent += o.Sent
	t.Received += o.Received
	t.Lost += o.Lost
	t.Duplicated += o.Duplicated
	t.Reordered += o.Reordered
	t.Corrupt += o.Corrupt
	return t
}
