package route

import (
	"math/bits"
	"net/netip"
	"slices"
)

// Insert makes r the route to a prefix.
func (f *fib) Insert(p netip.Prefix, r *Route) {
	k, length := keyOf(p.Addr()), p.Bits()
	n, last := f.own(&f.root), lastOctet(length)
	for n.path.depth() < last {
		n = f.below(n, k, last)
	}
	if n.insert(baseIndex(k.octet(last), length-8*last), r) {
		f.lengths[length]++
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

// below gives the next node from n on the way of a key to the one that decides about
// its octet last, made if it is not there, to change. n itself must be ours.
func (f *fib) below(n *fibNode, k fibKey, last int) *fibNode {
	next := n.path.depth() + 1
	o := uint(k.octet(next - 1))
	at := rank(n.kids[:], o)
	if n.kids[o>>6]>>(o&63)&1 == 0 {
		kid := &fibNode{edit: f.edit, path: pathOf(k, next, min(last, next+maxPath))}
		n.kids[o>>6] |= 1 << (o & 63)
		n.nodes = slices.Insert(n.nodes, at, kid)
		return kid
	}
	kid := f.ownKid(n, at)
	if fork := min(last, kid.path.parts(k)); fork < kid.path.depth() {
		between := &fibNode{edit: f.edit, path: pathOf(k, next, fork)}
		between.addKid(kid.path.octet(fork))
		kid.path = kid.path.behind(fork)
		between.nodes = []*fibNode{f.joined(kid)}
		n.nodes[at] = between
		return between
	}
	return kid
}

// addKid says that there is a node below an octet.
func (n *fibNode) addKid(octet byte) { n.kids[octet>>6] |= 1 << (octet & 63) }

// firstKid is the lowest octet below which there is a node.
func (n *fibNode) firstKid() byte {
	for w, set := range n.kids {
		if set != 0 {
			return byte(w*64 + bits.TrailingZeros64(set))
		}
	}
	return 0
}

// ownKid makes the node at a place of n.nodes ours. n must be.
func (f *fib) ownKid(n *fibNode, at int) *fibNode {
	if n.nodes[at].edit != f.edit {
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
	k, length := keyOf(p.Addr()), p.Bits()
	f.lengths[length]--
	var way [fibDepth]*fibNode
	n, above, last := f.own(&f.root), 0, lastOctet(length)
	for n.path.depth() < last {
		way[above], above = n, above+1
		n = f.below(n, k, last)
	}
	i := baseIndex(k.octet(last), length-8*last)
	at := rank(n.has[:], i)
	n.has[i>>6] &^= 1 << (i & 63)
	n.routes = slices.Delete(n.routes, at, at+1)
	for above--; above >= 0 && f.prune(way[above], n, k); above-- {
		n = way[above]
	}
}

// prune takes a node that decides about nothing any more out of the one above it. It
// reports whether that one has lost a node.
func (f *fib) prune(above, n *fibNode, k fibKey) bool {
	o := uint(k.octet(above.path.depth()))
	at := rank(above.kids[:], o)
	if len(n.routes) > 0 || len(n.nodes) > 0 {
		above.nodes[at] = f.joined(n)
		return false
	}
	above.kids[o>>6] &^= 1 << (o & 63)
	above.nodes = slices.Delete(above.nodes, at, at+1)
	return true
}

// joined gives the one node below n in the place of n, where n is of no other use. n must
// be ours.
func (f *fib) joined(n *fibNode) *fibNode {
	if len(n.routes) > 0 || len(n.nodes) != 1 || n.path.length()+1+n.nodes[0].path.length() > maxPath {
		return n
	}
	kid := f.ownKid(n, 0)
	way := n.path.key(fibKey{}).with(n.path.depth(), uint64(n.firstKid())<<56)
	kid.path = pathOf(kid.path.key(way), n.path.first(), kid.path.depth())
	return kid
}
