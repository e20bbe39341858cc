package differential

import (
	"encoding/binary"

	"proxyarpd/internal/wire"
)

// packet6 is an IPv6 packet under construction.
type packet6 struct {
	port     int
	src, dst addr6
	class    byte // traffic class
	hops     byte // hop limit
	headers  []header6
	proto    byte // of l4, behind all headers
	l4       []byte
	l4sum    int // offset of a checksum in l4 to fill in; -1: none

	srcMAC, dstMAC *[6]byte
	etherType      wire.EtherType
	version        byte // 0: right
	jumbo          bool // the payload length is 0
	longer         int  // by which the payload length differs from the payload
	padding        int  // bytes behind the packet, negative: cut off
	wrongSum       uint16
	gsoSize        int
	partial        bool // the checksum is left to the device
}

// header6 is an extension header, from its next header field on, which is filled in.
type header6 struct {
	typ  byte
	body []byte
}

// length is how many bytes come before l4.
func (p *packet6) length() (n int) {
	n = wire.IPv6Len
	for _, h := range p.headers {
		n += len(h.body)
	}
	return n
}

func (p *packet6) frame(class string, index int) *Frame {
	hlen := p.length()
	b := make([]byte, ethernetLen+hlen+len(p.l4))
	dst, src := ports[p.port].mac, stationMAC6(p.port, p.src)
	if p.dstMAC != nil {
		dst = *p.dstMAC
	}
	if p.srcMAC != nil {
		src = *p.srcMAC
	}
	copy(b, dst[:])
	copy(b[6:], src[:])
	etherType := p.etherType
	if etherType == 0 {
		etherType = wire.EtherTypeIPv6
	}
	binary.BigEndian.PutUint16(b[12:], uint16(etherType))

	h := b[ethernetLen:]
	payload := hlen - wire.IPv6Len + len(p.l4) + p.longer
	if p.jumbo {
		payload = 0
	}
	next, at := &h[6], wire.IPv6Len
	wire.PutIPv6(h, p.class, 0, max(payload, 0), 0, p.hops, p.src, p.dst)
	if p.version != 0 {
		h[0] = p.version<<4 | h[0]&15
	}
	for _, ext := range p.headers {
		*next = ext.typ
		copy(h[at:], ext.body)
		next = &h[at]
		at += len(ext.body)
	}
	*next = p.proto
	copy(h[hlen:], p.l4)

	f := &Frame{Class: class, Index: index, Port: p.port, Span: 1, IPv6: true}
	p.finish(f, h[hlen:], hlen)
	switch {
	case p.padding > 0:
		b = append(b, make([]byte, p.padding)...)
		for i := range p.padding {
			b[len(b)-1-i] = byte(0xa0 + i)
		}
	case p.padding < 0:
		b = b[:max(ethernetLen, len(b)+p.padding)]
	}
	f.Bytes = b
	return f
}

// finish fills in the checksum, or leaves it to the device, and says how a
// super-packet is to be cut.
func (p *packet6) finish(f *Frame, l4 []byte, hlen int) {
	if p.l4sum >= 0 && len(l4) >= p.l4sum+2 {
		sum := wire.PseudoSum6(p.src, p.dst, p.proto, len(l4))
		binary.BigEndian.PutUint16(l4[p.l4sum:], 0)
		if p.partial {
			binary.BigEndian.PutUint16(l4[p.l4sum:], ^wire.Fold(sum))
			f.Vnet[0] = vnetNeedsCsum
			binary.NativeEndian.PutUint16(f.Vnet[6:], uint16(ethernetLen+hlen))
			binary.NativeEndian.PutUint16(f.Vnet[8:], uint16(p.l4sum))
		} else {
			binary.BigEndian.PutUint16(l4[p.l4sum:], wire.Fold(wire.Sum(l4, sum))+p.wrongSum)
		}
	}
	if p.gsoSize > 0 {
		f.Vnet[1] = gsoTCPv6
		head := 8
		if p.proto == wire.ProtoUDP {
			f.Vnet[1] = gsoUDPL4
		} else {
			head = int(l4[12]>>4) * 4
		}
		binary.NativeEndian.PutUint16(f.Vnet[2:], uint16(ethernetLen+hlen+head))
		binary.NativeEndian.PutUint16(f.Vnet[4:], uint16(p.gsoSize))
	}
}

// markFlow writes the frame's mark as flow label.
func (f *Frame) markFlow() {
	if len(f.Bytes) >= ethernetLen+4 {
		h := f.Bytes[ethernetLen:]
		binary.BigEndian.PutUint32(h, binary.BigEndian.Uint32(h)&^0xfffff|f.ID)
	}
}

// icmp6 is an ICMPv6 message; its checksum is at offset 2.
func icmp6(typ, code byte, rest uint32, data []byte) []byte {
	b := make([]byte, wire.ICMPv6Len+len(data))
	b[0], b[1] = typ, code
	binary.BigEndian.PutUint32(b[4:], rest)
	copy(b[wire.ICMPv6Len:], data)
	return b
}

// options6 is a header of options: hop-by-hop or destination (RFC 8200 section 4.2).
// What is missing to a multiple of eight bytes is padded.
func options6(typ byte, opts []byte) header6 {
	b := append([]byte{0, 0}, opts...)
	switch missing := -len(b) & 7; missing {
	case 0:
	case 1:
		b = append(b, 0)
	default:
		b = append(append(b, 1, byte(missing-2)), make([]byte, missing-2)...)
	}
	b[1] = byte(len(b)/8 - 1)
	return header6{typ, b}
}

// option6 is one option.
func option6(typ byte, data ...byte) []byte { return append([]byte{typ, byte(len(data))}, data...) }

// fragment6 is a fragment header (RFC 8200 section 4.5). offset is in units of eight bytes.
func fragment6(offset uint16, more bool, id uint32) header6 {
	b := make([]byte, 8)
	binary.BigEndian.PutUint16(b[2:], offset<<3)
	if more {
		b[3] |= 1
	}
	binary.BigEndian.PutUint32(b[4:], id)
	return header6{wire.ProtoFragment, b}
}

// routing6 is a routing header of type typ (RFC 8200 section 4.4) with the data behind
// its first four bytes, of a length of 4 modulo 8.
func routing6(typ, left byte, data []byte) header6 {
	b := append([]byte{0, byte((4+len(data))/8 - 1), typ, left}, data...)
	return header6{wire.ProtoRouting, b}
}
