package filter

import "slices"

// assemble lays the graph out as a program: a depth first walk from the end, the false branch before the true one, as
// libpcap does it. A branch over more than 255 instructions takes a jump of its own; it is known only when all is
// laid out, so this repeats until nothing changes.
func assemble(g *graph) []Instruction {
	for {
		a := &assembler{graph: g}
		g.unmarkAll()
		prog := make([]Instruction, a.count(g.root))
		a.prog, a.tail = prog, len(prog)
		g.unmarkAll()
		a.place(g.root)
		if !a.again {
			return prog
		}
	}
}

type assembler struct {
	*graph
	prog  []Instruction
	tail  int
	again bool // a branch turned out to be long
}

// count returns how many instructions the blocks from b on need.
func (a *assembler) count(b *block) int {
	if !a.visit(b) {
		return 0
	}
	return a.count(b.t.succ) + a.count(b.f.succ) + len(live(b.stmts)) + 1 + b.extra()
}

// extra is the number of jumps that the end of b needs for its long branches.
func (b *block) extra() (n int) {
	if b.longT {
		n++
	}
	if b.longF {
		n++
	}
	return n
}

func live(stmts []*stmt) []*stmt {
	return slices.DeleteFunc(slices.Clone(stmts), func(s *stmt) bool { return s.op == removed })
}

// place lays b out, behind it what it leads to.
func (a *assembler) place(b *block) {
	if !a.visit(b) {
		return
	}
	a.place(b.f.succ)
	a.place(b.t.succ)
	stmts := live(b.stmts)
	a.tail -= len(stmts) + 1 + b.extra()
	b.offset = a.tail
	for i, s := range stmts {
		ins := &a.prog[b.offset+i]
		ins.Op, ins.K = uint16(s.op), s.k
		if s.jt != nil {
			ins.Jt, ins.Jf = distance(stmts, i, s.jt), distance(stmts, i, s.jf)
		}
	}
	a.placeEnd(b, b.offset+len(stmts))
}

// distance is what a jump at index i inside a block skips to get to target. These jumps are short.
func distance(stmts []*stmt, i int, target *stmt) uint8 {
	return uint8(slices.Index(stmts, target) - i - 1)
}

// placeEnd lays out the comparison of b at the index at, and behind it the jumps of its long branches.
func (a *assembler) placeEnd(b *block, at int) {
	end := &a.prog[at]
	end.Op, end.K = uint16(b.end.op), b.end.k
	if b.leaf() {
		return
	}
	extra := 0
	branch := func(to *block, long *bool) uint8 {
		d := to.offset - at - 1
		switch {
		case d < 256:
			return uint8(d)
		case !*long:
			*long, a.again = true, true
			return 0
		}
		extra++
		a.prog[at+extra] = Instruction{Op: opJA, K: uint32(d - extra)}
		return uint8(extra - 1)
	}
	end.Jt = branch(b.t.succ, &b.longT)
	end.Jf = branch(b.f.succ, &b.longF)
}
