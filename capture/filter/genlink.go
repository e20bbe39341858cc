package filter

import (
	"math/bits"
	"strings"
)

// Values of the type field: net/ethernet.h, and 802.2 SAPs where they are at most 1500.
const (
	etherIP       = 0x0800
	etherARP      = 0x0806
	etherTEB      = 0x6558
	etherMOPDL    = 0x6001
	etherMOPRC    = 0x6002
	etherDECnet   = 0x6003
	etherLAT      = 0x6004
	etherSCA      = 0x6007
	etherRARP     = 0x8035
	etherATALK    = 0x809b
	etherAARP     = 0x80f3
	etherVLAN     = 0x8100
	etherIPX      = 0x8137
	etherIP6      = 0x86dd
	etherMPLS     = 0x8847
	etherPPPoED   = 0x8863
	etherPPPoES   = 0x8864
	etherQinQ     = 0x88a8
	etherLoopback = 0x9000
	etherQinQOld  = 0x9100

	sapIP      = 0x06
	sapSTP     = 0x42
	sapSNAP    = 0xaa
	sapIPX     = 0xe0
	sapNetBEUI = 0xf0
	sapISO     = 0xfe

	maxLength = 1500 // a type field up to this value is a length: 802.3

	sllNovell = 0x0001 // type field of a cooked capture: 802.3 frame without LLC
	sll8022   = 0x0004 // 802.2 LLC follows
)

// pppTypes are the PPP protocols (RFC 1661 and its registry) for types that have one.
var pppTypes = map[uint32]uint32{
	etherIP: 0x0021, etherIP6: 0x0057, etherDECnet: 0x0027, etherATALK: 0x0029, 0x0600: 0x0025,
	sapISO: 0x0023, sapSTP: 0x0031, sapIPX: 0x002b,
}

const (
	pppVJCompressed   = 0x002d
	pppVJUncompressed = 0x002f
	pppMPLS           = 0x0281
)

// Address families of the BSDs, whose numbers for IPv6 differ, and that of Linux.
const (
	familyINET         = 2
	familyINET6Linux   = 10
	familyINET6BSD     = 24
	familyINET6FreeBSD = 28
	familyINET6Darwin  = 30
)

// isFamily tests the address family of a loopback interface's frame. A file may be of any of the BSDs.
func (g *generator) isFamily(typ uint32) *block {
	test := func(family uint32) *block {
		if g.link == Null {
			family = bits.ReverseBytes32(family)
		}
		return g.equal(fromLinkHdr, 0, sizeW, family)
	}
	switch {
	case typ == etherIP:
		return test(familyINET)
	case typ == etherIP6 && g.origin == FromFile:
		return anyOf(test(familyINET6BSD), test(familyINET6FreeBSD), test(familyINET6Darwin))
	case typ == etherIP6:
		return test(familyINET6Linux)
	}
	return g.never()
}

// isType tests for a type of network layer.
func (g *generator) isType(typ uint32) *block {
	if g.labels > 0 {
		return g.isMPLSPayload(typ)
	}
	switch g.link {
	case Ethernet:
		return g.isEtherType(typ)
	case LinuxSLL:
		return g.isSLLType(typ)
	case RawDLT:
		switch typ {
		case etherIP:
			return g.equalMasked(fromLinkHdr, 0, sizeB, 0x40, 0xf0)
		case etherIP6:
			return g.equalMasked(fromLinkHdr, 0, sizeB, 0x60, 0xf0)
		}
		return g.never()
	case IPv4:
		return g.constant(typ == etherIP)
	case IPv6:
		return g.constant(typ == etherIP6)
	case Null, NullBig, Loop:
		return g.isFamily(typ)
	case PPPBSDOS:
		if typ == etherIP { // or IP with the header compressed, RFC 1144
			plain, compressed := g.equal(fromLinkType, 0, sizeH, pppTypes[etherIP]), g.equal(fromLinkType, 0, sizeH, pppVJCompressed)
			or(plain, compressed)
			uncompressed := g.equal(fromLinkType, 0, sizeH, pppVJUncompressed)
			or(compressed, uncompressed)
			return uncompressed
		}
		fallthrough
	case PPP, PPPSerial, PPPEther, PPPPppd:
		if t, ok := pppTypes[typ]; ok {
			typ = t
		}
	case NFLOG:
		g.failf("NFLOG link-layer type filtering not implemented")
	}
	return g.equal(fromLinkType, 0, sizeH, typ)
}

// isMPLSPayload tests for the bottom of the stack and the IP version: MPLS has no type field.
func (g *generator) isMPLSPayload(typ uint32) *block {
	version := uint32(0x40)
	switch typ {
	case etherIP:
	case etherIP6:
		version = 0x60
	default:
		g.failf("unsupported protocol over mpls")
	}
	bottom := g.equalMasked(fromPayload, ^uint32(1), sizeB, 0x01, 0x01)
	return both(bottom, g.equalMasked(fromPayload, 0, sizeB, version, 0xf0))
}

// is8023 tests whether the type field is a length.
func (g *generator) is8023() *block {
	b := g.compare(jmpJGT, fromLinkType, 0, sizeH, maxLength)
	negate(b)
	return b
}

func (g *generator) isEtherType(typ uint32) *block {
	switch typ {
	case sapISO, sapIP, sapNetBEUI:
		return both(g.is8023(), g.equal(fromLLC, 0, sizeH, typ<<8|typ))
	case sapIPX:
		// Ethernet II, or 802.3 with SNAP, without LLC, or with LLC.
		b := anyOf(g.equal(fromLLC, 0, sizeB, sapIPX), g.equal(fromLLC, 0, sizeH, 0xffff), g.snap(0, etherIPX))
		b = both(g.is8023(), b)
		or(g.equal(fromLinkType, 0, sizeH, etherIPX), b)
		return b
	case etherATALK, etherAARP:
		b := both(g.is8023(), g.appleSNAP(typ))
		or(g.equal(fromLinkType, 0, sizeH, typ), b)
		return b
	}
	if typ <= maxLength {
		return both(g.is8023(), g.equal(fromLinkType, 2, sizeB, typ))
	}
	return g.equal(fromLinkType, 0, sizeH, typ)
}

func (g *generator) isSLLType(typ uint32) *block {
	switch typ {
	case sapISO, sapIP, sapNetBEUI:
		return both(g.equal(fromLinkType, 0, sizeH, sll8022), g.equal(fromLLC, 0, sizeH, typ<<8|typ))
	case sapIPX:
		b := anyOf(g.equal(fromLLC, 0, sizeB, sapIPX), g.snap(0, etherIPX))
		b = both(g.equal(fromLinkType, 0, sizeH, sll8022), b)
		or(g.equal(fromLinkType, 0, sizeH, sllNovell), b)
		or(g.equal(fromLinkType, 0, sizeH, etherIPX), b)
		return b
	case etherATALK, etherAARP:
		b := both(g.equal(fromLinkType, 0, sizeH, sll8022), g.appleSNAP(typ))
		or(g.equal(fromLinkType, 0, sizeH, typ), b)
		return b
	}
	if typ <= maxLength {
		return both(g.equal(fromLinkType, 0, sizeH, sll8022), g.equal(fromLinkHdr, g.linkPayload.base, sizeB, typ))
	}
	return g.equal(fromLinkType, 0, sizeH, typ)
}

func (g *generator) appleSNAP(typ uint32) *block {
	if typ == etherATALK {
		return g.snap(0x080007, etherATALK)
	}
	return g.snap(0, etherAARP)
}

// snap tests for a SNAP header with the organization and the type.
func (g *generator) snap(org, typ uint32) *block {
	return g.equalBytes(fromLLC, 0, []byte{sapSNAP, sapSNAP, 0x03, byte(org >> 16), byte(org >> 8), byte(org), byte(typ >> 8), byte(typ)})
}

// innerCheck tests, behind Geneve, whether there is an Ethernet header; nil if no test is needed.
func (g *generator) innerCheck() *block {
	if !g.geneve {
		return nil
	}
	b := g.block(classJMP|jmpJEQ|srcX, 0, newStmt(opMem, uint32(g.linkHdr.reg)), newStmt(opMemX, uint32(g.linkPayload.reg)))
	negate(b)
	return b
}

// afterInnerCheck is b with innerCheck before it.
func afterInnerCheck(check, b *block) *block {
	if check == nil {
		return b
	}
	return both(check, b)
}

// etherHost tests for an Ethernet address.
func (g *generator) etherHost(addr []byte, dir direction) *block {
	switch dir {
	case dirSrc:
		return g.equalBytes(fromLinkHdr, 6, addr)
	case dirDst:
		return g.equalBytes(fromLinkHdr, 0, addr)
	}
	return combine(dir, func(d direction) *block { return g.etherHost(addr, d) })
}

// combine makes the test for "src and dst" or "src or dst" of that for one of them.
func combine(dir direction, one func(direction) *block) *block {
	src, dst := one(dirSrc), one(dirDst)
	if dir == dirAnd {
		and(src, dst)
	} else {
		or(src, dst)
	}
	return dst
}

func (g *generator) etherOperand(addr []byte, dir direction) *block {
	if g.link != Ethernet {
		g.failf("ethernet addresses supported only on ethernet/FDDI/token ring/802.11/ATM LANE/Fibre Channel")
	}
	check := g.innerCheck()
	return afterInnerCheck(check, g.etherHost(addr, dir))
}

func (g *generator) broadcast(p proto) *block {
	switch p {
	case protoDefault, protoLink:
		if g.link != Ethernet {
			g.failf("not a broadcast link")
		}
		check := g.innerCheck()
		return afterInnerCheck(check, g.etherHost([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, dirDst))
	case protoIP:
		// The netmask is not known: 0, as in tcpdump -r.
		ip := g.isType(etherIP)
		zeros := g.equal(fromPayload, 16, sizeW, 0)
		ones := g.equal(fromPayload, 16, sizeW, 0xffffffff)
		or(zeros, ones)
		return both(ip, ones)
	}
	g.failf("only link-layer/IP broadcast filters supported")
	panic("unreachable")
}

const noMulticast = "link-layer multicast filters supported only on ethernet/FDDI/token ring/ARCNET/802.11/ATM LANE/Fibre Channel"

func (g *generator) multicast(p proto) *block {
	switch p {
	case protoDefault, protoLink:
		if g.link != Ethernet {
			g.failf(noMulticast)
		}
		check := g.innerCheck()
		return afterInnerCheck(check, g.bitSet(fromLinkHdr, 0, sizeB, 1))
	case protoIP:
		return both(g.isType(etherIP), g.compare(jmpJGE, fromPayload, 16, sizeB, 224))
	case protoIP6:
		return both(g.isType(etherIP6), g.equal(fromPayload, 24, sizeB, 255))
	}
	g.failf(noMulticast)
	panic("unreachable")
}

// What pppd writes in place of PPP's address.
const (
	pppdIn  = 0
	pppdOut = 1
)

// inbound tests the direction. Cooked captures have it in their header, packet sockets beside the frame.
func (g *generator) inbound(in bool) *block {
	var b *block
	switch {
	case g.link == LinuxSLL:
		b = g.equal(fromLinkHdr, 0, sizeH, packetOutgoing)
	case g.link == LinuxSLL2:
		b = g.equal(fromLinkHdr, 10, sizeB, packetOutgoing)
	case g.link == PPPPppd:
		direction := uint32(pppdOut)
		if in {
			direction = pppdIn
		}
		return g.equal(fromLinkHdr, 0, sizeB, direction)
	case g.origin != FromFile:
		b = g.metadata(adPktType, sizeH, packetOutgoing)
	default:
		g.failf("inbound/outbound not supported on %v when reading savefiles", g.link)
	}
	if in {
		negate(b)
	}
	return b
}

func (g *generator) ifindex(n uint32) *block {
	switch {
	case g.link == LinuxSLL2:
		return g.equal(fromLinkHdr, 4, sizeW, n)
	case g.origin == FromFile:
		g.failf("ifindex not supported on %v when reading savefiles", g.link)
	}
	return g.metadata(adIfindex, sizeW, n)
}

// metadata compares what the kernel knows beside the bytes.
func (g *generator) metadata(off uint32, size int, v uint32) *block {
	return g.equal(fromLinkHdr, off, size, v)
}

// Bits of the control field of LLC: IEEE 802.2, 5.3 and 5.4.
var (
	llcS = map[string]uint32{"rr": 0x01, "rnr": 0x05, "rej": 0x09}
	llcU = map[string]uint32{"ui": 0x03, "ua": 0x63, "disc": 0x43, "dm": 0x0f, "sabme": 0x6f, "test": 0xe3, "xid": 0xaf, "frmr": 0x87}
)

// llcFrame tests for a frame with LLC, and for its type if that is not empty.
func (g *generator) llcFrame(frame string) *block {
	if g.link != Ethernet {
		g.failf("'llc' not supported for %v", g.link)
	}
	isLLC := func() *block {
		length := g.is8023()
		novell := g.equal(fromLLC, 0, sizeH, 0xffff)
		negate(novell)
		return both(length, novell)
	}
	if frame == "" {
		return isLLC()
	}
	name := strings.ToLower(frame)
	if s, ok := llcS[name]; ok {
		return both(isLLC(), g.equalMasked(fromLLC, 2, sizeB, s, 0x0f))
	}
	if u, ok := llcU[name]; ok {
		return both(isLLC(), g.equalMasked(fromLLC, 2, sizeB, u, 0xef))
	}
	switch name {
	case "i":
		l := isLLC()
		b := g.bitSet(fromLLC, 2, sizeB, 0x01)
		negate(b)
		return both(l, b)
	case "s":
		return both(isLLC(), g.equalMasked(fromLLC, 2, sizeB, 0x01, 0x03))
	case "u":
		return both(isLLC(), g.equalMasked(fromLLC, 2, sizeB, 0x03, 0x03))
	}
	g.failf("unknown LLC type name %q", frame)
	panic("unreachable")
}

// byteTest tests a byte of the link layer. Before "&" and "|" libpcap does not load it: the test sees what A held
// before, and so it does here.
func (g *generator) byteTest(n *byteTest) *block {
	switch n.op {
	case "=":
		return g.equal(fromLinkHdr, n.index, sizeB, n.val)
	case ">":
		return g.compare(jmpJGT, fromLinkHdr, n.index, sizeB, n.val)
	case "<":
		b := g.compare(jmpJGE, fromLinkHdr, n.index, sizeB, n.val)
		negate(b)
		return b
	}
	op := classALU | aluAND | srcK
	if n.op == "|" {
		op = classALU | aluOR | srcK
	}
	b := g.block(classJMP|jmpJEQ, 0, newStmt(op, n.val))
	negate(b)
	return b
}
