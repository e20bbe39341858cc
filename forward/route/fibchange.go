package route

import (
	"math/bits"
	"net/netip"
	"slices"
)

// Insert makes r the route to a prefix.
func (f *fib) Insert(p netip.Prefix, r *Route) {
	leaf := &fibLeaf{keyOf(p.Addr()), uint8(p.Bits()), r}
	if f.insert(leaf) {
		f.lengths[p.Bits()]++
	}
}

// insert reports whether the prefix had no route.
func (f *fib) insert(l *fibLeaf) bool {
	n, last := f.own(&f.root), l.last()
	var at *fibKid // what n is, below another; nil: it is the root
	for n.path.depth() < last {
		octet := l.key.octet(n.path.depth())
		kid := n.kid(octet)
		switch {
		case kid == nil:
			n.addKid(octet, fibKid{leaf: l})
			return true
		case kid.leaf == nil:
			f.ownKid(kid)
			f.fork(kid, l.key, n.path.depth()+1, last)
			if at != nil { // the way through n may be short enough now
				if at.node = f.joined(n); at.node != n {
					kid = at
				}
			}
		case kid.leaf.key == l.key && kid.leaf.bits == l.bits:
			kid.leaf = l
			return false
		default:
			*kid = fibKid{node: f.branch(kid.leaf, l, n.path.depth()+1)}
		}
		n, at = kid.node, kid
	}
	return n.insert(baseIndex(l.key.octet(last), int(l.bits)-8*last), l.route)
}

// last is the number of the octet in which the prefix ends.
func (l *fibLeaf) last() int { return lastOctet(int(l.bits)) }

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

// addKid puts something below an octet that has nothing.
func (n *fibNode) addKid(octet byte, kid fibKid) {
	n.nodes = slices.Insert(n.nodes, rank(n.kids[:], uint(octet)), kid)
	n.kids[octet>>6] |= 1 << (octet & 63)
}

// removeKid is the opposite.
func (n *fibNode) removeKid(octet byte) {
	at := rank(n.kids[:], uint(octet))
	n.kids[octet>>6] &^= 1 << (octet & 63)
	n.nodes = slices.Delete(n.nodes, at, at+1)
}

// branch gives a node that holds the leaf l, on the way to another one, as deep as the two
// go together. next is the number of the first octet of its path.
func (f *fib) branch(l, to *fibLeaf, next int) *fibNode {
	end := min(l.last(), to.last(), next+maxPath)
	depth := next
	for depth < end && l.key.octet(depth) == to.key.octet(depth) {
		depth++
	}
	n := &fibNode{edit: f.edit, path: pathOf(l.key, next, depth)}
	n.hold(l)
	return n
}

// hold puts a leaf in a node on its way that has nothing there.
func (n *fibNode) hold(l *fibLeaf) {
	depth := n.path.depth()
	if l.last() == depth {
		n.insert(baseIndex(l.key.octet(depth), int(l.bits)-8*depth), l.route)
	} else {
		n.addKid(l.key.octet(depth), fibKid{leaf: l})
	}
}

// fork puts a node before the one of kid, which is ours, if that one's path leads past
// the octet last of a key or elsewhere. next is the number of the first octet of its path.
func (f *fib) fork(kid *fibKid, k fibKey, next, last int) {
	n := kid.node
	depth := min(last, n.path.parts(k))
	if depth == n.path.depth() {
		return
	}
	between := &fibNode{edit: f.edit, path: pathOf(k, next, depth)}
	octet := n.path.octet(depth)
	n.path = n.path.behind(depth)
	between.addKid(octet, fibKid{node: f.joined(n)})
	kid.node = between
}

// ownKid makes the node of a kid ours. The node that the kid is of must be.
func (f *fib) ownKid(kid *fibKid) {
	if kid.node.edit != f.edit {
		c := *kid.node
		kid.node = f.own(&c)
	}
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
	k, length := keyOf(p.Addr()), p.Bits()
	f.lengths[length]--
	var way [fibDepth]*fibNode
	n, above, last := f.own(&f.root), 0, lastOctet(length)
	for n.path.depth() < last {
		octet := k.octet(n.path.depth())
		kid := n.kid(octet)
		if kid.leaf != nil {
			n.removeKid(octet)
			break
		}
		f.ownKid(kid)
		way[above], above = n, above+1
		n = kid.node
	}
	if n.path.depth() == last {
		i := baseIndex(k.octet(last), length-8*last)
		at := rank(n.has[:], i)
		n.has[i>>6] &^= 1 << (i & 63)
		n.routes = slices.Delete(n.routes, at, at+1)
	}
	for above--; above >= 0 && f.prune(way[above], n, k); above-- {
		n = way[above]
	}
}

// prune takes a node of which little is left, on the way of k, out of the one above it, or
// puts what is left in its place. It reports whether that one may be as little now.
func (f *fib) prune(above, n *fibNode, k fibKey) bool {
	octet := k.octet(above.path.depth())
	switch kid := above.kid(octet); {
	case len(n.routes)+len(n.nodes) > 1:
		return false
	case len(n.routes) == 1:
		i, _ := lowest(n.has[:])
		length := bits.Len(i) - 1
		kid.node, kid.leaf = nil, &fibLeaf{hasKey(k, n.path.depth(), i), uint8(8*n.path.depth() + length), n.routes[0]}
	case len(n.nodes) == 0:
		above.removeKid(octet)
	case n.nodes[0].leaf != nil:
		*kid = n.nodes[0]
	default:
		kid.node = f.joined(n)
		return false
	}
	return true
}

// joined gives the one node below n in the place of n, where n is of no other use. n must
// be ours.
func (f *fib) joined(n *fibNode) *fibNode {
	if len(n.routes) > 0 || len(n.nodes) != 1 || n.nodes[0].leaf != nil || n.path.length()+1+n.nodes[0].node.path.length() > maxPath {
		return n
	}
	f.ownKid(&n.nodes[0])
	octet, _ := lowest(n.kids[:])
	kid := n.nodes[0].node
	way := n.path.key(fibKey{}).with(n.path.depth(), uint64(octet)<<56)
	kid.path = pathOf(kid.path.key(way), n.path.first(), kid.path.depth())
	return kid
}

// lowest is the lowest bit of a set.
func lowest(set []uint64) (bit uint, ok bool) {
	for w, word := range set {
		if word != 0 {
			return uint(w*64 + bits.TrailingZeros64(word)), true
		}
	}
	return 0, false
}
