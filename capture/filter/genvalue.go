package filter

import "fmt"

// computed is a computation: stmts leave its result in the register reg, if check, unless it is nil, is true.
type computed struct {
	stmts []*stmt
	check *block
	reg   int
}

func (g *generator) value(v value) *computed {
	switch v := v.(type) {
	case *constant:
		g.pos = v.position()
		return g.loaded(newStmt(opImm, v.n))
	case *frameLen:
		g.pos = v.position()
		return g.loaded(newStmt(opLen, 0))
	case *negative:
		n := g.value(v.x)
		n.stmts = append(n.stmts, newStmt(opMem, uint32(n.reg)), newStmt(opNeg, 0), newStmt(classST, uint32(n.reg)))
		return n
	case *computation:
		l := g.value(v.l)
		r := g.value(v.r)
		g.pos = v.position()
		return g.compute(v.op, l, r)
	case *load:
		index := g.value(v.index)
		g.pos = v.position()
		return g.load(v, index)
	}
	panic(fmt.Sprintf("filter: no code for %T", v))
}

// loaded stores what s loads in a register.
func (g *generator) loaded(s *stmt) *computed {
	r := g.allocReg()
	return &computed{stmts: []*stmt{s, newStmt(classST, uint32(r))}, reg: r}
}

func (g *generator) compute(op int, l, r *computed) *computed {
	if first := r.stmts[0]; first.op == opImm {
		switch {
		case first.k == 0 && (op == aluDIV || op == aluMOD):
			g.failf("division by zero")
		case first.k > 31 && (op == aluLSH || op == aluRSH):
			g.failf("shift by more than 31 bits")
		}
	}
	l.stmts = append(l.stmts, r.stmts...)
	l.stmts = append(l.stmts, newStmt(opMemX, uint32(r.reg)), newStmt(opMem, uint32(l.reg)), newStmt(classALU|srcX|op, 0))
	g.freeReg(l.reg)
	g.freeReg(r.reg)
	l.reg = g.allocReg()
	l.stmts = append(l.stmts, newStmt(classST, uint32(l.reg)))
	// libpcap forgets the right one's check here.
	return l
}

func (g *generator) relation(n *relation) *block {
	l := g.value(n.l)
	r := g.value(n.r)
	g.pos = n.position()
	s := append(l.stmts, r.stmts...)
	s = append(s, newStmt(opMemX, uint32(r.reg)), newStmt(opMem, uint32(l.reg)))
	var b *block
	if n.op == jmpJEQ {
		b = g.block(classJMP|jmpJEQ, 0, append(s, newStmt(classALU|aluSUB|srcX, 0))...)
	} else {
		b = g.block(classJMP|srcX|n.op, 0, s...)
	}
	if n.negate {
		negate(b)
	}
	g.freeReg(l.reg)
	g.freeReg(r.reg)
	check := l.check
	switch {
	case check == nil:
		check = r.check
	case r.check != nil:
		check = both(check, r.check)
	}
	if check != nil {
		and(check, b)
	}
	return b
}

// load makes of the index n the bytes there, and adds the check that the frame carries the protocol.
func (g *generator) load(v *load, n *computed) *computed {
	size, ok := map[uint32]int{1: sizeB, 2: sizeH, 4: sizeW}[v.size]
	reg := g.allocReg()
	g.freeReg(n.reg)
	if !ok {
		g.failf("data size must be 1, 2, or 4")
	}
	switch v.proto {
	case protoLink:
		g.loadIndexed(n, &g.linkHdr, 0, size)
	case protoIP, protoARP, protoRARP, protoATALK, protoDECnet, protoSCA, protoLAT, protoMOPRC, protoMOPDL, protoIP6:
		g.loadIndexed(n, &g.linkPayload, g.nl, size)
		n.require(g.protocol(v.proto))
	case protoSCTP, protoTCP, protoUDP, protoICMP, protoIGMP, protoIGRP, protoPIM, protoVRRP, protoCARP:
		n.stmts = append(n.stmts, g.loadXHeaderLen()...)
		n.stmts = append(n.stmts, newStmt(opMem, uint32(n.reg)), newStmt(classALU|aluADD|srcX, 0), newStmt(opTax, 0),
			newStmt(classLD|modeIND|size, g.linkPayload.base+g.nl))
		b := both(g.protocol(v.proto), g.firstFragment())
		if n.check != nil {
			and(n.check, b)
		}
		and(g.protocol(protoIP), b)
		n.check = b
	case protoICMP6:
		n.require(g.protocol(protoIP6))
		n.require(g.equal(fromPayload, 6, sizeB, ipICMP6))
		g.loadIndexed(n, &g.linkPayload, g.nl+40, size)
	case protoRadio:
		g.failf("radio information not present in capture")
	default:
		g.failf("unsupported index operation: %v cannot be indexed", v.proto)
	}
	n.reg = reg
	n.stmts = append(n.stmts, newStmt(classST, uint32(reg)))
	return n
}

// require adds b to the number's check.
func (n *computed) require(b *block) {
	if n.check != nil {
		and(n.check, b)
	}
	n.check = b
}

// loadIndexed loads size bytes at o plus off plus the index.
func (g *generator) loadIndexed(n *computed, o *offset, off uint32, size int) {
	if s := g.loadXVariable(o); s != nil {
		n.stmts = append(n.stmts, s...)
		n.stmts = append(n.stmts, newStmt(opMem, uint32(n.reg)), newStmt(classALU|aluADD|srcX, 0), newStmt(opTax, 0))
	} else {
		n.stmts = append(n.stmts, newStmt(opMemX, uint32(n.reg)))
	}
	n.stmts = append(n.stmts, newStmt(classLD|modeIND|size, o.base+off))
}
