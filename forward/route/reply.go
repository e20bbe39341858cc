package route

import (
	"net/netip"

	"proxyarpd/internal/wire"
)

// ErrorWay is the way of an ICMP error that this host makes.
type ErrorWay struct {
	Out       *Link
	Next      netip.Addr // neighbour to send to
	Source    netip.Addr // that the host sends from; invalid if it has no address at all
	MTU       int        // bytes, network layer
	TTL       uint8      // or hop limit
	Class     uint8      // traffic class, of IPv6
	FlowLabel uint32     // of IPv6
}

// ErrorWay finds the way of an ICMP error about an IPv4 packet that came in by a link
// (nil: that is not known) to an address (net/ipv4/icmp.c, __icmp_send and
// icmp_route_lookup). It is false if there is none that can be taken. about is
// read only.
func (t *Table) ErrorWay(about wire.IPv4, in *Link, e ICMPError, to netip.Addr) (way ErrorWay, ok bool) {
	asked := anyAddr // to have one chosen
	if t.host.ICMPFromInbound && in != nil {
		if a := t.selectAddr(in, about.SrcAddr(), scopeLink); a.IsValid() {
			asked = a
		}
	}
	// To rules, type and code stand where ports do (include/net/flow.h, union flowi_uli).
	route, _ := t.v4.lookup(&flow{dst: to, src: asked, iif: loopbackIfindex, tos: ErrorTOS(about),
		proto: wire.ProtoICMP, dport: uint16(e.Type)<<8 | uint16(e.Code)})
	if route == nil || route.Type != TypeUnicast {
		return way, false
	}
	nh := t.nexthopFor(route, about, nil)
	out := t.Link(nh.Ifindex)
	if out == nil || !out.Up() || nh.Encap {
		return way, false
	}
	way = ErrorWay{Out: out, Next: nh.Gateway, Source: asked, MTU: out.MTU, TTL: t.host.DefaultTTL}
	if !way.Next.IsValid() {
		way.Next = to
	}
	if route.MTU != 0 {
		way.MTU = route.MTU
	}
	if asked == anyAddr {
		way.Source = t.SourceFor(route, nh, out)
	}
	return way, true
}

// ErrorTOS is the TOS of an ICMP error about a packet: the packet's own (RT_TOS,
// include/net/route.h) with the precedence of internetwork control (net/ipv4/
// icmp.c, __icmp_send; RFC 1812 section 4.3.2.5).
func ErrorTOS(about wire.IPv4) uint8 {
	const precInternet = 0xc0
	return about.TOS()&0x1e | precInternet
}
