package filter

// peephole simplifies short sequences of statements and the comparison at the end of b.
func (o *optimizer) peephole(b *block) {
	if len(b.stmts) == 0 {
		return
	}
	last := b.stmts[0]
	for i := liveIndex(b.stmts, 0); ; {
		next := liveIndex(b.stmts, i+1)
		if next >= len(b.stmts) {
			break
		}
		last = b.stmts[next]
		o.pair(b, i, next)
		i = liveIndex(b.stmts, next)
	}
	o.compareWithout(b, last)
	o.decide(b)
}

// liveIndex returns the index of the first statement from i on that was not removed.
func liveIndex(stmts []*stmt, i int) int {
	for i < len(stmts) && stmts[i].op == removed {
		i++
	}
	return i
}

// pair looks at two statements and, for a load with a constant index, those that follow.
func (o *optimizer) pair(b *block, i, next int) {
	s, n := b.stmts[i], b.stmts[next]
	if s.op == classST && n.op == opMemX && s.k == n.k {
		n.op = opTax
		o.changed()
	}
	if s.op == opImm && n.op == opTax {
		s.op, n.op = opImmX, opTxa
		o.changed()
	}
	if s.op != opImm || b.outUse.has(regX) {
		return
	}
	// ld #k; [ldxms]; add x; tax; ld [x+m]  ->  [ldxms]; ld [x+m+k]
	add := next
	if n.op == opMSH {
		add = liveIndex(b.stmts, next+1)
	}
	if !isOp(b.stmts, add, classALU|aluADD|srcX) {
		return
	}
	tax := liveIndex(b.stmts, add+1)
	if !isOp(b.stmts, tax, opTax) {
		return
	}
	ld := liveIndex(b.stmts, tax+1)
	if ld >= len(b.stmts) || opClass(b.stmts[ld].op) != classLD || opMode(b.stmts[ld].op) != modeIND {
		return
	}
	b.stmts[ld].k += s.k
	s.op, b.stmts[add].op, b.stmts[tax].op = removed, removed, removed
	o.changed()
}

func isOp(stmts []*stmt, i, op int) bool { return i < len(stmts) && stmts[i].op == op }

// compareWithout does without an operation before a test for equality.
func (o *optimizer) compareWithout(b *block, last *stmt) {
	if b.end.op != classJMP|jmpJEQ|srcK || b.outUse.has(regA) {
		return
	}
	switch last.op {
	case classALU | aluSUB | srcX:
		if x, ok := o.values.constant[b.val[regX]]; ok {
			b.end.k += x
		} else if b.end.k == 0 {
			b.end.op = classJMP | jmpJEQ | srcX
		} else {
			return
		}
	case classALU | aluSUB | srcK:
		b.end.k += last.k
	case classALU | aluAND | srcK:
		if b.end.k != 0 {
			return
		}
		b.end.k = last.k
		b.end.op = classJMP | jmpJSET | srcK
		b.t.succ, b.f.succ = b.f.succ, b.t.succ
	default:
		return
	}
	last.op = removed
	o.changed()
}

// decide compares with a constant instead of X, and not at all if the result is known.
func (o *optimizer) decide(b *block) {
	if b.end.op == classJMP|jmpJSET|srcK {
		switch b.end.k {
		case 0:
			b.t.succ = b.f.succ
		case 0xffffffff:
			b.f.succ = b.t.succ
		}
	}
	if x, ok := o.values.constant[b.val[regX]]; ok && opSrc(b.end.op) == srcX {
		b.end.op &^= srcX
		b.end.k = x
	}
	a, ok := o.values.constant[b.val[regA]]
	if !ok || opSrc(b.end.op) != srcK {
		return
	}
	var result bool
	switch opALU(b.end.op) {
	case jmpJEQ:
		result = a == b.end.k
	case jmpJGT:
		result = a > b.end.k
	case jmpJGE:
		result = a >= b.end.k
	case jmpJSET:
		result = a&b.end.k != 0
	}
	if b.t.succ != b.f.succ {
		o.changed()
	}
	if result {
		b.f.succ = b.t.succ
	} else {
		b.t.succ = b.f.succ
	}
}
