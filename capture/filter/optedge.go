package filter

import (
	"encoding/binary"
	"slices"
)

func (b *block) ifTrue() **block  { return &b.t.succ }
func (b *block) ifFalse() **block { return &b.f.succ }

// conflict reports whether a register that is used after succ differs at its end from what it is at the end of b.
func conflict(b, succ *block) bool {
	for r := range numAtoms {
		if succ.outUse.has(r) && b.val[r] != succ.val[r] {
			return true
		}
	}
	return false
}

// known returns where child leads if one came by the edge e: nil if that is not known.
func known(child *block, e *edge) *block {
	op, taken := e.op, true
	if op < 0 {
		op, taken = -op, false
	}
	switch {
	case child.end.op != op || child.val[regA] != e.pred.val[regA]:
		return nil
	case child.oval == e.pred.oval && taken:
		return child.t.succ
	case child.oval == e.pred.oval:
		return child.f.succ
	case taken && op == classJMP|jmpJEQ|srcK:
		return child.f.succ // A is another constant
	}
	return nil
}

// moveEdge lets e go past blocks whose result the way to e decides.
func (o *optimizer) moveEdge(e *edge) {
	if e.succ.leaf() {
		return
	}
	if e.succ.t.succ == e.succ.f.succ && !conflict(e.pred, e.succ.t.succ) {
		o.changed()
		e.succ = e.succ.t.succ
	}
	for again := true; again; {
		again = false
		e.dom.members(func(i int) bool {
			target := known(e.succ, o.edges[i])
			if target == nil || conflict(e.pred, target) {
				return true
			}
			o.done = false
			e.succ = target
			again = !target.leaf()
			return false
		})
	}
}

// pullUp moves, in a chain of comparisons that b begins and whose edges same lead to one block, a comparison of the
// value that A has before b up past those of other values: equal loads come together. along are the chain's edges.
func (o *optimizer) pullUp(b *block, same, along func(*block) **block) {
	if b.in == nil {
		return
	}
	a := b.in.pred.val[regA]
	for e := b.in.next; e != nil; e = e.next {
		if e.pred.val[regA] != a {
			return
		}
	}
	other := b.in.pred.ifFalse()
	if b.in.pred.t.succ == b {
		other = b.in.pred.ifTrue()
	}
	// chained reports whether the chain still goes on at p.
	chained := func(p *block) bool {
		return p != nil && *same(p) == *same(b) && p.dom.has(b.id)
	}
	top := true
	for {
		if !chained(*other) {
			return
		}
		if (*other).val[regA] != a {
			break
		}
		other = along(*other)
		top = false
	}
	pulled := along(*other)
	for {
		if !chained(*pulled) {
			return
		}
		if (*pulled).val[regA] == a {
			break
		}
		pulled = along(*pulled)
	}
	p := *pulled
	*pulled = *along(p)
	*along(p) = *other
	if top {
		for e := b.in; e != nil; e = e.next {
			if e.pred.t.succ == b {
				e.pred.t.succ = p
			} else {
				e.pred.f.succ = p
			}
		}
	} else {
		*other = p
	}
	o.done = false // the dominators stay as they were before, as in libpcap 1.10.3 (not in later ones)
}

// shareBlocks lets equal blocks be one.
func (o *optimizer) shareBlocks() {
	for again := true; again; {
		again = false
		for _, b := range o.blocks {
			b.link = nil
		}
		o.unmarkAll()
		o.markReachable(o.root)
		o.linkEqual()
		for _, b := range o.blocks {
			if b.leaf() {
				continue
			}
			for _, e := range []*edge{&b.t, &b.f} {
				if e.succ.link != nil {
					e.succ = e.succ.link
					again = true
				}
			}
		}
	}
}

func (o *optimizer) markReachable(b *block) {
	if o.visit(b) {
		o.markReachable(b.t.succ)
		o.markReachable(b.f.succ)
	}
}

// contents are what two blocks must have in common to be equal.
type contents struct {
	op    int
	k     uint32
	t, f  *block
	stmts string // op and k of each
}

// linkEqual links each reachable block to the last of the later ones that are equal.
func (o *optimizer) linkEqual() {
	seen := make(map[contents]*block)
	for _, b := range slices.Backward(o.blocks) {
		if b.mark != o.mark {
			continue
		}
		c := b.contents()
		if last, ok := seen[c]; ok {
			b.link = last
		} else {
			seen[c] = b
		}
	}
}

func (b *block) contents() contents {
	var stmts []byte
	for _, s := range b.stmts {
		if s.op != removed {
			stmts = binary.BigEndian.AppendUint32(append(stmts, byte(s.op)), s.k)
		}
	}
	return contents{b.end.op, b.end.k, b.t.succ, b.f.succ, string(stmts)}
}

// skipRoot lets the program begin with the first block that decides something.
func (o *optimizer) skipRoot() {
	b := o.root
	stmts := b.stmts
	b.stmts = nil
	for opClass(b.end.op) == classJMP && b.t.succ == b.f.succ {
		b = b.t.succ
	}
	b.stmts = append(stmts, b.stmts...)
	if opClass(b.end.op) == classRET {
		b.stmts = nil
	}
	o.root = b
}
