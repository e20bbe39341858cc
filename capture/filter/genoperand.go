package filter

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
)

// IP protocol numbers.
const (
	ipICMP   = 1
	ipIGMP   = 2
	ipTCP    = 6
	ipIGRP   = 9
	ipUDP    = 17
	ipESP    = 50
	ipAH     = 51
	ipICMP6  = 58
	ipNoNext = 59
	ipPIM    = 103
	ipVRRP   = 112 // CARP too
	ipSCTP   = 132

	ip6HopByHop = 0
	ip6Routing  = 43
	ip6Fragment = 44
	ip6DestOpts = 60

	anyPortProto = -1 // TCP, UDP or SCTP
)

// operand generates the test for an operand with its qualifiers.
func (g *generator) operand(o *operand) *block {
	if o.proto == protoUndef {
		g.failf(`syntax error in filter expression: %v needs a qualifier before it: "host", "net", "port", ...; there is none that it could inherit`, o.tok)
	}
	switch o.tok.kind {
	case tokNumber:
		return g.numberOperand(o)
	case tokName:
		return g.nameOperand(o)
	case tokEther:
		if o.typ != typeDefault && o.typ != typeHost || o.proto != protoLink {
			g.failf(`ethernet address used in non-ether expression: only "ether host", "ether src" and "ether dst" take one`)
		}
		return g.etherOperand(parseEther(o.tok.text), o.dir)
	}
	if name, ok := map[addrType]string{typePort: "port", typePortRange: "portrange", typeProto: "proto", typeProtoChain: "protochain"}[o.typ]; ok {
		g.failf("'%s' modifier applied to %s", name, o.addressKind())
	}
	if o.tok.kind == tokIPv6 {
		return g.ip6Operand(o)
	}
	return g.ip4Operand(o)
}

// addressKind is what libpcap calls an address.
func (o *operand) addressKind() string {
	if o.tok.kind == tokIPv6 {
		return "ip6 host"
	}
	return "ip host"
}

// network is a network as it was written.
func (o *operand) network() string {
	switch {
	case o.prefix.kind == tokNumber:
		return strconv.Quote(o.tok.text + "/" + o.prefix.text)
	case o.mask.kind == tokIPv4:
		return strconv.Quote(o.tok.text + " mask " + o.mask.text)
	}
	return strconv.Quote(o.tok.text)
}

func (g *generator) numberOperand(o *operand) *block {
	v := o.tok.num
	switch o.typ {
	case typePort, typePortRange:
		return g.ports(v, v, g.portProto(o), o.dir, o.typ == typePortRange)
	case typeProto:
		return g.carries(v, o.proto)
	case typeProtoChain:
		return g.protoChain(v, o)
	case typeGateway:
		g.failf("'gateway' requires a name")
	}
	if o.proto == protoLink {
		g.failf("illegal link layer address")
	}
	mask := ^uint32(0)
	if o.typ == typeNet && o.proto != protoDECnet {
		v, mask = leftJustify(v)
	}
	return g.host4(v, mask, o.proto, o.dir)
}

// leftJustify makes a network number of its leading bytes: 10 stands for 10.0.0.0/8.
func leftJustify(v uint32) (addr, mask uint32) {
	mask = ^uint32(0)
	for v != 0 && v&0xff000000 == 0 {
		v <<= 8
		mask <<= 8
	}
	return v, mask
}

// ip4Operand is an address of two to four parts, or a network with mask or length of prefix.
func (g *generator) ip4Operand(o *operand) *block {
	if o.proto == protoDECnet && o.prefix.kind == tokEnd && o.mask.kind == tokEnd {
		return g.decnetHost(g.decnetAddr(o.tok), o.dir)
	}
	addr, mask := g.parseIPv4(o.tok)
	switch {
	case o.prefix.kind == tokNumber:
		g.pos = o.prefix.pos
		if o.prefix.num > 32 {
			g.failf("mask length must be <= 32")
		}
		mask = ^uint32(0) << (32 - o.prefix.num)
	case o.mask.kind == tokIPv4:
		g.pos = o.mask.pos
		mask, _ = g.parseIPv4(o.mask)
	case o.typ == typeGateway:
		g.failf("'gateway' requires a name")
	default:
		return g.host4(addr, mask, o.proto, o.dir)
	}
	if addr&^mask != 0 {
		g.failf("non-network bits set in %s", o.network())
	}
	if o.typ != typeNet {
		g.failf("Mask syntax for networks only")
	}
	return g.host4(addr, mask, o.proto, o.dir)
}

// parseIPv4 returns an address and the mask of the parts that it has.
func (g *generator) parseIPv4(t token) (addr, mask uint32) {
	for part := range strings.SplitSeq(t.text, ".") {
		v, err := strconv.ParseUint(part, 10, 32)
		if err != nil || v > 255 {
			failf(t.pos, "invalid IPv4 address '%s'", t.text)
		}
		addr = addr<<8 | uint32(v)
		mask = mask<<8 | 0xff
	}
	for mask&0xff000000 == 0 {
		addr <<= 8
		mask <<= 8
	}
	return addr, mask
}

func (g *generator) ip6Operand(o *operand) *block {
	addr := netip.MustParseAddr(o.tok.text).As16()
	bits := uint32(128)
	if o.prefix.kind == tokNumber {
		bits = o.prefix.num
		if bits > 128 {
			failf(o.prefix.pos, "mask length must be <= 128")
		}
	}
	var mask [16]byte
	for i := range bits {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	for i := range addr {
		if addr[i]&^mask[i] != 0 {
			g.failf("non-network bits set in %s", o.network())
		}
	}
	switch {
	case o.typ == typeGateway:
		g.failf("invalid qualifier against IPv6 address")
	case o.typ != typeNet && bits != 128:
		g.failf("Mask syntax for networks only")
	}
	return g.host6(addr, mask, o.proto, o.dir)
}

// parseEther reads six bytes in hexadecimal, whatever the separators: 1:2:3:4:5:6, 0102.0304.0506, 010203040506.
func parseEther(s string) []byte {
	groups := strings.FieldsFunc(s, func(r rune) bool { return r == ':' || r == '-' || r == '.' })
	width := 12 / len(groups)
	var addr []byte
	for _, group := range groups {
		group = strings.Repeat("0", width-len(group)) + group
		for i := 0; i < len(group); i += 2 {
			v, _ := strconv.ParseUint(group[i:i+2], 16, 8)
			addr = append(addr, byte(v))
		}
	}
	return addr
}

// nameOperand looks the name up as what its qualifiers say that it is.
func (g *generator) nameOperand(o *operand) *block {
	name := o.tok.text
	switch o.typ {
	case typeNet:
		v, ok := networkByName(name)
		if !ok {
			g.failf("unknown network '%s' (it is not in /etc/networks)", name)
		}
		addr, mask := leftJustify(v)
		return g.host4(addr, mask, o.proto, o.dir)
	case typePort:
		first, proto := g.portByName(name)
		return g.ports(first, first, g.namedPortProto(o, proto), o.dir, false)
	case typePortRange:
		first, last, proto := g.portRange(name)
		return g.ports(first, last, g.namedPortProto(o, proto), o.dir, true)
	case typeProto:
		return g.carries(g.protoByName(name, o.proto), o.proto)
	case typeProtoChain:
		return g.protoChain(g.protoByName(name, o.proto), o)
	case typeGateway:
		g.failf("'gateway' not supported in this configuration")
	}
	switch o.proto {
	case protoLink:
		if g.link != Ethernet {
			g.failf("only ethernet/FDDI/token ring/802.11/ATM LANE/Fibre Channel supports link-level host name")
		}
		addr, ok := etherByName(name)
		if !ok {
			g.failf("unknown ether host '%s' (it is not in /etc/ethers)", name)
		}
		return g.etherOperand(addr, o.dir)
	case protoDECnet:
		g.failf("%q is not a DECnet address, and names of DECnet are not supported", name)
	}
	return g.namedHost(o)
}

// namedHost tests for all addresses of a host.
func (g *generator) namedHost(o *operand) *block {
	p4, p6 := o.proto, o.proto
	if g.linkType.base == notSet && o.proto == protoDefault {
		p4, p6 = protoIP, protoIP6 // no link-layer type that could say ARP
	}
	var all *block
	for _, addr := range hostAddrs(o.tok.text) {
		var b *block
		switch {
		case addr.Is4() && p4 != protoIP6:
			a := addr.As4()
			b = g.host4(binary.BigEndian.Uint32(a[:]), ^uint32(0), p4, o.dir)
		case addr.Is6() && p6 != protoIP:
			mask := [16]byte{}
			for i := range mask {
				mask[i] = 0xff
			}
			b = g.host6(addr.As16(), mask, p6, o.dir)
		default:
			continue
		}
		if all != nil {
			or(all, b)
		}
		all = b
	}
	if all == nil {
		g.failf("unknown host '%s' (it is no address that fits, and not in /etc/hosts; DNS is not asked)", o.tok.text)
	}
	return all
}

// host4 tests for an IPv4 address in the protocols that carry one.
func (g *generator) host4(addr, mask uint32, p proto, dir direction) *block {
	switch p {
	case protoDefault:
		b := g.host4(addr, mask, protoIP, dir)
		if g.labels > 0 {
			return b
		}
		b = anyOf(b, g.host4(addr, mask, protoARP, dir))
		rarp := g.host4(addr, mask, protoRARP, dir)
		or(b, rarp)
		return rarp
	case protoIP:
		return g.addr4(addr, mask, dir, etherIP, 12, 16)
	case protoARP:
		return g.addr4(addr, mask, dir, etherARP, 14, 24)
	case protoRARP:
		return g.addr4(addr, mask, dir, etherRARP, 14, 24)
	case protoDECnet:
		return g.decnetHost(addr, dir)
	}
	if p == protoIP6 {
		g.failf("'ip6' modifier applied to ip host")
	}
	g.failf("'%v' modifier applied to host: ip, arp and rarp have IPv4 addresses", p)
	panic("unreachable")
}

func (g *generator) addr4(addr, mask uint32, dir direction, typ, src, dst uint32) *block {
	off := src
	switch dir {
	case dirSrc:
	case dirDst:
		off = dst
	default:
		return combine(dir, func(d direction) *block { return g.addr4(addr, mask, d, typ, src, dst) })
	}
	return both(g.isType(typ), g.equalMasked(fromPayload, off, sizeW, addr, mask))
}

func (g *generator) host6(addr, mask [16]byte, p proto, dir direction) *block {
	if p != protoDefault && p != protoIP6 {
		g.failf("'%v' modifier applied to ip6 host: ip6 has IPv6 addresses", p)
	}
	off := uint32(8)
	switch dir {
	case dirSrc:
	case dirDst:
		off = 24
	default:
		return combine(dir, func(d direction) *block { return g.host6(addr, mask, p, d) })
	}
	var all *block
	for i := uint32(0); i < 16; i += 4 {
		i := 12 - i
		b := g.equalMasked(fromPayload, off+i, sizeW, binary.BigEndian.Uint32(addr[i:]), binary.BigEndian.Uint32(mask[i:]))
		if all == nil {
			all = b
		} else {
			and(b, all)
		}
	}
	and(g.isType(etherIP6), all)
	return all
}

// decnetAddr reads area.node as a DECnet address: six bits and ten.
func (g *generator) decnetAddr(t token) uint32 {
	area, node, ok := strings.Cut(t.text, ".")
	a, err1 := strconv.ParseUint(area, 10, 32)
	n, err2 := strconv.ParseUint(strings.SplitN(node, ".", 2)[0], 10, 32)
	if !ok || err1 != nil || err2 != nil {
		g.failf("%v is not a DECnet address", t)
	}
	return uint32(a)<<10&0xfc00 | uint32(n)&0x3ff
}

// decnetHost tests the data packets of DECnet phase IV, with a byte of padding or without, long format or short.
func (g *generator) decnetHost(addr uint32, dir direction) *block {
	long, short := uint32(15), uint32(3)
	switch dir {
	case dirSrc:
	case dirDst:
		long, short = 7, 1
	default:
		return combine(dir, func(d direction) *block { return g.decnetHost(addr, d) })
	}
	le := addr&0xff<<8 | addr>>8&0xff // the addresses are little endian
	decnet := g.isType(etherDECnet)
	all := both(g.equalMasked(fromPayload, 2, sizeH, 0x8106, 0xff07), g.equal(fromPayload, 3+long, sizeH, le))
	or(both(g.equalMasked(fromPayload, 2, sizeB, 0x06, 0x07), g.equal(fromPayload, 2+long, sizeH, le)), all)
	or(both(g.equalMasked(fromPayload, 2, sizeH, 0x8102, 0xff07), g.equal(fromPayload, 3+short, sizeH, le)), all)
	or(both(g.equalMasked(fromPayload, 2, sizeB, 0x02, 0x07), g.equal(fromPayload, 2+short, sizeH, le)), all)
	return both(decnet, all)
}
