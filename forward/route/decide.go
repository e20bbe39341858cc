package route

import (
	"net/netip"

	"proxyarpd/internal/wire"
)

// Decision is what is to become of a packet, and why. The links, rules, routes
// and neighbours that it points to are those of the Table that decided.
type Decision struct {
	Verdict   Verdict
	ICMP      ICMPError  // that its source is to be sent
	In, Out   *Link      // Out is nil where it got no further
	Rule      *Rule      // that led to Route
	Route     *Route     // nil: no table has one
	Nexthop   *Nexthop   // of Route, the one for the packet's flow
	Next      netip.Addr // neighbour to send to
	Neighbour *Neighbour // what is known of Next; nil: nothing, or Out needs no MAC
	MTU       int        // of the way out, bytes at the network layer
	Fragment  bool       // Verdict is Forward or Queue, but in pieces of MTU bytes
	Redirect  bool       // the sender is to be told of a better way
	// Routed says that the packet has a way and may take it: the kernel looks at
	// its IP options now, before the TTL, the length and the next hop.
	Routed bool
	// Looped says that the way leads over lo. The kernel hands such a packet to
	// itself until its TTL has run out.
	Looped bool
	// Hopped says of an IPv6 packet that is dropped that its hop limit is one less by
	// then: the error quotes it so.
	Hopped bool
}

// ICMPError is an ICMP or ICMPv6 error to be sent; none if Type is 0. Rest is the
// second word of its header (RFC 792, RFC 4443), host byte order.
type ICMPError struct {
	Type, Code uint8
	Rest       uint32
}

func (d *Decision) drop(v Verdict) { d.Verdict = v }

func (d *Decision) dropWith(v Verdict, typ, code uint8, rest uint32) {
	d.Verdict, d.ICMP = v, ICMPError{Type: typ, Code: code, Rest: rest}
}

// Decide says what is to become of an IPv4 packet that came in by a link of the table.
// It moves nothing: ip, which must begin with a sound header, is read only and
// not kept, and no clock, limit or queue is asked. IP options are not looked at;
// see Decision.Routed. length is what counts for the MTU, the bytes at the
// network layer of each packet that ip stands for (its own, or a GSO segment's);
// a negative one says that it stands for none that could be. d must be zero.
func (t *Table) Decide(ip wire.IPv4, length int, in *Link, d *Decision) {
	d.In = in
	if t.findWay(ip, d) && checkForward(ip, length, d) {
		resolve(d)
	}
}

// findWay checks the addresses and finds route and egress link
// (net/ipv4/route.c, ip_route_input_slow and ip_error).
func (t *Table) findWay(ip wire.IPv4, d *Decision) bool {
	src4, dst4 := ip.Src(), ip.Dst()
	switch {
	case src4[0]&0xf0 == 0xe0, src4 == [4]byte{255, 255, 255, 255}, src4 == [4]byte{}: // 0/8 is unicast since Linux 5.3, but for 0.0.0.0
		d.drop(DropIPInvalidSource)
		return false
	case dst4 == [4]byte{}:
		d.drop(DropIPInvalidDest)
		return false
	case (src4[0] == 127 || dst4[0] == 127) && !d.In.Conf.RouteLocalnet:
		d.drop(DropIPLocalnet)
		return false
	case dst4[0]&0xf0 == 0xe0, dst4 == [4]byte{255, 255, 255, 255}:
		d.drop(IgnoreType)
		return false
	}
	f := flow{dst: ip.DstAddr(), src: ip.SrcAddr(), iif: d.In.Ifindex, tos: ip.TOS()}
	var keys *flowKeys
	if t.v4.dissect {
		k := dissect(ip, headerIPv4, false)
		f.setPorts(&k)
		keys = &k
	}
	d.Route, d.Rule = t.v4.lookupKey(&f, key4(ip[16:20]))
	switch {
	case d.Route != nil && d.Route.delivers():
		d.drop(Local)
		return false
	case t.punted(f.dst):
		d.drop(Punt)
		return false
	case d.Route == nil:
		d.dropWith(DropIPInNoRoutes, wire.ICMPDestUnreachable, wire.ICMPNetUnreachable, 0)
		return false
	case d.Route.Type != TypeUnicast:
		refused(d)
		return false
	}
	d.Nexthop = t.nexthopFor(d.Route, ip, keys)
	if d.Next = d.Nexthop.Gateway; !d.Next.IsValid() {
		d.Next = f.dst
	}
	d.Out = t.Link(d.Nexthop.Ifindex)
	class := d.Nexthop.class(d.Out, IPv4)
	if class == ToUnserved && t.policy.owner(class, d.In, IPv4) != NotSpecified {
		d.drop(PuntTransit)
		return false
	}
	ok, onlink := t.validateSource(&f, key4(ip[12:16]), d.In, d.Nexthop.Ifindex, d)
	if !ok || !t.leaves(class, d, IPv4, wire.ICMPTimeExceeded) {
		return false
	}
	d.Redirect = onlink && d.In == d.Out && d.Out.Conf.SendRedirects &&
		(d.Out.Conf.SharedMedia || d.Out.onSubnet(f.src, d.Nexthop.Gateway))
	d.Routed = true
	return true
}

// forwardable reports whether a router may forward to an address at all: not to
// multicast, broadcast and loopback addresses, nor to 0.0.0.0.
func forwardable(dst netip.Addr) bool {
	b := dst.As4()
	return b != [4]byte{} && b[0] != 127 && b[0]&0xf0 != 0xe0 && b != [4]byte{255, 255, 255, 255}
}

// leaves reports whether a packet of a class may go on; else it ends here. expired
// is the type of time exceeded.
func (t *Table) leaves(class Class, d *Decision, family Family, expired uint8) bool {
	switch {
	case class == ToUnserved:
		unserved(d, expired)
		return false
	case class == ToElsewhere && !d.In.Workload() && !t.policy.Transit && !d.In.kernelForwards(family):
		d.drop(DropTransit) // else it was taken too early, and goes the kernel's way by our hand
		return false
	}
	return true
}

// unserved ends a packet that nobody can send on.
func unserved(d *Decision, expired uint8) {
	switch {
	case d.Nexthop.Encap:
		d.drop(DropRouteEncap)
	case d.Nexthop.Ifindex == loopbackIfindex:
		d.Routed, d.Looped = true, true
		d.dropWith(DropTTLExpired, expired, 0, 0)
	default:
		d.drop(DropIfUnknown)
	}
}

// refused ends packets whose route is not unicast, with the kernel's ICMP
// codes (net/ipv4/fib_semantics.c, fib_props; net/ipv4/route.c, ip_error).
func refused(d *Decision) {
	switch d.Route.Type {
	case TypeBlackhole:
		d.drop(DropRouteBlackhole)
	case TypeProhibit:
		d.dropWith(DropRouteProhibit, wire.ICMPDestUnreachable, wire.ICMPPacketFiltered, 0)
	case TypeUnreachable:
		code := uint8(wire.ICMPHostUnreachable)
		if d.Route == ruleUnreachable {
			code = wire.ICMPNetUnreachable // net/ipv4/fib_rules.c, fib4_rule_action
		}
		d.dropWith(DropRouteUnreachable, wire.ICMPDestUnreachable, code, 0)
	default:
		d.dropWith(DropIPInNoRoutes, wire.ICMPDestUnreachable, wire.ICMPNetUnreachable, 0)
	}
}

// punted reports whether the operator left a destination to the kernel.
func (t *Table) punted(dst netip.Addr) bool {
	for _, p := range t.policy.Punt {
		if p.Contains(dst) {
			return true
		}
	}
	return false
}

// checkForward is ip_forward up to the decrement of the TTL
// (net/ipv4/ip_forward.c).
func checkForward(ip wire.IPv4, length int, d *Decision) bool {
	if ip.TTL() <= 1 {
		d.dropWith(DropTTLExpired, wire.ICMPTimeExceeded, 0, 0)
		return false
	}
	if d.MTU = d.Out.MTU; d.Route.MTU != 0 {
		d.MTU = d.Route.MTU // counts alone (include/net/ip.h, ip_dst_mtu_maybe_forward)
	}
	switch {
	case length < 0:
		d.drop(DropGSO)
		return false
	case length <= d.MTU:
	case ip.DontFragment():
		d.dropWith(DropPktTooBig, wire.ICMPDestUnreachable, wire.ICMPFragNeeded, uint32(d.MTU)&0xffff)
		return false
	default:
		d.Fragment = true
	}
	return true
}

// resolve finds what is known of the next hop (net/ipv4/ip_output.c,
// ip_finish_output2).
func resolve(d *Decision) {
	if d.Verdict = Forward; d.Out.Ethernet() {
		if d.Neighbour = d.Out.Neighbour(d.Next); d.Neighbour == nil || !d.Neighbour.Valid {
			d.Verdict = Queue // without carrier too: in the end its sender is told
		}
	}
	if d.Verdict == Forward && !d.Out.Up() {
		d.drop(DropIfDown)
	}
}
