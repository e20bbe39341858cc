package route

import (
	"math/bits"
	"net/netip"
	"slices"
)

// fib is one routing table: longest prefix match to the route of best metric.
// It is a trie of eight bits a level whose nodes hold their routes and their
// children packed, so that a route costs little more than the pointer to it.
//
// A fib has the addresses of one family, as the kernel's tables have: its keys
// are as many octets of a fibKey as an address has, from the first on. IPv6 is a
// second fib, so that IPv4 pays nothing for it: no level more, nor a byte in a
// node. Only Lookup, which runs for each packet, is written for each: it keeps its
// way down on the stack, and that of sixteen levels has to be cleared.
//
// Snapshots share nodes with the fib that they were taken of. That one belongs
// to a goroutine, which changes in place what it has made since the last
// snapshot and copies the rest: of a burst of changes, each node once.
type fib struct {
	root fibNode
	edit uint64 // nodes of this number are in no snapshot

	lengths [maxBits + 1]int // how many prefixes are so long
}

// fibKey is an address of either family, from its first octet on.
type fibKey [16]byte

// maxBits is how long a prefix of any family may be.
const maxBits = len(fibKey{}) * 8

func keyOf(a netip.Addr) (k fibKey) {
	if a.Is4() {
		b := a.As4()
		copy(k[:], b[:])
		return k
	}
	return a.As16()
}

// addr is the address of the family of like that k stands for.
func (k fibKey) addr(like netip.Addr) netip.Addr {
	if like.Is4() {
		return netip.AddrFrom4([4]byte(k[:4]))
	}
	return netip.AddrFrom16(k)
}

// fibNode decides about one octet of an address. Bit 1<<n|o>>(8-n) of has
// stands for the route to the first n bits of octet o, n from 0 (the root's
// default route) to 8.
type fibNode struct {
	has    [8]uint64
	kids   [4]uint64
	edit   uint64
	routes []*Route   // in the order of the bits of has
	nodes  []*fibNode // in the order of the bits of kids
}

// Lookup finds the route for an address, which is of the fib's family or none.
func (f *fib) Lookup(addr netip.Addr) (r *Route, ok bool) {
	if !addr.Is4() {
		return f.lookup6(addr)
	}
	var way [4]*fibNode
	a, last := addr.As4(), 0
	way[0] = &f.root
	for last < 3 {
		kid := way[last].kid(a[last])
		if kid == nil {
			break
		}
		last++
		way[last] = kid
	}
	for ; last >= 0; last-- {
		if r := way[last&3].match(a[last&3]); r != nil {
			return r, true
		}
	}
	return nil, false
}

// lookup6 is Lookup for IPv6.
func (f *fib) lookup6(addr netip.Addr) (r *Route, ok bool) {
	if !addr.IsValid() {
		return nil, false
	}
	var way [len(fibKey{})]*fibNode
	a, last := addr.As16(), 0
	way[0] = &f.root
	for last < len(way)-1 {
		kid := way[last].kid(a[last])
		if kid == nil {
			break
		}
		last++
		way[last] = kid
	}
	for ; last >= 0; last-- {
		if r := way[last].match(a[last]); r != nil {
			return r, true
		}
	}
	return nil, false
}

// match finds the longest prefix of an octet that has a route.
func (n *fibNode) match(octet byte) *Route {
	o := uint(octet)
	if i := 256 | o; n.has[i>>6]>>(i&63)&1 != 0 {
		return n.routes[rank(n.has[:], i)]
	}
	if i := 128 | o>>1; n.has[i>>6]>>(i&63)&1 != 0 {
		return n.routes[rank(n.has[:], i)]
	}
	if i := 64 | o>>2; n.has[1]>>(i&63)&1 != 0 {
		return n.routes[rank(n.has[:], i)]
	}
	shorter := uint64(1<<1 | 1<<(2|o>>7) | 1<<(4|o>>6) | 1<<(8|o>>5) | 1<<(16|o>>4) | 1<<(32|o>>3))
	if found := n.has[0] & shorter; found != 0 {
		return n.routes[rank(n.has[:], uint(bits.Len64(found)-1))]
	}
	return nil
}

// kid is the node below an octet, or nil.
func (n *fibNode) kid(octet byte) *fibNode {
	o := uint(octet)
	if n.kids[o>>6]>>(o&63)&1 == 0 {
		return nil
	}
	return n.nodes[rank(n.kids[:], o)]
}

// rank counts the bits below bit i.
func rank(set []uint64, i uint) int {
	n := bits.OnesCount64(set[i>>6] & (1<<(i&63) - 1))
	for _, w := range set[:i>>6] {
		n += bits.OnesCount64(w)
	}
	return n
}

// Get finds the route to exactly a prefix, which must be masked, as in Insert
// and Delete.
func (f *fib) Get(p netip.Prefix) (r *Route, ok bool) {
	a, length := keyOf(p.Addr()), p.Bits()
	n := &f.root
	for depth := 0; n != nil; depth++ {
		if length <= 8 {
			if i := baseIndex(a[depth], length); n.has[i>>6]>>(i&63)&1 != 0 {
				return n.routes[rank(n.has[:], i)], true
			}
			return nil, false
		}
		n, length = n.kid(a[depth]), length-8
	}
	return nil, false
}

// baseIndex is the bit in fibNode.has for the first n bits of an octet.
func baseIndex(octet byte, n int) uint { return 1<<n | uint(octet)>>(8-n) }

// Insert makes r the route to a prefix.
func (f *fib) Insert(p netip.Prefix, r *Route) {
	a, length := keyOf(p.Addr()), p.Bits()
	n := f.own(&f.root)
	for depth := 0; ; depth++ {
		if length <= 8 {
			if n.insert(baseIndex(a[depth], length), r) {
				f.lengths[p.Bits()]++
			}
			return
		}
		n, length = f.below(n, a[depth]), length-8
	}
}

// insert reports whether the prefix had no route.
func (n *fibNode) insert(i uint, r *Route) bool {
	at := rank(n.has[:], i)
	if n.has[i>>6]>>(i&63)&1 != 0 {
		n.routes[at] = r
		return false
	}
	n.has[i>>6] |= 1 << (i & 63)
	n.routes = slices.Insert(n.routes, at, r)
	return true
}

// below gives the node below an octet of n, made if it is not there, to change.
// n itself must be ours.
func (f *fib) below(n *fibNode, octet byte) *fibNode {
	o := uint(octet)
	at := rank(n.kids[:], o)
	if n.kids[o>>6]>>(o&63)&1 == 0 {
		n.kids[o>>6] |= 1 << (o & 63)
		n.nodes = slices.Insert(n.nodes, at, &fibNode{edit: f.edit})
	} else if n.nodes[at].edit != f.edit {
		c := *n.nodes[at]
		n.nodes[at] = f.own(&c)
	}
	return n.nodes[at]
}

// own makes what a copied node refers to its own as well.
func (f *fib) own(n *fibNode) *fibNode {
	if n.edit != f.edit {
		n.edit, n.routes, n.nodes = f.edit, slices.Clone(n.routes), slices.Clone(n.nodes)
	}
	return n
}

// Delete removes the route to a prefix, which must be there.
func (f *fib) Delete(p netip.Prefix) {
	a, length := keyOf(p.Addr()), p.Bits()
	f.lengths[length]--
	var way [len(fibKey{})]*fibNode
	depth := 0
	for way[0] = f.own(&f.root); length > 8; depth, length = depth+1, length-8 {
		way[depth+1] = f.below(way[depth], a[depth])
	}
	i, n := baseIndex(a[depth], length), way[depth]
	at := rank(n.has[:], i)
	n.has[i>>6] &^= 1 << (i & 63)
	n.routes = slices.Delete(n.routes, at, at+1)
	for depth > 0 && len(way[depth].routes) == 0 && len(way[depth].nodes) == 0 {
		depth--
		n, o := way[depth], uint(a[depth])
		at := rank(n.kids[:], o)
		n.kids[o>>6] &^= 1 << (o & 63)
		n.nodes = slices.Delete(n.nodes, at, at+1)
	}
}

// snapshot gives the table as it is now; later changes of f don't touch it.
func (f *fib) snapshot() *fib {
	s := *f
	f.edit++
	return &s
}

// within calls fn for the prefixes inside of p that have a route, p itself not
// among them: of each node first what it decides about, then what is below.
func (f *fib) within(p netip.Prefix, fn func(netip.Prefix, *Route)) {
	a, length := keyOf(p.Addr()), p.Bits()
	n, depth := &f.root, 0
	for ; length > 8; depth, length = depth+1, length-8 {
		if n = n.kid(a[depth]); n == nil {
			return
		}
	}
	w := fibWalk{like: p.Addr(), fn: fn}
	w.node(n, a, depth, baseIndex(a[depth], length))
}

// fibWalk is within under way, in a fib of the family of like.
type fibWalk struct {
	like netip.Addr
	fn   func(netip.Prefix, *Route)
}

// node is within for the node at a depth of the address a and the prefix that
// bit base of has stands for.
func (w *fibWalk) node(n *fibNode, a fibKey, depth int, base uint) {
	length := bits.Len(base) - 1
	for more := 1; length+more <= 8; more++ {
		for i := range bitsIn(n.has[:], base<<more, (base+1)<<more) {
			b := a
			b[depth] = byte(i << (8 - length - more))
			clear(b[depth+1:])
			w.fn(netip.PrefixFrom(b.addr(w.like), depth*8+length+more), n.routes[rank(n.has[:], i)])
		}
	}
	first := base << (8 - length) & 0xff
	for o := range bitsIn(n.kids[:], first, first+1<<(8-length)) {
		b := a
		b[depth] = byte(o)
		w.node(n.nodes[rank(n.kids[:], o)], b, depth+1, 1)
	}
}

// bitsIn gives the bits of a set from one on up to another, which is not among them.
// Most nodes of a deep trie have one.
func bitsIn(set []uint64, from, to uint) func(func(uint) bool) {
	return func(yield func(uint) bool) {
		for w := from >> 6; w<<6 < to; w++ {
			word := set[w]
			if w == from>>6 {
				word &= ^uint64(0) << (from & 63)
			}
			if to-w<<6 < 64 {
				word &= 1<<(to&63) - 1
			}
			for ; word != 0; word &= word - 1 {
				if !yield(w<<6 | uint(bits.TrailingZeros64(word))) {
					return
				}
			}
		}
	}
}
