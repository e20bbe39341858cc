package route

import (
	"net/netip"

	"proxyarpd/internal/wire"
)

// Decide6 is Decide for an IPv6 packet that came in by a link that serves IPv6
// (Link.MTU6). Extension headers are not looked at; see Decision.Routed: the kernel
// looks at hop-by-hop options before all of this but for the first addresses, and at a
// router alert's then. Decision.Fragment is never set. Decision.Redirect does not know
// of routing headers.
func (t *Table) Decide6(ip wire.IPv6, length int, in *Link, d *Decision) {
	d.In = in
	if t.findWay6(ip, d) && t.checkForward6(ip, length, d) {
		resolve(d)
	}
}

// findWay6 checks the addresses (net/ipv6/ip6_input.c, ip6_rcv_core) and finds
// route and egress link (net/ipv6/route.c, ip6_route_input, ip6_pkt_drop).
func (t *Table) findWay6(ip wire.IPv6, d *Decision) bool {
	src, dst := key6(ip[8:24]), key6(ip[24:40])
	switch {
	case src.multicast6(), src.loopback6(), dst.loopback6():
		d.drop(DropIPInHdr)
		return false
	case dst.multicast6():
		d.drop(IgnoreType)
		return false
	case !dst.forwardable6():
		d.drop(Local)
		return false
	}
	f := flow6(ip, d.In)
	var keys *flowKeys
	if t.v6.dissect {
		k := dissect(ip, headerIPv6, false)
		f.setPorts(&k)
		keys = &k
	}
	d.Route, d.Rule = t.v6.lookupKey(&f, dst)
	switch {
	case d.Route != nil && (d.Route.delivers() || d.Route.inputs()):
		d.drop(Local)
		return false
	case t.punted(f.dst):
		d.drop(Punt)
		return false
	case d.Route == nil:
		d.dropWith(DropIPInNoRoutes, wire.ICMPv6DestUnreachable, wire.ICMPv6NoRoute, 0)
		return false
	case d.Route.Type != TypeUnicast:
		refused6(d)
		return false
	}
	d.Nexthop = t.nexthopFor6(d.Route, ip, keys)
	if d.Next = d.Nexthop.Gateway; !d.Next.IsValid() {
		d.Next = f.dst
	}
	d.Out = t.Link(d.Nexthop.Ifindex)
	class := d.Nexthop.class(d.Out, IPv6)
	if class == ToLocal {
		d.drop(Local)
		return false
	}
	if class == ToUnserved && t.policy.owner(class, d.In, IPv6) != NotSpecified {
		d.drop(PuntTransit)
		return false
	}
	if !t.validateSource6(&f, src, d.In, d.Nexthop.Ifindex, d) || !t.leaves(class, d, IPv6, wire.ICMPv6TimeExceeded) {
		return false
	}
	d.Routed = true
	return true
}

// refused6 ends packets whose route is not unicast, with the kernel's ICMPv6 codes
// (net/ipv6/route.c: ip6_rt_init_dst_reject, ip6_pkt_discard, ip6_pkt_prohibit).
func refused6(d *Decision) {
	switch d.Route.Type {
	case TypeBlackhole:
		d.drop(DropRouteBlackhole)
	case TypeProhibit:
		d.dropWith(DropRouteProhibit, wire.ICMPv6DestUnreachable, wire.ICMPv6AdminProhibited, 0)
	case TypeUnreachable:
		d.dropWith(DropRouteUnreachable, wire.ICMPv6DestUnreachable, wire.ICMPv6NoRoute, 0)
	default:
		d.dropWith(DropIPInNoRoutes, wire.ICMPv6DestUnreachable, wire.ICMPv6NoRoute, 0)
	}
}

// checkForward6 is ip6_forward up to the decrement of the hop limit
// (net/ipv6/ip6_output.c).
func (t *Table) checkForward6(ip wire.IPv6, length int, d *Decision) bool {
	if ip.HopLimit() <= 1 {
		d.dropWith(DropTTLExpired, wire.ICMPv6TimeExceeded, 0, 0)
		return false
	}
	switch src := key6(ip[8:24]); {
	case d.In == d.Out:
		d.Redirect = t.redirects6(ip.SrcAddr(), ip.DstAddr(), d)
	case src.unspecified6():
		d.drop(DropIPInAddrErrors)
		return false
	case src.linkLocal6():
		d.dropWith(DropIPInAddrErrors, wire.ICMPv6DestUnreachable, wire.ICMPv6BeyondScope, 0)
		return false
	}
	d.MTU = d.Out.MTU6 // include/net/ip6_route.h, ip6_dst_mtu_maybe_forward
	if d.Route.MTULock && d.Route.MTU != 0 {
		d.MTU = d.Route.MTU
	}
	d.MTU = max(d.MTU, wire.IPv6MinMTU)
	switch {
	case length < 0:
		d.drop(DropGSO)
		return false
	case length > d.MTU:
		d.dropWith(DropPktTooBig, wire.ICMPv6PacketTooBig, 0, uint32(d.MTU))
		return false
	}
	// A route's MTU that is not locked counts when the packet leaves, behind ip6_forward
	// (ip6_finish_output, ip6_fragment).
	if mtu := d.Route.MTU; mtu != 0 && !d.Route.MTULock {
		if d.MTU = min(d.MTU, mtu); length > d.MTU {
			d.Hopped = true
			d.dropWith(DropPktTooBig, wire.ICMPv6PacketTooBig, 0, uint32(d.MTU))
			return false
		}
	}
	return true
}

// redirects6 reports whether the sender of a packet that leaves by the link that it
// came by is told of the better next hop (net/ipv6/ndisc.c, ndisc_send_redirect): it
// must be a neighbour itself, and what it is told an address on the link.
func (t *Table) redirects6(src, dst netip.Addr, d *Decision) bool {
	own := d.In.LinkLocal()
	if !own.IsValid() || d.Next != dst && !isLinkLocal6(d.Next) {
		return false
	}
	if isLinkLocal6(src) {
		return !d.In.owns6(src)
	}
	if src.IsUnspecified() {
		return false
	}
	back, _ := t.v6.lookup(&flow{dst: src, src: own, iif: loopbackIfindex, near: d.In.Ifindex, proto: wire.ProtoICMPv6,
		dport: wire.ICMPv6Redirect << 8})
	return back != nil && back.Type == TypeUnicast && !back.Nexthops[0].Gateway.IsValid() && back.leadsOver(d.In.Ifindex)
}

// validateSource6 checks the source of a packet that leaves by the interface oif, as
// validateSource does: the way back has to lead where it came from (LinkConf6.RPFilter).
// The kernel has no such check for IPv6. A link-local source leaves no link. src is the
// key of f.src.
func (t *Table) validateSource6(f *flow, src fibKey, in *Link, oif int32, d *Decision) bool {
	mode := in.Conf6.RPFilter
	if mode == 0 || src.linkLocal6() {
		return true
	}
	reverse := f.reverse(oif)
	reverse.near = in.Ifindex
	back, _ := t.v6.lookupKey(&reverse, src)
	switch {
	case src.unspecified6() || back == nil || back.refuses():
	case back.Type == TypeLocal:
		d.drop(DropIPLocalSource)
		return false
	case back.Type != TypeUnicast:
		d.drop(DropIPInvalidSource)
		return false
	case mode != 1 || back.leadsOver(in.Ifindex):
		return true
	}
	d.drop(DropIPRPFilter)
	return false
}
