package filter

// The optimizer: the passes of libpcap's optimize.c, in its order, with its quirks, as what it removes decides which
// loads a short frame has to bear. They are those of McCanne and Jacobson's "The BSD Packet Filter" (USENIX 1993) and
// of Begel, McCanne and Graham's "BPF+" (SIGCOMM 1999): value numbering over the acyclic graph, dead stores, peephole
// rules, and edges that go past comparisons whose result the way there already decides.

// Registers: the words of scratch memory, A and X.
const (
	regA     = memWords
	regX     = memWords + 1
	numAtoms = memWords + 2
	regAX    = numAtoms // both, in what a statement uses
	regNone  = -1
)

// atoms is a set of registers.
type atoms uint32

func (a atoms) has(i int) bool { return a&(1<<i) != 0 }

// maxShuffles is after how many passes that did nothing but move branches libpcap gives up: they can go round.
const maxShuffles = 100

type optimizer struct {
	*graph
	blocks []*block
	edges  []*edge
	levels []*block // first block of each level, in a list by link
	doms   []bitset // of the blocks

	values values

	done     bool // nothing was changed in this pass
	progress bool // something other than an edge was changed
}

// optimize optimizes the graph in place. It returns what is wrong, if the expression turns out to be.
func optimize(g *graph) (msg string) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case optError:
			msg = string(r)
		default:
			panic(r)
		}
	}()
	o := newOptimizer(g)
	o.loop(false)
	o.loop(true)
	o.shareBlocks()
	o.skipRoot()
	return ""
}

type optError string

func newOptimizer(g *graph) *optimizer {
	o := &optimizer{graph: g}
	g.unmarkAll()
	o.number(g.root)
	n := len(o.blocks)
	o.levels = make([]*block, n)
	o.doms = newBitsets(n, n)
	edgeDoms := newBitsets(2*n, 2*n)
	o.edges = make([]*edge, 2*n)
	for i, b := range o.blocks {
		b.dom = o.doms[i]
		o.edges[i], o.edges[n+i] = &b.t, &b.f
	}
	for id, e := range o.edges {
		e.id, e.pred, e.dom = id, o.blocks[id%n], edgeDoms[id]
	}
	return o
}

// number numbers the blocks from b on, depth first.
func (o *optimizer) number(b *block) {
	if !o.visit(b) {
		return
	}
	b.id = len(o.blocks)
	o.blocks = append(o.blocks, b)
	o.number(b.t.succ)
	o.number(b.f.succ)
}

// changed notes that something other than an edge was changed.
func (o *optimizer) changed() {
	o.progress = true
	o.done = false
}

// loop repeats the passes until they change nothing: without and then with changes to the statements.
func (o *optimizer) loop(statements bool) {
	for shuffles := 0; shuffles < maxShuffles; {
		o.done, o.progress = true, false
		o.findLevels()
		o.findDominators()
		o.findUses()
		o.findEdgeDominators()
		o.pass(statements)
		if o.done {
			return
		}
		if o.progress {
			shuffles = 0
		} else {
			shuffles++
		}
	}
}

func (o *optimizer) pass(statements bool) {
	o.values.reset()
	o.findInEdges()
	o.down(func(b *block) { o.block(b, statements) })
	if statements {
		return
	}
	o.up(func(b *block) {
		o.moveEdge(&b.t)
		o.moveEdge(&b.f)
	})
	o.findInEdges()
	o.up(func(b *block) {
		o.pullUp(b, (*block).ifTrue, (*block).ifFalse)
		o.pullUp(b, (*block).ifFalse, (*block).ifTrue)
	})
}

// down calls fn for all blocks from the root to the leaves.
func (o *optimizer) down(fn func(b *block)) {
	for level := o.root.level; level >= 0; level-- {
		for b := o.levels[level]; b != nil; b = b.link {
			fn(b)
		}
	}
}

// up calls fn for all blocks but the leaves, towards the root.
func (o *optimizer) up(fn func(b *block)) {
	for level, top := 1, o.root.level; level <= top; level++ {
		for b := o.levels[level]; b != nil; b = b.link {
			fn(b)
		}
	}
}

func (o *optimizer) findLevels() {
	clear(o.levels)
	o.unmarkAll()
	o.level(o.root)
}

func (o *optimizer) level(b *block) {
	if !o.visit(b) {
		return
	}
	b.link = nil
	b.level = 0
	if !b.leaf() {
		o.level(b.t.succ)
		o.level(b.f.succ)
		b.level = max(b.t.succ.level, b.f.succ.level) + 1
	}
	b.link = o.levels[b.level]
	o.levels[b.level] = b
}

// findDominators finds the blocks that lie on all ways from the root to a block.
func (o *optimizer) findDominators() {
	for _, d := range o.doms {
		d.fill(^uint64(0))
	}
	o.root.dom.fill(0)
	o.down(func(b *block) {
		b.dom.add(b.id)
		if b.leaf() {
			return
		}
		b.t.succ.dom.intersect(b.dom)
		b.f.succ.dom.intersect(b.dom)
	})
}

// findEdgeDominators finds the edges that lie on all ways from the root to an edge.
func (o *optimizer) findEdgeDominators() {
	for _, e := range o.edges {
		e.dom.fill(^uint64(0))
	}
	o.root.t.dom.fill(0)
	o.root.f.dom.fill(0)
	o.down(func(b *block) {
		for _, e := range []*edge{&b.t, &b.f} {
			e.dom.add(e.id)
			if e.succ != nil {
				e.succ.t.dom.intersect(e.dom)
				e.succ.f.dom.intersect(e.dom)
			}
		}
	})
}

func (o *optimizer) findInEdges() {
	for _, b := range o.blocks {
		b.in = nil
	}
	o.down(func(b *block) {
		if b.leaf() {
			return
		}
		for _, e := range []*edge{&b.t, &b.f} {
			e.next, e.succ.in = e.succ.in, e
		}
	})
}

// findUses finds which registers are used from the beginning and from the end of a block on.
func (o *optimizer) findUses() {
	o.down(func(b *block) {
		b.localUses()
		b.outUse = 0
	})
	o.up(func(b *block) {
		b.outUse |= b.t.succ.inUse | b.f.succ.inUse
		b.inUse |= b.outUse &^ b.kill
	})
}

// localUses finds the registers that a block uses before it sets them, and those that it sets before it uses them.
func (b *block) localUses() {
	var set, use, kill atoms
	uses := func(s *stmt) {
		switch r := s.uses(); r {
		case regNone:
		case regAX:
			use |= (1<<regA | 1<<regX) &^ set
		default:
			use |= 1 << r &^ set
		}
	}
	for _, s := range b.stmts {
		uses(s)
		if r := s.sets(); r != regNone {
			kill |= 1 << r &^ use
			set |= 1 << r
		}
	}
	if opClass(b.end.op) == classJMP {
		uses(&b.end)
	}
	b.kill, b.inUse = kill, use
}

// uses returns the register that a statement uses.
func (s *stmt) uses() int {
	if s.op == removed {
		return regNone
	}
	switch opClass(s.op) {
	case classLD, classLDX:
		switch opMode(s.op) {
		case modeIND:
			return regX
		case modeMEM:
			return int(s.k)
		}
		return regNone
	case classST:
		return regA
	case classSTX:
		return regX
	case classJMP, classALU:
		if opSrc(s.op) == srcX {
			return regAX
		}
		return regA
	case classMISC:
		if s.op == opTxa {
			return regX
		}
		return regA
	}
	return regNone // the leaves return constants
}

// sets returns the register that a statement sets.
func (s *stmt) sets() int {
	if s.op == removed {
		return regNone
	}
	switch opClass(s.op) {
	case classLD, classALU:
		return regA
	case classLDX:
		return regX
	case classST, classSTX:
		return int(s.k)
	case classMISC:
		if s.op == opTax {
			return regX
		}
		return regA
	}
	return regNone
}
