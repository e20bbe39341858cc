package filter

// The intermediate form is libpcap's: a directed acyclic graph of blocks. A block is a list of statements and a
// comparison at its end, whose edges lead to other blocks; the leaves return. While an expression is being put
// together, an edge that leads nowhere yet is a link in a list of all such edges of the part.

// removed is the op of a statement that the optimizer took out.
const removed = -1

// stmt is an instruction. Jumps inside a block name their targets.
type stmt struct {
	op     int
	k      uint32
	jt, jf *stmt
}

// block is a node of the graph.
type block struct {
	stmts []*stmt
	end   stmt
	t, f  edge

	// head is the first block of the part of the expression whose last block this is, and sense tells which of the
	// edges is open: t if it is false.
	head  *block
	sense bool

	mark   int
	id     int
	level  int // longest way to a leaf
	link   *block
	dom    bitset // the blocks that lie on all ways from the root to here
	in     *edge  // first of the edges that lead here
	kill   atoms
	inUse  atoms
	outUse atoms
	val    [numAtoms]int // what the registers hold at the end, as value numbers
	oval   int           // what the comparison compares with

	offset       int // of the first instruction
	longT, longF bool
}

// edge leads from a block to the next.
type edge struct {
	id   int
	op   int    // of the comparison; negative for the edge taken if it is false
	dom  bitset // the edges that lie on all ways from the root to here
	succ *block
	pred *block
	next *edge // in the list of edges that lead to succ
}

func (b *block) leaf() bool { return b.t.succ == nil }

func newBlock(op int, k uint32, stmts ...*stmt) *block {
	b := &block{stmts: stmts, end: stmt{op: op, k: k}}
	b.head = b
	return b
}

// open returns the edge of b that leads nowhere yet.
func (b *block) open() **block {
	if b.sense {
		return &b.f.succ
	}
	return &b.t.succ
}

// patch lets all open edges of the list lead to target.
func patch(list, target *block) {
	for list != nil {
		e := list.open()
		list, *e = *e, target
	}
}

// join appends the list of open edges of b1 to that of b0.
func join(b0, b1 *block) {
	e := b0.open()
	for *e != nil {
		e = (*e).open()
	}
	*e = b1
}

// and makes b1 the conjunction of both.
func and(b0, b1 *block) {
	patch(b0, b1.head)
	b0.sense = !b0.sense
	b1.sense = !b1.sense
	join(b1, b0)
	b1.sense = !b1.sense
	b1.head = b0.head
}

// or makes b1 the disjunction of both.
func or(b0, b1 *block) {
	b0.sense = !b0.sense
	patch(b0, b1.head)
	b0.sense = !b0.sense
	join(b1, b0)
	b1.head = b0.head
}

func negate(b *block) { b.sense = !b.sense }

// graph is the flow graph of an expression.
type graph struct {
	root *block
	mark int
}

func (g *graph) unmarkAll() { g.mark++ }

// visit marks b; it is false if it was marked before.
func (g *graph) visit(b *block) bool {
	if b == nil || b.mark == g.mark {
		return false
	}
	b.mark = g.mark
	return true
}

// close completes the graph with its leaves.
func (g *graph) close(b *block) {
	patch(b, newBlock(opRetK, snapLen))
	b.sense = !b.sense
	patch(b, newBlock(opRetK, 0))
	g.root = b.head
}
