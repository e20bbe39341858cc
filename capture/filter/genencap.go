package filter

// vlan tests for a VLAN tag, and moves what follows behind it.
func (g *generator) vlan(id uint32, hasID bool) *block {
	if g.labels > 0 {
		g.failf("no VLAN match after MPLS")
	}
	if g.link != Ethernet {
		g.failf("no VLAN support for %v", g.link)
	}
	if id > 0xfff {
		g.failf("VLAN tag %d greater than maximum 4095", id)
	}
	var b *block
	if g.origin == FromSocket && g.vlans == 0 && !g.linkHdr.variable {
		b = g.vlanOfSocket(id, hasID)
	} else {
		b = g.isVLAN()
		if hasID {
			b = both(b, g.hasVLANID(id))
		}
		g.linkPayload.base += 4
		g.linkType.base += 4
	}
	g.vlans++
	return b
}

func (g *generator) isVLAN() *block {
	b := g.isType(etherVLAN)
	for _, typ := range []uint32{etherQinQ, etherQinQOld} {
		next := g.isType(typ)
		or(b, next)
		b = next
	}
	return b
}

func (g *generator) hasVLANID(id uint32) *block {
	return g.equalMasked(fromPayload, 0, sizeH, id, 0x0fff)
}

// vlanOfSocket tests for a tag beside the bytes, then for one in them. Only the latter moves what follows, so the
// offsets become variable.
func (g *generator) vlanOfSocket(id uint32, hasID bool) *block {
	beside := g.metadata(adVLANTagPresent, sizeB, 1)
	inside := g.isVLAN()
	var idTest *block
	if hasID {
		idTest = g.hasVLANID(id)
	}
	g.vlanVariable = true
	var moved []*stmt
	for _, o := range []*offset{&g.linkPayload, &g.linkType} {
		o.variable = true
		if o.reg == noReg {
			o.reg = g.allocReg()
		}
		r := uint32(o.reg)
		moved = append(moved, newStmt(opMem, r), newStmt(classALU|aluADD|srcK, 4), newStmt(classST, r))
	}
	inside.head.stmts = append(moved, inside.head.stmts...)
	or(beside, inside)
	if !hasID {
		return inside
	}
	// The ID: from beside the bytes if the tag is there; the load from the bytes is jumped over then.
	fromBytes := idTest.stmts
	tag := newStmt(classLD|modeABS|sizeB, adVLANTag)
	present := newStmt(classJMP|jmpJEQ, 1)
	present.jt, present.jf = tag, fromBytes[0]
	idTest.stmts = append([]*stmt{newStmt(classLD|modeABS|sizeB, adVLANTagPresent), present, tag,
		newStmt(opJA, uint32(len(fromBytes)-1))}, fromBytes...)
	return both(inside, idTest)
}

// initVLANOffsets sets the variable parts of the offsets to 0 before anything else.
func (g *generator) initVLANOffsets(first *block) {
	if !g.vlanVariable {
		return
	}
	first.stmts = append([]*stmt{newStmt(opImm, 0), newStmt(classST, uint32(g.linkPayload.reg)), newStmt(classST, uint32(g.linkType.reg))},
		first.stmts...)
}

// mpls tests for an MPLS label, and moves what follows behind it.
func (g *generator) mpls(label uint32, hasLabel bool) *block {
	var b *block
	switch {
	case g.labels > 0:
		b = g.equalMasked(fromPrevMPLS, 2, sizeB, 0, 0x01) // not the bottom of the stack
	case g.link == Ethernet:
		b = g.isType(etherMPLS)
	case g.link == PPP:
		b = g.isType(pppMPLS)
	default:
		g.failf("no MPLS support for %v", g.link)
	}
	if hasLabel {
		if label > 0xfffff {
			g.failf("MPLS label %d greater than maximum 1048575", label)
		}
		b = both(b, g.equalMasked(fromPayload, 0, sizeW, label<<12, 0xfffff000))
	}
	g.nlNoSNAP += 4
	g.nl += 4
	g.labels++
	return b
}

// pppoes tests for a PPPoE session (RFC 2516), and moves what follows into it.
func (g *generator) pppoes(session uint32, hasSession bool) *block {
	b := g.isType(etherPPPoES)
	if hasSession {
		if session > 0xffff {
			g.failf("PPPoE session number %d greater than maximum 65535", session)
		}
		b = both(b, g.equalMasked(fromPayload, 0, sizeW, session, 0xffff))
	}
	hdr := g.linkPayload
	hdr.base += g.nl + 6
	g.push(PPP, hdr)
	g.linkType = g.linkHdr
	g.linkPayload.base = g.linkHdr.base + 2
	g.nl, g.nlNoSNAP = 0, 0
	return b
}

const genevePort = 6081 // RFC 8926

// genevePort tests for Geneve over IPv4 or IPv6, and moves what follows into it.
func (g *generator) genevePort(vni uint32, hasVNI bool) *block {
	b4 := g.geneve4(vni, hasVNI)
	b6 := g.geneve6(vni, hasVNI)
	or(b4, b6)
	s := g.geneveOffsets()
	inside := g.always()
	inside.stmts = append(s, inside.stmts...)
	and(b6, inside)
	g.geneve = true
	return inside
}

func (g *generator) isGeneve(port *block, transport base, vni uint32, hasVNI bool) *block {
	b := both(port, g.equalMasked(transport, 8, sizeB, 0, 0xc0)) // version 0
	if hasVNI {
		if vni > 0xffffff {
			g.failf("Geneve VNI %d greater than maximum 16777215", vni)
		}
		b = both(b, g.equalMasked(transport, 12, sizeW, vni<<8, 0xffffff00))
	}
	return b
}

// geneve4 leaves the length of the IP header in A and X: the comparison of both is always true.
func (g *generator) geneve4(vni uint32, hasVNI bool) *block {
	b := g.isGeneve(g.port4(g.portTest(genevePort, genevePort, false), ipUDP, dirDst), fromTransport4, vni, hasVNI)
	return both(b, g.block(classJMP|jmpJEQ|srcX, 0, append(g.loadXHeaderLen(), newStmt(opTxa, 0))...))
}

func (g *generator) geneve6(vni uint32, hasVNI bool) *block {
	b := g.isGeneve(g.port6(g.portTest(genevePort, genevePort, false), ipUDP, dirDst), fromTransport6, vni, hasVNI)
	s := g.loadXVariable(&g.linkPayload)
	variable := s != nil
	s = append(s, newStmt(opImm, 40))
	if variable {
		s = append(s, newStmt(classALU|aluADD|srcX, 0))
	}
	return both(b, g.block(classJMP|jmpJEQ|srcX, 0, append(s, newStmt(opTax, 0))...))
}

// geneveOffsets computes the offsets of what is inside from the length of the outer IP header, which is in A. Inside
// is an Ethernet frame, or a packet whose type is in the Geneve header.
func (g *generator) geneveOffsets() []*stmt {
	s := []*stmt{
		newStmt(classALU|aluADD|srcK, g.linkPayload.base+g.nl+8), // the Geneve header
		newStmt(opTax, 0),
		newStmt(classALU|aluADD|srcK, 2), // its type field
	}
	g.linkType = offset{variable: true, reg: g.allocReg()}
	s = append(s, newStmt(classST, uint32(g.linkType.reg)),
		newStmt(classLD|modeIND|sizeB, 0), // the length of its options, in words
		newStmt(classALU|aluAND|srcK, 0x3f),
		newStmt(classALU|aluMUL|srcK, 4),
		newStmt(classALU|aluADD|srcK, 8),
		newStmt(classALU|aluADD|srcX, 0))
	g.push(Ethernet, offset{variable: true, reg: g.allocReg()})
	g.noOptimize = true
	isEthernet := newStmt(classJMP|jmpJEQ, etherTEB)
	isEthernet.jt = newStmt(opTxa, 0)
	s = append(s, newStmt(classST, uint32(g.linkHdr.reg)),
		newStmt(classLD|modeIND|sizeH, 2),
		newStmt(opMemX, uint32(g.linkHdr.reg)),
		isEthernet, isEthernet.jt,
		newStmt(classALU|aluADD|srcK, 12),
		newStmt(classST, uint32(g.linkType.reg)),
		newStmt(classALU|aluADD|srcK, 2),
		newStmt(opTax, 0))
	g.linkPayload = offset{variable: true, reg: g.allocReg()}
	isEthernet.jf = newStmt(classSTX, uint32(g.linkPayload.reg))
	g.nl = 0
	return append(s, isEthernet.jf)
}
