package forward

import (
	"encoding/binary"

	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// maxPlainPayload is the largest payload length that the IPv6 header has room for, bytes
// (include/linux/ipv6.h, IPV6_MAXPLEN).
const maxPlainPayload = 65535

// maxHopPadding is how many bytes of padding may stand together (RFC 8200 section 4.2;
// net/ipv6/exthdrs.c, ip6_parse_tlv).
const maxHopPadding = 7

// hopOptions is what came of a hop-by-hop options header.
type hopOptions struct {
	total   int           // length of the packet by a jumbo payload option, bytes; 0: there is none
	verdict route.Verdict // NotSpecified: the options are sound
	icmp    route.ICMPError
}

func (o *hopOptions) bad(v route.Verdict) bool {
	o.verdict = v
	return false
}

// problem ends the packet with a parameter problem that points at an offset.
func (o *hopOptions) problem(v route.Verdict, code uint8, at int) bool {
	o.verdict, o.icmp = v, route.ICMPError{Type: wire.ICMPv6ParamProblem, Code: code, Rest: uint32(at)}
	return false
}

// parse checks the options of a packet whose first header is that of hop-by-hop options
// as net/ipv6/exthdrs.c, ipv6_parse_hopopts, does. most is how many options there may be
// (max_hbh_opts_number): of a negative number its amount, none of them unknown. longest is
// the most bytes that they may have (max_hbh_length).
//
// A router alert (RFC 2711) changes nothing: no socket of this process has asked for such
// packets. Nor does IOAM (RFC 9486), as where ioam6_enabled is 0. Of CALIPSO no domain is
// known, as by a kernel with NetLabel that was told of none.
func (o *hopOptions) parse(ip wire.IPv6, most, longest int) bool {
	*o = hopOptions{}
	if len(ip) < wire.IPv6Len+8 {
		return o.bad(route.DropIPInHdr)
	}
	length := int(ip[wire.IPv6Len+1])*8 + 8
	if len(ip) < wire.IPv6Len+length || length > longest {
		return o.bad(route.DropIPInHdr)
	}
	known := most < 0
	if known {
		most = -most
	}
	padding, end := 0, wire.IPv6Len+length
	for at := wire.IPv6Len + 2; at < end; {
		if ip[at] == wire.IPv6OptPad1 {
			if padding++; padding > maxHopPadding {
				return o.bad(route.DropIPInHdr)
			}
			at++
			continue
		}
		if at+2 > end || at+2+int(ip[at+1]) > end {
			return o.bad(route.DropIPInHdr)
		}
		n := 2 + int(ip[at+1])
		if ip[at] == wire.IPv6OptPadN {
			if padding += n; padding > maxHopPadding || !blank(ip[at+2:at+n]) {
				return o.bad(route.DropIPInHdr)
			}
			at += n
			continue
		}
		if most--; most < 0 {
			return o.bad(route.DropIPInHdr)
		}
		if !o.option(ip, at, known) {
			return false
		}
		padding = 0
		at += n
	}
	return true
}

// option looks at one option, at an offset of the packet.
func (o *hopOptions) option(ip wire.IPv6, at int, known bool) bool {
	switch n := int(ip[at+1]); ip[at] {
	case wire.IPv6OptRouterAlert:
		if n != 2 {
			return o.bad(route.DropIPInHdr)
		}
	case wire.IPv6OptIOAM:
		if at&3 != 0 {
			return o.bad(route.DropIPInHdr)
		}
	case wire.IPv6OptJumbo:
		return o.jumbo(ip, at)
	case wire.IPv6OptCALIPSO:
		return o.bad(route.DropIPInHdr)
	default:
		return o.unknown(ip, at, known)
	}
	return true
}

// unknown does with an option that nobody knows what its type asks for.
func (o *hopOptions) unknown(ip wire.IPv6, at int, known bool) bool {
	const skip, discard, report = 0x00, 0x40, 0x80
	switch action := ip[at] & 0xc0; {
	case known || action == discard:
		return o.bad(route.DropUnhandledProto)
	case action == skip:
		return true
	case action != report && ip.Dst()[0] == 0xff:
		return o.bad(route.DropUnhandledProto)
	}
	return o.problem(route.DropUnhandledProto, wire.ICMPv6UnknownOption, at)
}

// jumbo is RFC 2675; net/ipv6/exthdrs.c, ipv6_hop_jumbo.
func (o *hopOptions) jumbo(ip wire.IPv6, at int) bool {
	if ip[at+1] != 4 || at&3 != 2 {
		return o.bad(route.DropIPInHdr)
	}
	payload, length := int(binary.BigEndian.Uint32(ip[at+2:])), len(ip)
	if o.total != 0 {
		length = o.total // by such an option before
	}
	switch {
	case payload <= maxPlainPayload:
		return o.problem(route.DropIPInHdr, wire.ICMPv6ErroneousHeader, at+2)
	case ip.PayloadLen() != 0:
		return o.problem(route.DropIPInHdr, wire.ICMPv6ErroneousHeader, at)
	case payload > length-wire.IPv6Len:
		return o.bad(route.DropPktTooSmall)
	}
	o.total = wire.IPv6Len + payload
	return true
}

func blank(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
