package route

import (
	"encoding/binary"

	"proxyarpd/internal/wire"
)

// flowKeys are what the kernel's flow dissector finds in a packet (struct
// flow_keys in include/net/flow_dissector.h), as far as rules and multipath
// routes ask for it. Of an encapsulated packet they are the innermost.
type flowKeys struct {
	v6       bool
	src, dst [16]byte // IPv4: the first four bytes
	label    uint32   // of IPv6, 0: none
	proto    uint8
	ports    [4]byte // source and destination as they stand there
	encap    bool    // another packet was found inside
}

// dissection walks headers as __skb_flow_dissect does (net/core/flow_dissector.c).
type dissection struct {
	flowKeys
	rest  []byte // from the header that comes next
	inner bool   // go on into encapsulated packets
}

// What the dissector calls the header that comes next.
const (
	headerIPv4 = iota
	headerIPv6
	headerUpper // by proto
	headerNone
)

// maxHeaders is MAX_FLOW_DISSECT_HDRS.
const maxHeaders = 15

// dissect finds the keys of a packet that begins with the header next, inside of encapsulations if inner is set
// (else FLOW_DISSECTOR_F_STOP_AT_ENCAP). A fragment has no ports, nor has a
// packet that ends before them.
func dissect(packet []byte, next int, inner bool) flowKeys {
	d := dissection{rest: packet, inner: inner}
	v6 := false
	for range maxHeaders {
		switch next {
		case headerIPv4:
			next, v6 = d.ipv4(), false
		case headerIPv6:
			next, v6 = d.ipv6(), true
		}
		if next == headerUpper {
			next = d.upper(v6)
		}
		if next == headerNone {
			break
		}
	}
	return d.flowKeys
}

func (d *dissection) ipv4() int {
	h := wire.IPv4(d.rest)
	if len(h) < wire.IPv4MinLen || h.HeaderLen() < wire.IPv4MinLen {
		return headerNone
	}
	src, dst := h.Src(), h.Dst()
	d.v6, d.proto = false, h.Protocol()
	copy(d.src[:], src[:])
	copy(d.dst[:], dst[:])
	if h.IsFragment() {
		return headerNone
	}
	d.skip(h.HeaderLen())
	return headerUpper
}

func (d *dissection) ipv6() int {
	const headerLen = 40
	if len(d.rest) < headerLen {
		return headerNone
	}
	d.v6, d.proto = true, d.rest[6]
	copy(d.src[:], d.rest[8:])
	copy(d.dst[:], d.rest[24:])
	if l := binary.BigEndian.Uint32(d.rest) & 0xfffff; l != 0 {
		d.label = l
	}
	d.skip(headerLen)
	return headerUpper
}

func (d *dissection) skip(n int) { d.rest = d.rest[min(n, len(d.rest)):] }

// upper takes the header behind an IP header. Ports are looked for behind each,
// so that those of the last one count.
func (d *dissection) upper(v6 bool) int {
	const (
		hopOptions, ipip, ip6in4, routing, fragment, gre, destOptions = 0, 4, 41, 43, 44, 47, 60
	)
	next := headerNone
	switch d.proto {
	case ipip:
		next = d.into(headerIPv4)
	case ip6in4:
		next = d.into(headerIPv6)
	case gre:
		next = d.gre()
	case hopOptions, routing, destOptions:
		if !v6 {
			break
		}
		if len(d.rest) < 2 {
			return headerNone
		}
		n := (int(d.rest[1]) + 1) * 8
		d.proto, next = d.rest[0], headerUpper
		d.skip(n)
	case fragment:
		if v6 && len(d.rest) >= 8 {
			d.proto = d.rest[0]
			return headerNone // and no ports
		}
	}
	d.ports = portsOf(d.rest, d.proto)
	return next
}

// into notes an encapsulated packet and says whether to go on with it.
func (d *dissection) into(next int) int {
	if d.encap = true; !d.inner {
		return headerNone
	}
	return next
}

// gre is __skb_flow_dissect_gre, for version 0 (RFC 2784, RFC 2890) and for
// PPTP's version 1 (RFC 2637). A header that ends too early is none.
func (d *dissection) gre() int {
	const checksum, routing, key, sequence, ack, version = 0x8000, 0x4000, 0x2000, 0x1000, 0x80, 7
	const typePPP, typeBridged wire.EtherType = 0x880b, 0x6558
	const pppLen, pppIPv4, pppIPv6 = 4, 0x21, 0x57
	if len(d.rest) < 4 {
		return headerNone
	}
	flags, proto, n := binary.BigEndian.Uint16(d.rest), wire.EtherType(binary.BigEndian.Uint16(d.rest[2:])), 4
	if flags&routing != 0 || flags&version > 1 || flags&version == 1 && (proto != typePPP || flags&key == 0) {
		return headerNone
	}
	if flags&checksum != 0 {
		n += 4
	}
	if flags&key != 0 {
		if n += 4; len(d.rest) < n {
			return headerNone
		}
	}
	if flags&sequence != 0 {
		n += 4
	}
	switch {
	case flags&version == 1:
		if flags&ack != 0 {
			n += 4
		}
		if len(d.rest) < n+pppLen {
			return headerNone
		}
		switch binary.BigEndian.Uint16(d.rest[n+2:]) {
		case pppIPv4:
			proto = wire.EtherTypeIPv4
		case pppIPv6:
			proto = wire.EtherTypeIPv6
		}
		n += pppLen
	case proto == typeBridged:
		if len(d.rest) < n+wire.EthernetLen {
			return headerNone
		}
		proto = wire.Ethernet(d.rest[n:]).Type()
		n += wire.EthernetLen
	}
	if d.into(headerUpper) == headerNone {
		return headerNone
	}
	d.skip(n)
	return d.byType(proto)
}

// byType says what header an EtherType announces. Tags of VLANs are passed over.
func (d *dissection) byType(proto wire.EtherType) int {
	const typeServiceVLAN wire.EtherType = 0x88a8
	const vlanLen = 4
	for range maxHeaders {
		switch proto {
		case wire.EtherTypeIPv4:
			return headerIPv4
		case wire.EtherTypeIPv6:
			return headerIPv6
		case wire.EtherTypeVLAN, typeServiceVLAN:
			if len(d.rest) < vlanLen {
				return headerNone
			}
			proto = wire.EtherType(binary.BigEndian.Uint16(d.rest[2:]))
			d.skip(vlanLen)
		default:
			return headerNone
		}
	}
	return headerNone
}

// portsOf is skb_flow_get_ports: of protocols that have ports, or something of
// their size that tells flows apart (include/net/ip.h, proto_ports_offset).
func portsOf(l4 []byte, proto uint8) (p [4]byte) {
	const dccp, esp, ah, udpLite = 33, 50, 51, 136
	at := 0
	switch proto {
	case wire.ProtoTCP, wire.ProtoUDP, wire.ProtoSCTP, dccp, esp, udpLite:
	case ah:
		at = 4
	default:
		return p
	}
	if len(l4) >= at+4 {
		copy(p[:], l4[at:])
	}
	return p
}
