package differential

import (
	"encoding/binary"

	"proxyarpd/internal/wire"
)

// encapsulated bears a packet in a packet, by all that a flow dissector looks
// into: what rules by port and multipath routes see of it differs.
func encapsulated(g *gen) packet {
	p := g.plain()
	p.ttl = pick[byte](g, 1, 64, 64, 64)
	p.l4sum, p.partial = -1, false
	p.proto, p.l4 = g.tunnel(1 + g.IntN(3))
	if g.IntN(5) == 0 {
		p.l4 = p.l4[:g.IntN(min(len(p.l4), 100))]
	}
	if g.IntN(10) == 0 {
		p.frag = 0x2000
	}
	return p
}

// tunnel gives a payload of so many layers, and its protocol.
func (g *gen) tunnel(layers int) (proto byte, b []byte) {
	const ipip, ip6in4, gre = 4, 41, 47
	v6 := g.IntN(3) == 0
	var inner []byte
	if v6 {
		inner = g.ipv6(layers)
	} else {
		inner = g.ipv4(layers)
	}
	if g.IntN(2) == 0 {
		return g.gre(v6, inner)
	}
	if v6 {
		return ip6in4, inner
	}
	return ipip, inner
}

func (g *gen) ipv4(layers int) []byte {
	var q packet
	g.layer4(&q, g.IntN(30))
	if layers > 1 {
		q.proto, q.l4 = g.tunnel(layers - 1)
	}
	b := make([]byte, wire.IPv4MinLen, wire.IPv4MinLen+len(q.l4))
	src, dst := addr(g.data(4)), addr(g.data(4))
	wire.PutIPv4(b, 0, len(b)+len(q.l4), 0, pick[uint16](g, 0, 0, 0, wire.IPv4DF, 0x2000, 9), 64, q.proto, src, dst)
	if g.IntN(10) == 0 {
		b[0] = pick[byte](g, 0x44, 0x46, 0x65)
	}
	return append(b, q.l4...)
}

func (g *gen) ipv6(layers int) []byte {
	const hopOptions, fragment, destOptions = 0, 44, 60
	var q packet
	g.layer4(&q, g.IntN(30))
	if layers > 1 {
		q.proto, q.l4 = g.tunnel(layers - 1)
	}
	for range g.IntN(3) {
		header := append([]byte{q.proto, 0}, g.data(6)...)
		q.proto = pick[byte](g, hopOptions, fragment, destOptions)
		q.l4 = append(header, q.l4...)
	}
	b := append(make([]byte, 8), g.data(32)...)
	binary.BigEndian.PutUint32(b, 6<<28|pick[uint32](g, 0, g.Uint32()&0xfffff))
	binary.BigEndian.PutUint16(b[4:], uint16(len(q.l4)))
	b[6], b[7] = q.proto, 64
	return append(b, q.l4...)
}

// gre is RFC 2784 with the fields of RFC 2890, PPTP's (RFC 2637), or something
// that is none of them.
func (g *gen) gre(v6 bool, inner []byte) (proto byte, b []byte) {
	flags := pick[uint16](g, 0, 0x8000, 0x2000, 0x1000, 0xb000, 0xa000, 0x4000, 2, 0x3001, 0x3081, 0x2001, 1)
	typ := uint16(0x0800)
	if v6 {
		typ = 0x86dd
	}
	switch {
	case flags&1 != 0:
		ppp := pick[uint16](g, 0x21, 0x57, 0xc021)
		if g.IntN(4) > 0 {
			ppp = map[bool]uint16{false: 0x21, true: 0x57}[v6]
		}
		inner = append(binary.BigEndian.AppendUint16([]byte{0xff, 3}, ppp), inner...)
		typ = pick[uint16](g, 0x880b, 0x880b, 0x880b, typ)
	case g.IntN(3) == 0:
		if g.IntN(3) == 0 {
			inner = append(binary.BigEndian.AppendUint16(g.data(2), typ), inner...)
			typ = pick[uint16](g, 0x8100, 0x88a8)
		}
		inner = append(binary.BigEndian.AppendUint16(g.data(12), typ), inner...)
		typ = 0x6558
	}
	b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, flags), typ)
	for _, f := range []uint16{0x8000, 0x2000, 0x1000, 0x80} {
		if flags&f != 0 {
			b = append(b, g.data(4)...)
		}
	}
	return 47, append(b, inner...)
}
