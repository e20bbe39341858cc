package differential

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"

	"proxyarpd/internal/wire"
)

// ipv6Of is the packet of a frame, nil where that bears no IPv6 header.
func ipv6Of(frame []byte) wire.IPv6 {
	if len(frame) < ethernetLen+wire.IPv6Len || wire.Ethernet(frame).Type() != wire.EtherTypeIPv6 {
		return nil
	}
	return wire.IPv6(frame[ethernetLen:])
}

// upper6 is what follows a packet's extension headers, with its type. Where a header is
// cut off, it is nothing.
func upper6(h wire.IPv6) (typ byte, payload []byte) {
	typ, payload = h.NextHeader(), h.Payload()
	for {
		n := 0
		switch typ {
		case wire.ProtoHopByHop, wire.ProtoRouting, wire.ProtoDestOpts, wire.ProtoFragment:
			n = 8
			if typ != wire.ProtoFragment && len(payload) > 1 {
				n += int(payload[1]) * 8
			}
		default:
			return typ, payload
		}
		if n > len(payload) {
			return wire.ProtoNone, nil
		}
		typ, payload = payload[0], payload[n:]
	}
}

// classify6 tells what an output is, and the mark of the packet that it comes from. What
// the hosts send by themselves has no flow label (net.ipv6.auto_flowlabels=0); all
// frames that are sent have one.
func classify6(h wire.IPv6) (k kind, mark uint32) {
	if label := h.FlowLabel(); label != 0 {
		return forwarded, label
	}
	typ, l4 := upper6(h)
	if typ != wire.ProtoICMPv6 || len(l4) < wire.ICMPv6Len {
		return answer, 0
	}
	switch {
	case wire.ICMPv6IsError(l4[0]) && len(l4) >= wire.ICMPv6Len+4:
		return report, binary.BigEndian.Uint32(l4[wire.ICMPv6Len:]) & 0xfffff
	case l4[0] == wire.ICMPv6Redirect:
		if about := redirected(l4); len(about) >= 4 {
			return report, binary.BigEndian.Uint32(about) & 0xfffff
		}
	case l4[0] >= 130 && l4[0] <= wire.ICMPv6NeighAdvert || l4[0] == 143:
		return foreign, 0 // neighbour and multicast listener discovery
	}
	return answer, 0
}

// redirected is the packet that a redirect is about (RFC 4861 section 4.6.3).
func redirected(msg []byte) []byte {
	const fixed, redirectedHeader = 40, 4
	for opts := msg[min(fixed, len(msg)):]; len(opts) >= 8; {
		n := int(opts[1]) * 8
		if n == 0 || n > len(opts) {
			return nil
		}
		if opts[0] == redirectedHeader {
			return opts[8:n]
		}
		opts = opts[n:]
	}
	return nil
}

func errorOf6(h wire.IPv6) (typ, code uint8, ok bool) {
	if proto, l4 := upper6(h); proto == wire.ProtoICMPv6 && len(l4) >= wire.ICMPv6Len && h.FlowLabel() == 0 {
		return l4[0], l4[1], wire.ICMPv6IsError(l4[0]) || l4[0] == wire.ICMPv6Redirect
	}
	return 0, 0, false
}

// normalise6 makes equal what may differ: nothing of what is forwarded, and nothing of
// errors. The answers to echo requests are compared as they are.
func normalise6(wire.IPv6, kind) {}

// onWire6 is onWire for IPv6.
func onWire6(v, frame []byte, emit func(frame []byte)) {
	size := int(binary.NativeEndian.Uint16(v[4:]))
	gso := v[1] &^ 0x80
	start := int(binary.NativeEndian.Uint16(v[6:]))
	if size == 0 || gso != gsoTCPv6 && gso != gsoUDPL4 || start < ethernetLen+wire.IPv6Len || start+20 > len(frame) {
		proto, _ := upper6(ipv6Of(frame))
		complete(v, frame, proto)
		emit(frame)
		return
	}
	tcp := gso == gsoTCPv6
	head := start + 8
	if tcp {
		head = start + int(frame[start+12]>>4)*4
	}
	data := frame[min(head, len(frame)):]
	for n := 0; n*size < len(data); n++ {
		piece := data[n*size : min((n+1)*size, len(data))]
		s := append(bytes.Clone(frame[:head]), piece...)
		h := wire.IPv6(s[ethernetLen:])
		h.SetPayloadLen(len(h) - wire.IPv6Len)
		proto := byte(wire.ProtoUDP)
		if tcp {
			proto = wire.ProtoTCP
		}
		cutUpper(s[start:], n, size, tcp, (n+1)*size >= len(data), wire.PseudoSum6(h.Src(), h.Dst(), proto, len(s)-start))
		emit(s)
	}
}

// describe6 says in a line what an IPv6 packet is.
func describe6(h wire.IPv6) string {
	s := fmt.Sprintf("%v > %v next %d hops %d class %#02x label %#05x len %d of %d", h.SrcAddr(), h.DstAddr(), h.NextHeader(),
		h.HopLimit(), h.TrafficClass(), h.FlowLabel(), h.PayloadLen(), len(h)-wire.IPv6Len)
	if h.Version() != 6 {
		s += fmt.Sprintf(" version %d", h.Version())
	}
	typ, l4 := upper6(h)
	if typ != h.NextHeader() {
		s += fmt.Sprintf(" headers %x upper %d", h.Payload()[:min(len(h.Payload())-len(l4), 60)], typ)
	}
	if typ == wire.ProtoICMPv6 && len(l4) >= wire.ICMPv6Len {
		s += fmt.Sprintf(" icmp %d/%d %#08x", l4[0], l4[1], binary.BigEndian.Uint32(l4[4:]))
		if l4[0] == wire.ICMPv6Redirect && len(l4) >= 40 {
			s += fmt.Sprintf(" target %v for %v", netip.AddrFrom16([16]byte(l4[8:24])), netip.AddrFrom16([16]byte(l4[24:40])))
		}
	}
	return s
}
