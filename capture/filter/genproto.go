package filter

// NLPIDs (ISO/IEC TR 9577) and PDU types of IS-IS (ISO 10589).
const (
	nlpidCLNP = 0x81
	nlpidESIS = 0x82
	nlpidISIS = 0x83

	isisL1Hello = 15
	isisL2Hello = 16
	isisPTP     = 17
	isisL1LSP   = 18
	isisL2LSP   = 20
	isisL1CSNP  = 24
	isisL2CSNP  = 25
	isisL1PSNP  = 26
	isisL2PSNP  = 27
)

// linkTypes are the protocols that a type of the link layer means.
var linkTypes = map[proto]uint32{
	protoIP: etherIP, protoIP6: etherIP6, protoARP: etherARP, protoRARP: etherRARP, protoATALK: etherATALK, protoAARP: etherAARP,
	protoDECnet: etherDECnet, protoSCA: etherSCA, protoLAT: etherLAT, protoMOPDL: etherMOPDL, protoMOPRC: etherMOPRC,
	protoISO: sapISO, protoSTP: sapSTP, protoIPX: sapIPX, protoNetBEUI: sapNetBEUI,
}

// carried are the protocols that a number in another protocol's header means.
var carried = map[proto]struct {
	by     proto
	number uint32
}{
	protoSCTP: {protoDefault, ipSCTP}, protoTCP: {protoDefault, ipTCP}, protoUDP: {protoDefault, ipUDP}, protoPIM: {protoDefault, ipPIM},
	protoAH: {protoDefault, ipAH}, protoESP: {protoDefault, ipESP}, protoICMP: {protoIP, ipICMP}, protoIGMP: {protoIP, ipIGMP},
	protoIGRP: {protoIP, ipIGRP}, protoVRRP: {protoIP, ipVRRP}, protoCARP: {protoIP, ipVRRP}, protoICMP6: {protoIP6, ipICMP6},
	protoESIS: {protoISO, nlpidESIS}, protoISIS: {protoISO, nlpidISIS}, protoCLNP: {protoISO, nlpidCLNP},
}

// isisTypes are the PDU types that an abbreviation stands for.
var isisTypes = map[proto][]uint32{
	protoISISL1:   {isisL1Hello, isisPTP, isisL1LSP, isisL1CSNP, isisL1PSNP},
	protoISISL2:   {isisL2Hello, isisPTP, isisL2LSP, isisL2CSNP, isisL2PSNP},
	protoISISIIH:  {isisL1Hello, isisL2Hello, isisPTP},
	protoISISLSP:  {isisL1LSP, isisL2LSP},
	protoISISSNP:  {isisL1CSNP, isisL2CSNP, isisL1PSNP, isisL2PSNP},
	protoISISCSNP: {isisL1CSNP, isisL2CSNP},
	protoISISPSNP: {isisL1PSNP, isisL2PSNP},
}

// protocol tests for a protocol that stands alone.
func (g *generator) protocol(p proto) *block {
	if typ, ok := linkTypes[p]; ok {
		return g.isType(typ)
	}
	if c, ok := carried[p]; ok {
		return g.carries(c.number, c.by)
	}
	if types, ok := isisTypes[p]; ok {
		var tests []*block
		for _, t := range types {
			tests = append(tests, g.carries(t, protoISIS))
		}
		return anyOf(tests[0], tests[1:]...)
	}
	g.failf(`link layer applied in wrong context: "%v" cannot stand alone`, p)
	panic("unreachable")
}

// carries tests whether the header of p says that v follows.
func (g *generator) carries(v uint32, p proto) *block {
	switch p {
	case protoDefault:
		b4 := g.carries(v, protoIP)
		b6 := g.carries(v, protoIP6)
		or(b4, b6)
		return b6
	case protoLink:
		return g.isType(v)
	case protoIP:
		return both(g.isType(etherIP), g.equal(fromPayload, 9, sizeB, v))
	case protoIP6:
		ip6 := g.isType(etherIP6)
		b := both(g.equal(fromPayload, 6, sizeB, ip6Fragment), g.equal(fromPayload, 40, sizeB, v))
		or(g.equal(fromPayload, 6, sizeB, v), b)
		return both(ip6, b)
	case protoISO:
		return both(g.isType(sapISO), g.equal(fromPayloadNoSNAP, 0, sizeB, v))
	case protoISIS:
		return both(g.carries(nlpidISIS, protoISO), g.equal(fromPayloadNoSNAP, 4, sizeB, v))
	}
	g.failf("'%v proto' is bogus", p)
	panic("unreachable")
}

// tableName is what a table of protocols is called.
func tableName(by proto) string {
	switch by {
	case protoLink:
		return "ether"
	case protoISO:
		return "osi"
	}
	return "ip"
}

// protoByName looks a protocol up in the table of the one that carries it.
func (g *generator) protoByName(name string, by proto) uint32 {
	var v uint32
	var ok bool
	switch by {
	case protoDefault, protoIP, protoIP6:
		v, ok = ipProtoByName(name)
	case protoLink:
		v, ok = etherProtos[name]
	case protoISO:
		v, ok = isoProtos[name]
	default:
		g.failf("'%v proto' is bogus", by)
	}
	if !ok {
		g.failf("unknown %s proto '%s'", tableName(by), name)
	}
	return v
}

// etherProtos are the names that "ether proto" knows.
var etherProtos = map[string]uint32{
	"aarp": etherAARP, "arp": etherARP, "atalk": etherATALK, "decnet": etherDECnet, "ip": etherIP, "ip6": etherIP6, "lat": etherLAT,
	"loopback": etherLoopback, "mopdl": etherMOPDL, "moprc": etherMOPRC, "rarp": etherRARP, "sca": etherSCA,
	"iso": sapISO, "stp": sapSTP, "ipx": sapIPX, "netbeui": sapNetBEUI,
}

// isoProtos are the names that "iso proto" knows.
var isoProtos = map[string]uint32{"esis": nlpidESIS, "isis": nlpidISIS, "clnp": nlpidCLNP}

// protoChain tests whether v is anywhere in the chain of headers. The program loops: it cannot be optimized, and no
// kernel takes it.
func (g *generator) protoChain(v uint32, o *operand) *block {
	switch o.proto {
	case protoDefault:
		g.allocReg() // libpcap keeps one here that it does not use
		b4 := g.chain4(v)
		b6 := g.chain6(v)
		or(b4, b6)
		return b6
	case protoIP:
		return g.chain4(v)
	case protoIP6:
		return g.chain6(v)
	}
	g.failf("bad protocol applied for 'protochain': it goes with ip and ip6 only")
	panic("unreachable")
}

// chain is a list of statements with jumps among them.
type chain []*stmt

func (c *chain) add(op int, k uint32) *stmt {
	s := newStmt(op, k)
	*c = append(*c, s)
	return s
}

// branch appends a jump if A is k; if not it goes to the statement that is added next.
func (c *chain) branch(k uint32) *stmt { return c.add(classJMP|jmpJEQ, k) }

// back appends a jump to the statement at index to.
func (c *chain) back(to int) {
	c.add(opJA, uint32(to-len(*c)-1))
}

func (g *generator) chain4(v uint32) *block {
	hdr := g.startChain()
	ip := g.isType(etherIP)
	var c chain
	c.add(classLD|modeABS|sizeB, hdr+9)
	c.add(opMSH, hdr)
	again := len(c)
	found, end := c.branch(v), c.branch(ipNoNext)
	found.jf = end
	end.jf = c.add(classALU|aluADD|srcK, 0)
	return g.endChain(ip, c, again, hdr, v, found, end)
}

func (g *generator) chain6(v uint32) *block {
	hdr := g.startChain()
	ip6 := g.isType(etherIP6)
	var c chain
	c.add(classLD|modeABS|sizeB, hdr+6)
	c.add(opImmX, 40)
	again := len(c)
	found, end := c.branch(v), c.branch(ipNoNext)
	found.jf = end
	last := end
	var extensions []*stmt
	for _, k := range []uint32{ip6HopByHop, ip6DestOpts, ip6Routing, ip6Fragment} {
		b := c.branch(k)
		extensions = append(extensions, b)
		last.jf = b
		last = b
	}
	// A = next header, X += 8 * (length + 1)
	r := g.allocReg()
	next := c.add(classLD|modeIND|sizeB, hdr)
	for _, b := range extensions {
		b.jt = next
	}
	c.add(classST, uint32(r))
	c.add(classLD|modeIND|sizeB, hdr+1)
	c.add(classALU|aluADD|srcK, 1)
	c.add(classALU|aluMUL|srcK, 8)
	c.add(classALU|aluADD|srcX, 0)
	c.add(opTax, 0)
	c.add(opMem, uint32(r))
	c.back(again)
	g.freeReg(r)
	return g.endChain(ip6, c, again, hdr, v, found, end, last)
}

// startChain returns the offset of the network header.
func (g *generator) startChain() uint32 {
	if g.linkPayload.variable {
		g.failf("'protochain' not supported with variable length headers")
	}
	g.noOptimize = true
	return g.linkPayload.base + g.nl
}

// endChain appends the test for AH, which libpcap takes for four times its length plus two from the beginning of the
// network header. The jumps found go to the end; other ones than AH, too; those in toAH come from before.
func (g *generator) endChain(network *block, c chain, again int, hdr, v uint32, found, end *stmt, toAH ...*stmt) *block {
	r := uint32(g.allocReg())
	ah := c.branch(ipAH)
	for _, s := range toAH {
		s.jf = ah
	}
	ah.jt = c.add(opTxa, 0)
	c.add(classLD|modeIND|sizeB, hdr)
	c.add(classST, r)
	c.add(opTxa, 0)
	c.add(classALU|aluADD|srcK, 1)
	c.add(opTax, 0)
	c.add(classLD|modeIND|sizeB, hdr)
	c.add(classALU|aluADD|srcK, 2)
	c.add(classALU|aluMUL|srcK, 4)
	c.add(opTax, 0)
	c.add(opMem, r)
	c.back(again)
	last := c.add(classALU|aluADD|srcK, 0)
	found.jt, end.jt, ah.jf = last, last, last
	g.freeReg(int(r))
	return both(network, g.block(classJMP|jmpJEQ, v, c...))
}
