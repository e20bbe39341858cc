package filter

import "math/bits"

// bitset is a set of the numbers of blocks or edges.
type bitset []uint64

func newBitsets(n, members int) []bitset {
	words := members/64 + 1
	all := make(bitset, n*words)
	sets := make([]bitset, n)
	for i := range sets {
		sets[i] = all[i*words : (i+1)*words : (i+1)*words]
	}
	return sets
}

func (s bitset) fill(word uint64) {
	for i := range s {
		s[i] = word
	}
}

func (s bitset) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s bitset) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

func (s bitset) intersect(o bitset) {
	for i := range s {
		s[i] &= o[i]
	}
}

// members calls fn with the members in increasing order until it returns false. What fn changes in the set's later
// words counts, what it changes in the word of the member does not.
func (s bitset) members(fn func(i int) bool) {
	for w := range s {
		for word := s[w]; word != 0; word &= word - 1 {
			if !fn(w*64 + bits.TrailingZeros64(word)) {
				return
			}
		}
	}
}
