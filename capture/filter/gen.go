package filter

import "fmt"

// maxBlocks bounds the graph, and with it the time that compiling takes.
const maxBlocks = 4096

// generator makes the flow graph. What it does in which order is what libpcap's gencode.c does, as the order of tests
// decides which loads a frame has to bear.
type generator struct {
	layout
	origin Origin

	pos     int // of the node that is being generated
	blocks  int
	regUsed [memWords]bool
	reg     int // where the search for a free register begins

	noOptimize bool // not wanted, or the program has jumps that the optimizer does not understand
}

func generate(expr string, tree node, l layout, o Options) (prog []Instruction, err error) {
	defer caught(expr, true, &err)
	if tree == nil {
		return []Instruction{{Op: opRetK, K: snapLen}}, nil
	}
	g := &generator{layout: l, origin: o.Origin, noOptimize: o.NoOptimize}
	b := g.node(tree)
	g.initVLANOffsets(b.head)
	flow := &graph{}
	flow.close(b)
	g.pos = 0
	if !g.noOptimize {
		if msg := optimize(flow); msg != "" {
			g.failf("%s", msg)
		}
		if flow.root.end.op == opRetK && flow.root.end.k == 0 {
			g.failf("expression rejects all packets")
		}
	}
	prog = assemble(flow)
	if err := verifyLoops(prog); err != nil {
		g.failf("%v", err)
	}
	return prog, nil
}

func (g *generator) failf(format string, args ...any) {
	failf(g.pos, "%s", fmt.Sprintf(format, args...))
}

func (g *generator) node(n node) *block {
	g.pos = n.position()
	if g.blocks > maxBlocks {
		g.failf("the expression is too long from here on")
	}
	switch n := n.(type) {
	case *logic:
		l := g.node(n.l)
		r := g.node(n.r)
		if n.and {
			and(l, r)
		} else {
			or(l, r)
		}
		return r
	case *not:
		b := g.node(n.x)
		negate(b)
		return b
	case *operand:
		return g.operand(n)
	case *protocol:
		return g.protocol(n.proto)
	case *relation:
		return g.relation(n)
	case *cast:
		if n.multicast {
			return g.multicast(n.proto)
		}
		return g.broadcast(n.proto)
	case *lengthTest:
		b := g.block(classJMP|jmpJGE, n.n, newStmt(opLen, 0))
		if !n.greater {
			b.end.op = classJMP | jmpJGT
			negate(b)
		}
		return b
	case *byteTest:
		return g.byteTest(n)
	case *llc:
		return g.llcFrame(n.frame)
	case *plain:
		return g.plain(n)
	}
	panic(fmt.Sprintf("filter: no code for %T", n))
}

func (g *generator) plain(n *plain) *block {
	switch n.word {
	case "inbound":
		return g.inbound(true)
	case "outbound":
		return g.inbound(false)
	case "ifindex":
		return g.ifindex(n.n)
	case "vlan":
		return g.vlan(n.n, n.hasN)
	case "mpls":
		return g.mpls(n.n, n.hasN)
	case "pppoed":
		return g.isType(etherPPPoED)
	case "pppoes":
		return g.pppoes(n.n, n.hasN)
	}
	return g.genevePort(n.n, n.hasN)
}

func (g *generator) block(op int, k uint32, stmts ...*stmt) *block {
	g.blocks++
	return newBlock(op, k, stmts...)
}

func newStmt(op int, k uint32) *stmt { return &stmt{op: op, k: k} }

// allocReg returns a free word of scratch memory.
func (g *generator) allocReg() int {
	for range memWords {
		if !g.regUsed[g.reg] {
			g.regUsed[g.reg] = true
			return g.reg
		}
		g.reg = (g.reg + 1) % memWords
	}
	g.failf("the computation needs more than %d registers", memWords)
	panic("unreachable")
}

func (g *generator) freeReg(r int) { g.regUsed[r] = false }

// base is what an offset is relative to.
type base int

const (
	fromLinkHdr       base = iota
	fromPrevMPLS           // the MPLS header before the payload
	fromLLC                // the LLC header
	fromPayload            // the network header
	fromPayloadNoSNAP      // the network header in a frame without SNAP
	fromLinkType
	fromTransport4 // behind an IPv4 header with its options
	fromTransport6 // behind an IPv6 header
)

// loadA loads size bytes at off from b into A.
func (g *generator) loadA(b base, off uint32, size int) []*stmt {
	switch b {
	case fromLinkHdr:
		return g.loadAt(&g.linkHdr, off, size)
	case fromPrevMPLS:
		return g.loadAt(&g.linkPayload, g.nl-4+off, size)
	case fromLLC:
		return g.loadAt(&g.linkPayload, off, size)
	case fromPayload:
		return g.loadAt(&g.linkPayload, g.nl+off, size)
	case fromPayloadNoSNAP:
		return g.loadAt(&g.linkPayload, g.nlNoSNAP+off, size)
	case fromLinkType:
		return g.loadAt(&g.linkType, off, size)
	case fromTransport4:
		return append(g.loadXHeaderLen(), newStmt(classLD|modeIND|size, g.linkPayload.base+g.nl+off))
	case fromTransport6:
		return g.loadAt(&g.linkPayload, g.nl+40+off, size)
	}
	panic("filter: no such base")
}

// loadAt loads size bytes at off from o into A.
func (g *generator) loadAt(o *offset, off uint32, size int) []*stmt {
	if s := g.loadXVariable(o); s != nil {
		return append(s, newStmt(classLD|modeIND|size, o.base+off))
	}
	return []*stmt{newStmt(classLD|modeABS|size, o.base+off)}
}

// loadXVariable loads the variable part of o into X; nil if it has none.
func (g *generator) loadXVariable(o *offset) []*stmt {
	if !o.variable {
		return nil
	}
	if o.reg == noReg {
		o.reg = g.allocReg()
	}
	return []*stmt{newStmt(opMemX, uint32(o.reg))}
}

// loadXHeaderLen loads the length of the IPv4 header and the variable part of its offset into X.
func (g *generator) loadXHeaderLen() []*stmt {
	hdr := g.linkPayload.base + g.nl
	if s := g.loadXVariable(&g.linkPayload); s != nil {
		return append(s,
			newStmt(classLD|modeIND|sizeB, hdr),
			newStmt(classALU|aluAND|srcK, 0xf),
			newStmt(classALU|aluLSH|srcK, 2),
			newStmt(classALU|aluADD|srcX, 0),
			newStmt(opTax, 0))
	}
	return []*stmt{newStmt(opMSH, hdr)}
}

// always and never are blocks that are true or false for all frames.
func (g *generator) always() *block { return g.block(classJMP|jmpJEQ, 0, newStmt(opImm, 0)) }
func (g *generator) never() *block  { return g.block(classJMP|jmpJEQ, 0, newStmt(opImm, 1)) }

func (g *generator) constant(v bool) *block {
	if v {
		return g.always()
	}
	return g.never()
}

func (g *generator) compare(jump int, b base, off uint32, size int, v uint32) *block {
	return g.block(classJMP|jump, v, g.loadA(b, off, size)...)
}

func (g *generator) equal(b base, off uint32, size int, v uint32) *block {
	return g.compare(jmpJEQ, b, off, size, v)
}

// equalMasked tests whether the bits of mask are those of v.
func (g *generator) equalMasked(b base, off uint32, size int, v, mask uint32) *block {
	s := g.loadA(b, off, size)
	if mask != 0xffffffff {
		s = append(s, newStmt(classALU|aluAND|srcK, mask))
	}
	return g.block(classJMP|jmpJEQ, v, s...)
}

// bitSet tests whether any bit of mask is set.
func (g *generator) bitSet(b base, off uint32, size int, mask uint32) *block {
	return g.compare(jmpJSET, b, off, size, mask)
}

// equalBytes compares from the end: it is there that addresses differ.
func (g *generator) equalBytes(b base, off uint32, v []byte) *block {
	var all *block
	add := func(n, size int) {
		var k uint32
		for _, c := range v[len(v)-n:] {
			k = k<<8 | uint32(c)
		}
		v = v[:len(v)-n]
		one := g.equal(b, off+uint32(len(v)), size, k)
		if all != nil {
			and(all, one)
		}
		all = one
	}
	for len(v) >= 4 {
		add(4, sizeW)
	}
	for len(v) >= 2 {
		add(2, sizeH)
	}
	return all
}

// anyOf is the disjunction in the order that libpcap tests it: the first two, then each further one before them.
func anyOf(first *block, more ...*block) *block {
	for i, b := range more {
		if i == 0 {
			or(first, b)
			first = b
		} else {
			or(b, first)
		}
	}
	return first
}

// both is the conjunction, b0 first.
func both(b0, b1 *block) *block {
	and(b0, b1)
	return b1
}
