package filter

// values numbers what statements compute: the same number means the same value. 0 is a value that nothing is known of.
type values struct {
	numbers  map[expression]int
	constant map[int]uint32 // the numbers that are constants
}

// expression is an operation on values.
type expression struct {
	op   int
	a, b uint32
}

func (v *values) reset() {
	v.numbers = make(map[expression]int)
	v.constant = make(map[int]uint32)
}

func (v *values) number(op int, a, b uint32) int {
	e := expression{op, a, b}
	n, ok := v.numbers[e]
	if !ok {
		n = len(v.numbers) + 1
		v.numbers[e] = n
		if op == opImm {
			v.constant[n] = a
		}
	}
	return n
}

func (v *values) constantNumber(k uint32) int { return v.number(opImm, k, 0) }

// block optimizes one block; its predecessors are done.
func (o *optimizer) block(b *block, statements bool) {
	o.inherit(b)
	a, x := b.val[regA], b.val[regX]
	for _, s := range b.stmts {
		o.statement(s, &b.val, statements)
	}
	unused := b.outUse == 0 && a != 0 && b.val[regA] == a && x != 0 && b.val[regX] == x
	if statements && (unused || opClass(b.end.op) == classRET) {
		if len(b.stmts) > 0 {
			b.stmts = nil
			o.changed()
		}
	} else {
		o.peephole(b)
		o.deadStores(b)
	}
	if opSrc(b.end.op) == srcK {
		b.oval = o.values.constantNumber(b.end.k)
	} else {
		b.oval = b.val[regX]
	}
	b.t.op = b.end.op
	b.f.op = -b.end.op
}

// inherit sets the values at the beginning of b to those in which its predecessors agree.
func (o *optimizer) inherit(b *block) {
	if b.in == nil {
		b.val = [numAtoms]int{}
		return
	}
	b.val = b.in.pred.val
	for e := b.in.next; e != nil; e = e.next {
		for i := range b.val {
			if b.val[i] != e.pred.val[i] {
				b.val[i] = 0
			}
		}
	}
}

// set gives a register a value; the statement is removed if it has it already.
func set(s *stmt, val *int, n int, alter bool) {
	if alter && n != 0 && *val == n {
		s.op = removed
	} else {
		*val = n
	}
}

// statement notes in val what s does and, if alter is set, simplifies it.
func (o *optimizer) statement(s *stmt, val *[numAtoms]int, alter bool) {
	v := &o.values
	switch s.op {
	case removed:
	case classLD | modeABS | sizeW, classLD | modeABS | sizeH, classLD | modeABS | sizeB:
		set(s, &val[regA], v.number(s.op, s.k, 0), alter)
	case classLD | modeIND | sizeW, classLD | modeIND | sizeH, classLD | modeIND | sizeB:
		if x, ok := v.constant[val[regX]]; ok && alter {
			s.op = classLD | modeABS | opSize(s.op)
			s.k += x
			o.changed()
			set(s, &val[regA], v.number(s.op, s.k, 0), alter)
			return
		}
		set(s, &val[regA], v.number(s.op, s.k, uint32(val[regX])), alter)
	case opLen:
		set(s, &val[regA], v.number(s.op, 0, 0), alter)
	case opImm:
		set(s, &val[regA], v.constantNumber(s.k), alter)
	case opImmX:
		set(s, &val[regX], v.constantNumber(s.k), alter)
	case opMSH:
		set(s, &val[regX], v.number(s.op, s.k, 0), alter)
	case opNeg:
		if a, ok := v.constant[val[regA]]; ok && alter {
			s.op, s.k = opImm, -a
			val[regA] = v.constantNumber(s.k)
			return
		}
		val[regA] = v.number(s.op, uint32(val[regA]), 0)
	case opTxa:
		set(s, &val[regA], val[regX], alter)
	case opTax:
		set(s, &val[regX], val[regA], alter)
	case opMem:
		o.fromMemory(s, opImm, &val[regA], val[s.k], alter)
	case opMemX:
		o.fromMemory(s, opImmX, &val[regX], val[s.k], alter)
	case classST:
		set(s, &val[s.k], val[regA], alter)
	case classSTX:
		set(s, &val[s.k], val[regX], alter)
	default:
		if opSrc(s.op) == srcX {
			o.computeX(s, val, alter)
		} else {
			o.computeK(s, val, alter)
		}
	}
}

// fromMemory makes of a load from memory one of a constant, where memory holds one.
func (o *optimizer) fromMemory(s *stmt, imm int, val *int, n int, alter bool) {
	if k, ok := o.values.constant[n]; ok && alter {
		s.op, s.k = imm, k
		o.changed()
	}
	set(s, val, n, alter)
}

// computeK handles A = A op k.
func (o *optimizer) computeK(s *stmt, val *[numAtoms]int, alter bool) {
	v := &o.values
	op := opALU(s.op)
	if alter && s.k == 0 {
		switch op {
		case aluADD, aluLSH, aluRSH, aluOR, aluXOR:
			s.op = removed
			return
		case aluMUL, aluAND:
			s.op = opImm
			val[regA] = v.constantNumber(0)
			return
		case aluDIV, aluMOD:
			panic(optError("division by 0"))
		}
	}
	if a, ok := v.constant[val[regA]]; ok && alter {
		o.fold(s, a, s.k)
		val[regA] = v.constantNumber(s.k)
		return
	}
	val[regA] = v.number(s.op, uint32(val[regA]), uint32(v.constantNumber(s.k)))
}

// computeX handles A = A op X.
func (o *optimizer) computeX(s *stmt, val *[numAtoms]int, alter bool) {
	v := &o.values
	op := opALU(s.op)
	a, constA := v.constant[val[regA]]
	x, constX := v.constant[val[regX]]
	switch {
	case alter && constX && constA:
		o.fold(s, a, x)
		val[regA] = v.constantNumber(s.k)
		return
	case alter && constX:
		s.op, s.k = classALU|srcK|op, x
		if (op == aluLSH || op == aluRSH) && x > 31 {
			panic(optError("shift by more than 31 bits"))
		}
		o.changed()
		val[regA] = v.number(s.op, uint32(val[regA]), uint32(v.constantNumber(s.k)))
		return
	case alter && constA && a == 0:
		switch op {
		case aluADD, aluOR, aluXOR:
			s.op = opTxa
			set(s, &val[regA], val[regX], alter)
			return
		case aluMUL, aluDIV, aluMOD, aluAND, aluLSH, aluRSH:
			s.op, s.k = opImm, 0
			set(s, &val[regA], v.constantNumber(0), alter)
			return
		}
	}
	val[regA] = v.number(s.op, uint32(val[regA]), uint32(val[regX]))
}

// fold replaces an operation on constants by its result.
func (o *optimizer) fold(s *stmt, a, b uint32) {
	r, ok := arithmetic(opALU(s.op), a, b)
	if !ok {
		panic(optError("division by 0"))
	}
	s.op, s.k = opImm, r
	o.changed()
}

// deadStores removes the statements of a block whose result is overwritten or not used after it.
func (o *optimizer) deadStores(b *block) {
	var last [numAtoms]*stmt
	look := func(s *stmt) {
		switch r := s.uses(); r {
		case regNone:
		case regAX:
			last[regA], last[regX] = nil, nil
		default:
			last[r] = nil
		}
		if r := s.sets(); r != regNone {
			if last[r] != nil {
				o.changed()
				last[r].op = removed
			}
			last[r] = s
		}
	}
	for _, s := range b.stmts {
		look(s)
	}
	look(&b.end)
	for r, s := range last {
		if s != nil && !b.outUse.has(r) {
			// b.val keeps the value that r does not hold any more: so does libpcap 1.10.3 (later ones do not).
			s.op = removed
			o.changed()
		}
	}
}
