package differential

import (
	"encoding/binary"

	"proxyarpd/internal/wire"
)

// Frame is one frame for a port of both hosts.
type Frame struct {
	Class string
	Index int
	Port  int
	Vnet  [vnetLen]byte
	Bytes []byte // from the link-layer header
	Span  int    // how many marks may come out: one, or one a segment
	ID    uint32 // the mark: IP ID of an IPv4 packet, flow label of an IPv6 one
	IPv6  bool
}

// GSO types of a virtio_net_hdr.
const (
	vnetNeedsCsum = 1
	gsoTCPv4      = 1
	gsoTCPv6      = 4
	gsoUDPL4      = 5
)

// mark gives the frame its IP ID or flow label, by which what comes out is known. A
// header checksum that was right or wrong stays so.
func (f *Frame) mark(mark uint32) {
	f.ID = mark
	if f.IPv6 {
		f.markFlow()
		return
	}
	if len(f.Bytes) < 14+20 {
		return
	}
	id := uint16(mark)
	h := f.Bytes[14:]
	before := binary.BigEndian.Uint16(h[4:])
	sum := binary.BigEndian.Uint16(h[10:])
	binary.BigEndian.PutUint16(h[4:], id)
	binary.BigEndian.PutUint16(h[10:], wire.UpdateChecksum(sum, before, id))
}

// packet is a datagram under construction.
type packet struct {
	port     int
	src, dst addr
	tos      byte
	frag     uint16 // flags and offset
	ttl      byte
	proto    byte
	opts     []byte // any length: padded with end-of-list
	l4       []byte
	l4sum    int // offset of a TCP or UDP checksum in l4 to fill in; -1: none

	dstMAC    *[6]byte
	etherType uint16
	first     byte // version and IHL, 0: right
	total     int  // total length, 0: right
	padding   int  // bytes behind the datagram, negative: cut off
	wrongSum  uint16
	gsoSize   int
	partial   bool // the checksum is left to the device
}

func (p *packet) frame(class string, index int) *Frame {
	opts := append([]byte(nil), p.opts...)
	for len(opts)%4 != 0 {
		opts = append(opts, 0)
	}
	hlen := 20 + len(opts)
	total := p.total
	if total == 0 {
		total = hlen + len(p.l4)
	}
	b := make([]byte, 14+hlen+len(p.l4))
	dst := ports[p.port].mac
	if p.dstMAC != nil {
		dst = *p.dstMAC
	}
	copy(b, dst[:])
	src := stationMAC(p.port, p.src)
	copy(b[6:], src[:])
	etherType := p.etherType
	if etherType == 0 {
		etherType = 0x0800
	}
	binary.BigEndian.PutUint16(b[12:], etherType)
	h := b[14:]
	wire.PutIPv4(h, p.tos, total, 0, p.frag, p.ttl, p.proto, p.src, p.dst)
	h[0] = 0x40 | byte(hlen/4)
	if p.first != 0 {
		h[0] = p.first
	}
	copy(h[20:], opts)
	binary.BigEndian.PutUint16(h[10:], 0)
	binary.BigEndian.PutUint16(h[10:], wire.Checksum(h[:hlen])+p.wrongSum)
	copy(h[hlen:], p.l4)
	f := &Frame{Class: class, Index: index, Port: p.port, Span: 1}
	l4 := h[hlen:]
	if p.l4sum >= 0 && len(l4) >= p.l4sum+2 {
		sum := wire.PseudoSum4(p.src, p.dst, p.proto, len(l4))
		binary.BigEndian.PutUint16(l4[p.l4sum:], 0)
		if p.partial {
			binary.BigEndian.PutUint16(l4[p.l4sum:], ^wire.Fold(sum))
			f.Vnet[0] = vnetNeedsCsum
			binary.NativeEndian.PutUint16(f.Vnet[6:], uint16(14+hlen))
			binary.NativeEndian.PutUint16(f.Vnet[8:], uint16(p.l4sum))
		} else {
			binary.BigEndian.PutUint16(l4[p.l4sum:], wire.Fold(wire.Sum(l4, sum)))
		}
	}
	if p.gsoSize > 0 {
		f.Vnet[1] = gsoTCPv4
		head := 20
		if p.proto == wire.ProtoUDP {
			f.Vnet[1], head = gsoUDPL4, 8
		} else {
			head = int(l4[12]>>4) * 4
		}
		binary.NativeEndian.PutUint16(f.Vnet[2:], uint16(14+hlen+head))
		binary.NativeEndian.PutUint16(f.Vnet[4:], uint16(p.gsoSize))
		f.Span = (len(l4)-head)/p.gsoSize + 1
	}
	switch {
	case p.padding > 0:
		b = append(b, make([]byte, p.padding)...)
		for i := range p.padding {
			b[len(b)-1-i] = byte(0xa0 + i)
		}
	case p.padding < 0:
		b = b[:max(14, len(b)+p.padding)]
	}
	f.Bytes = b
	return f
}

func udp(sport, dport uint16, data []byte) []byte {
	b := make([]byte, 8+len(data))
	binary.BigEndian.PutUint16(b[0:], sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	copy(b[8:], data)
	return b
}

func tcp(sport, dport uint16, flags byte, opts, data []byte) []byte {
	b := make([]byte, 20+len(opts)+len(data))
	binary.BigEndian.PutUint16(b[0:], sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	binary.BigEndian.PutUint32(b[4:], 0x01020304)
	b[12], b[13] = byte((20+len(opts))/4)<<4, flags
	b[14], b[15] = 0x20, 0
	copy(b[20:], opts)
	copy(b[20+len(opts):], data)
	return b
}

func icmp(typ, code byte, rest uint32, data []byte) []byte {
	b := make([]byte, 8+len(data))
	copy(b[8:], data)
	wire.PutICMP(b, typ, code, rest)
	return b
}
