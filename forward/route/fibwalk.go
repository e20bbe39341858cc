package route

import (
	"math/bits"
	"net/netip"
)

// within calls fn for the prefixes inside of p that have a route, p itself not
// among them: of each node first what it decides about, then what is below.
func (f *fib) within(p netip.Prefix, fn func(netip.Prefix, *Route)) {
	k, length := keyOf(p.Addr()), p.Bits()
	w := fibWalk{like: p.Addr(), fn: fn}
	n, last := &f.root, lastOctet(length)
	for n.path.depth() < last {
		kid := n.kid(k.octet(n.path.depth()))
		switch {
		case kid == nil:
			return
		case kid.leaf != nil:
			if l := kid.leaf; int(l.bits) > length && l.key.shares(k, length) {
				w.leaf(l)
			}
			return
		}
		n = kid.node
		if n.path.depth() > last { // its path leads past where p ends: inside of it or beside it
			if n.path.key(k).shares(k, length) {
				w.node(n, k, 1)
			}
			return
		}
		if n.path.parts(k) < n.path.depth() {
			return
		}
	}
	w.node(n, k, baseIndex(k.octet(last), length-8*last))
}

// fibWalk is within under way, in a fib of the family of like.
type fibWalk struct {
	like netip.Addr
	fn   func(netip.Prefix, *Route)
}

// node is within for a node and the prefix that bit base of has stands for. k has the
// octets of what is above.
func (w *fibWalk) node(n *fibNode, k fibKey, base uint) {
	k = n.path.key(k)
	depth, length := n.path.depth(), bits.Len(base)-1
	if len(n.routes) > 0 {
		for more := 1; length+more <= 8; more++ {
			for i := range bitsIn(n.has[:], base<<more, (base+1)<<more) {
				w.fn(netip.PrefixFrom(hasKey(k, depth, i).addr(w.like), depth*8+length+more), n.routes[rank(n.has[:], i)])
			}
		}
	}
	first := base << (8 - length) & 0xff
	for o := range bitsIn(n.kids[:], first, first+1<<(8-length)) {
		if kid := &n.nodes[rank(n.kids[:], o)]; kid.leaf != nil {
			w.leaf(kid.leaf)
		} else {
			w.node(kid.node, k.with(depth, uint64(o)<<56), 1)
		}
	}
}

func (w *fibWalk) leaf(l *fibLeaf) {
	w.fn(netip.PrefixFrom(l.key.addr(w.like), int(l.bits)), l.route)
}

// hasKey is the address of the prefix that a bit of has stands for in a node at a depth of
// k.
func hasKey(k fibKey, depth int, i uint) fibKey {
	return k.with(depth, uint64(i)<<(65-bits.Len(i)))
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

// diff calls fn for the prefixes that have another route in f than in o, of the family of
// like: of each node first what it decides about. gone says that f has none. What the two
// share is passed over.
func (f *fib) diff(o *fib, like netip.Addr, fn func(p netip.Prefix, gone bool)) {
	d := fibDiff{like, fn}
	d.kids(fibKid{node: &f.root}, fibKid{node: &o.root}, fibKey{}, 0)
}

// fibDiff is diff under way.
type fibDiff struct {
	like netip.Addr
	fn   func(p netip.Prefix, gone bool)
}

// kids is diff for what is below one place of both, of either maybe nothing. k has the
// octets above them, and next is the number of the first of the others.
func (d *fibDiff) kids(n, o fibKid, k fibKey, next int) {
	if n == o {
		return
	}
	depth := fork(n, o, next)
	some := n
	if n == (fibKid{}) {
		some = o
	}
	d.nodes(n.shown(depth), o.shown(depth), some.key(k).before(depth), depth)
}

// nodes is diff for two nodes of one depth and k.
func (d *fibDiff) nodes(n, o *fibNode, k fibKey, depth int) {
	in, io := 0, 0
	for w := range n.has {
		for set := n.has[w] | o.has[w]; set != 0; set &= set - 1 {
			bit := set & -set
			var rn, ro *Route
			if n.has[w]&bit != 0 {
				rn = n.routes[in]
				in++
			}
			if o.has[w]&bit != 0 {
				ro = o.routes[io]
				io++
			}
			if rn != ro {
				i := uint(w*64 + bits.TrailingZeros64(bit))
				d.fn(netip.PrefixFrom(hasKey(k, depth, i).addr(d.like), depth*8+bits.Len(i)-1), rn == nil)
			}
		}
	}
	in, io = 0, 0
	for w := range n.kids {
		for set := n.kids[w] | o.kids[w]; set != 0; set &= set - 1 {
			bit := set & -set
			var kn, ko fibKid
			if n.kids[w]&bit != 0 {
				kn = n.nodes[in]
				in++
			}
			if o.kids[w]&bit != 0 {
				ko = o.nodes[io]
				io++
			}
			octet := uint64(w*64 + bits.TrailingZeros64(bit))
			d.kids(kn, ko, k.with(depth, octet<<56), depth+1)
		}
	}
}

// fork is the number of the first octet, from one on, in which the ways of two part, or
// that one of them decides about.
func fork(n, o fibKid, next int) int {
	switch none := (fibKid{}); {
	case n == none:
		return o.depth()
	case o == none:
		return n.depth()
	}
	end := min(n.depth(), o.depth())
	for next < end && n.octet(next) == o.octet(next) {
		next++
	}
	return next
}

// depth is the number of the octet that it decides about.
func (d fibKid) depth() int {
	if d.leaf != nil {
		return d.leaf.last()
	}
	return d.node.path.depth()
}

// octet is one of those on the way to it.
func (d fibKid) octet(number int) byte {
	if d.leaf != nil {
		return d.leaf.key.octet(number)
	}
	return d.node.path.octet(number)
}

// key adds the octets on the way to it to those of what is above.
func (d fibKid) key(above fibKey) fibKey {
	if d.leaf != nil {
		return d.leaf.key
	}
	return d.node.path.key(above)
}

// noFibNode decides about nothing; nobody writes it.
var noFibNode fibNode

// shown is the node that decides about an octet on the way there: with one below it if it
// is deeper itself.
func (d fibKid) shown(depth int) *fibNode {
	switch {
	case d == (fibKid{}):
		return &noFibNode
	case d.leaf == nil && d.node.path.depth() == depth:
		return d.node
	}
	one := &fibNode{path: pathOf(fibKey{}, depth, depth)}
	if d.leaf != nil {
		one.hold(d.leaf)
	} else {
		one.addKid(d.octet(depth), d)
	}
	return one
}
