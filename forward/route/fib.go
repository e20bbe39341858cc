package route

import (
	"math/bits"
	"net/netip"
)

// fib is one routing table: longest prefix match to the route of best metric.
// It is a trie of eight bits a level whose nodes hold their routes and their
// children packed, so that a route costs little more than the pointer to it. What
// all destinations below a node have alike is passed over at once (fibPath), or a
// workload's IPv6 address would be sixteen levels down; and a route that has no other
// beside it takes no node (fibLeaf), or those of a full IPv6 table would be mostly empty.
//
// A fib has the addresses of one family, as the kernel's tables have: its keys
// are as many octets of a fibKey as an address has, from the first on. IPv6 is a
// second fib, so that IPv4 pays nothing for it: no level more, nor a byte in a
// node.
//
// Snapshots share nodes with the fib that they were taken of. That one belongs
// to a goroutine, which changes in place what it has made since the last
// snapshot and copies the rest: of a burst of changes, each node once.
type fib struct {
	root fibNode
	edit uint64 // nodes of this number are in no snapshot

	lengths [maxBits + 1]int // how many prefixes are so long
}

// fibNode decides about one octet of an address. Bit 1<<n|o>>(8-n) of has
// stands for the route to the first n bits of octet o, n from 0 (the root's
// default route) to 8. Who only passes reads the first 64 bytes.
type fibNode struct {
	path   fibPath
	kids   [4]uint64
	nodes  []fibKid // in the order of the bits of kids
	has    [8]uint64
	routes []*Route // in the order of the bits of has
	edit   uint64
}

// fibKid is what is below an octet: a node, or a route alone.
type fibKid struct {
	node *fibNode
	leaf *fibLeaf // nil: it is a node
}

// fibLeaf is a prefix with its route. It is immutable.
type fibLeaf struct {
	key   fibKey
	bits  uint8
	route *Route
}

// holds reports whether an address is in the prefix.
func (l *fibLeaf) holds(k fibKey) bool { return k.shares(l.key, int(l.bits)) }

// Lookup finds the route for an address, which is of the fib's family or none.
func (f *fib) Lookup(addr netip.Addr) (r *Route, ok bool) {
	if addr.IsValid() {
		r = f.root.find(keyOf(addr))
	}
	return r, r != nil
}

// find finds the route for an address among those of a root. Few packets have more than
// two nodes with routes on their way, beside the last one; so the way itself need not be
// kept.
func (n *fibNode) find(k fibKey) *Route {
	var above, higher *fibNode
	root, more := n, false
	for rest := k; ; { // from the octet that n decides about on
		octet := byte(rest.high >> 56)
		var below *fibNode
		if kid := n.kid(octet); kid != nil {
			if kid.leaf != nil && kid.leaf.holds(k) {
				return kid.leaf.route
			}
			below = kid.node
		}
		rest = rest.shifted(1)
		if below == nil || below.path.length() != 0 && !below.path.leads(rest) {
			if len(n.routes) > 0 {
				if r := n.match(octet); r != nil {
					return r
				}
			}
			break
		}
		if passed := below.path.length(); passed != 0 {
			rest = rest.shifted(passed)
		}
		if len(n.routes) > 0 {
			more = more || higher != nil
			above, higher = n, above
		}
		n = below
	}
	for ; above != nil; above, higher = higher, nil {
		if r := above.match(k.octet(above.path.depth())); r != nil {
			return r
		}
	}
	if more {
		return root.findAll(k)
	}
	return nil
}

// findAll is find by a walk back over all of the way, where no leaf has the address.
func (n *fibNode) findAll(k fibKey) *Route {
	octet := k.octet(n.path.depth())
	if kid := n.kid(octet); kid != nil && kid.node != nil && kid.node.path.parts(k) == kid.node.path.depth() {
		if r := kid.node.findAll(k); r != nil {
			return r
		}
	}
	return n.match(octet)
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

// kid is what is below an octet, or nil.
func (n *fibNode) kid(octet byte) *fibKid {
	o := uint(octet)
	if n.kids[o>>6]>>(o&63)&1 == 0 {
		return nil
	}
	return &n.nodes[rank(n.kids[:], o)]
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
	k, length := keyOf(p.Addr()), p.Bits()
	n, last := &f.root, lastOctet(length)
	for n.path.depth() < last {
		kid := n.kid(k.octet(n.path.depth()))
		switch {
		case kid == nil:
			return nil, false
		case kid.leaf != nil:
			if l := kid.leaf; l.key == k && int(l.bits) == length {
				return l.route, true
			}
			return nil, false
		}
		if n = kid.node; n.path.depth() > last || n.path.parts(k) < n.path.depth() {
			return nil, false
		}
	}
	if i := baseIndex(k.octet(last), length-8*last); n.has[i>>6]>>(i&63)&1 != 0 {
		return n.routes[rank(n.has[:], i)], true
	}
	return nil, false
}

// upTo is Lookup of p's address among the prefixes that are no longer than p, with the
// length of the one that has it.
func (f *fib) upTo(p netip.Prefix) (r *Route, length int) {
	k, last := keyOf(p.Addr()), lastOctet(p.Bits())
	for n := &f.root; n != nil && n.path.depth() <= last && n.path.parts(k) == n.path.depth(); {
		octet := k.octet(n.path.depth())
		if n.path.depth() == last {
			for rest := p.Bits() - 8*last; rest >= 0; rest-- {
				if i := baseIndex(octet, rest); n.has[i>>6]>>(i&63)&1 != 0 {
					return n.routes[rank(n.has[:], i)], 8*last + rest
				}
			}
			return r, length
		}
		if got := n.match(octet); got != nil {
			r, length = got, int(got.Bits)
		}
		kid := n.kid(octet)
		if kid == nil {
			break
		}
		if l := kid.leaf; l != nil && int(l.bits) <= p.Bits() && l.holds(k) {
			r, length = l.route, int(l.bits)
		}
		n = kid.node
	}
	return r, length
}

// lastOctet is the number of the octet in which a prefix of that many bits ends.
func lastOctet(bits int) int { return max(bits-1, 0) / 8 }

// baseIndex is the bit in fibNode.has for the first n bits of an octet.
func baseIndex(octet byte, n int) uint { return 1<<n | uint(octet)>>(8-n) }

// snapshot gives the table as it is now; later changes of f don't touch it.
func (f *fib) snapshot() *fib {
	s := *f
	f.edit++
	return &s
}
