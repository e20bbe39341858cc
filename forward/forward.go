// Package forward is the datapath: it takes frames from a Port, decides by the
// host's routing table, and sends them on as Linux's ip_forward would.
//
// One goroutine, Loop.Run, owns the way of a packet: receive a batch, step
// each frame (parse, check, look up, rewrite), send the batch. Everything it
// reads - routes, links, neighbours - is an immutable Table behind an atomic
// pointer. The way of a forwarded packet has no lock, allocation, clock,
// logger or system call of its own.
package forward

import (
	"encoding/binary"
	"net/netip"

	"proxyarpd/internal/wire"
)

// result is what step found out about a frame.
type result struct {
	clock    func() uint32 // ms since midnight UTC, for IP timestamps
	verdict  Verdict
	in, out  *Link
	rule     *Rule // that led to route
	route    *Route
	nexthop  *Nexthop
	next     netip.Addr // neighbour to send to
	options  ipOptions
	compiled bool // options are those of the packet
	relink   bool // the way out has another link layer than the way in, or none
	redirect bool // the sender is to be told of a better way
	neigh    *Neighbour
	mtu      int       // of the way out, bytes at the network layer
	icmp     icmpError // to be sent to the source, none if Type is 0
	fragment bool      // verdict is Forward, but in pieces
}

type icmpError struct {
	Type, Code uint8
	Rest       uint32
}

func (r *result) drop(v Verdict) { r.verdict = v }

func (r *result) dropWith(v Verdict, typ, code uint8, rest uint32) {
	r.verdict, r.icmp = v, icmpError{Type: typ, Code: code, Rest: rest}
}

// step decides about one frame and, where the verdict is Forward or Queue,
// rewrites it in place: padding cut off, TTL, checksum; MACs for Forward.
// It does no I/O and knows no clock.
func step(t *Table, f *Frame, r *result) {
	*r = result{clock: r.clock}
	if r.in = t.Link(f.Ifindex); r.in != nil {
		f.Slot = r.in.Slot // whatever comes of the frame, the ring's filter counted it there
	}
	switch {
	case f.Lost != NotSpecified:
		r.drop(f.Lost)
		return
	case r.in == nil:
		r.drop(DropIfUnknown)
		return
	}
	ip, ok := parse(f, r)
	if !ok {
		return
	}
	if !lookup(t, ip, r) {
		return
	}
	if ip.HeaderLen() > wire.IPv4MinLen && !checkOptions(t, ip, r) {
		return
	}
	if !checkForward(ip, f, r) {
		return
	}
	finish(t, ip, f, r)
}

// checkOptions is what the kernel does with the options of a received packet
// once it has a route (net/ipv4/ip_input.c, ip_rcv_options).
func checkOptions(t *Table, ip wire.IPv4, r *result) bool {
	r.compiled = true
	r.options.compile(ip, &hostEnv{t: t, in: r.in, src: ip.SrcAddr(), tos: ip.TOS(), clock: r.clock})
	switch {
	case r.options.problem != 0:
		r.dropWith(DropIPInHdr, wire.ICMPParamProblem, 0, uint32(r.options.problem)<<24)
		return false
	case r.options.srr == 0:
		return true
	case !r.in.Conf.AcceptSourceRoute:
		r.drop(DropSourceRoute)
		return false
	case r.options.strict:
		// The destination is not this host, so the route does not lead over it
		// (net/ipv4/ip_options.c, ip_options_rcv_srr).
		r.dropWith(DropIPInHdr, wire.ICMPParamProblem, 0, 16<<24)
		return false
	}
	return true
}

// parse takes the frame down to a sound IPv4 header (net/ipv4/ip_input.c,
// ip_rcv_core) and cuts link-layer padding off.
func parse(f *Frame, r *result) (wire.IPv4, bool) {
	if f.Tagged {
		r.drop(IgnoreTagged)
		return nil, false
	}
	if f.Ethernet {
		eth := f.ethernet()
		if !eth.Valid() {
			r.drop(DropPktTooSmall)
			return nil, false
		}
		if eth.Type() != wire.EtherTypeIPv4 {
			r.drop(IgnoreProto)
			return nil, false
		}
		if f.PktType != packetHost {
			if f.PktType != packetOtherHost {
				r.drop(IgnoreType)
				return nil, false
			}
			if !r.in.answersTo(eth.Dst()) {
				r.drop(DropOtherHost)
				return nil, false
			}
		}
	}
	start := VnetLen + f.l2len()
	ip := wire.IPv4(f.Buf[start:])
	switch {
	case !ip.Valid() || !ip.HeaderValid():
		r.drop(DropIPInHdr)
		return nil, false
	case !ip.ChecksumOK():
		r.drop(DropIPCsum)
		return nil, false
	}
	total := ip.TotalLen()
	if total == 0 && Vnet(f.Buf).gso() == gsoTCPv4 {
		total = len(ip) // BIG TCP: include/linux/ip.h, iph_totlen
	}
	switch {
	case total > len(ip):
		r.drop(DropPktTooSmall)
		return nil, false
	case total < ip.HeaderLen():
		r.drop(DropIPInHdr)
		return nil, false
	}
	if v := Vnet(f.Buf); total < len(ip) && v.flags()&vnetNeedsCsum != 0 && v.csumStart()+v.csumOffset()+2 > f.l2len()+total {
		r.drop(DropPktTooSmall) // pskb_trim_rcsum: the checksum to be filled in is cut off
		return nil, false
	}
	if v := Vnet(f.Buf); v.headerLen() > f.l2len()+total {
		v.setHeaderLen(f.l2len() + total) // a hint, but one that packet_snd checks
	}
	f.Buf = f.Buf[:start+total]
	return ip[:total], true
}

// lookup checks the addresses and finds route and egress link
// (net/ipv4/route.c, ip_route_input_slow and ip_error).
func lookup(t *Table, ip wire.IPv4, r *result) bool {
	src4, dst4 := ip.Src(), ip.Dst()
	switch {
	case src4[0]&0xf0 == 0xe0, src4 == [4]byte{255, 255, 255, 255}, src4 == [4]byte{}: // 0/8 is unicast since Linux 5.3, but for 0.0.0.0
		r.drop(DropIPInvalidSource)
		return false
	case dst4 == [4]byte{}:
		r.drop(DropIPInvalidDest)
		return false
	case (src4[0] == 127 || dst4[0] == 127) && !r.in.Conf.RouteLocalnet:
		r.drop(DropIPLocalnet)
		return false
	case dst4[0]&0xf0 == 0xe0, dst4 == [4]byte{255, 255, 255, 255}:
		r.drop(IgnoreType)
		return false
	}
	f := t.flowOf(ip, r.in.Ifindex)
	r.route, r.rule = t.lookup(&f)
	switch {
	case r.route != nil && r.route.delivers():
		r.drop(Local)
		return false
	case t.punted(f.dst):
		r.drop(Punt)
		return false
	case r.route == nil:
		r.dropWith(DropIPInNoRoutes, wire.ICMPDestUnreachable, wire.ICMPNetUnreachable, 0)
		return false
	case r.route.Type != RouteUnicast:
		noRoute(r)
		return false
	}
	r.nexthop = t.nexthopFor(r.route, ip)
	r.next = r.nexthop.Gateway
	if !r.next.IsValid() {
		r.next = f.dst
	}
	r.out = t.Link(r.nexthop.Ifindex)
	class := t.leadsTo(r.nexthop)
	if class == ToUnserved && t.policy.owner(class, r.in) != NotSpecified {
		r.drop(PuntTransit)
		return false
	}
	ok, onlink := t.validateSource(&f, r.in, r.nexthop.Ifindex, r)
	switch {
	case !ok:
		return false
	case class == ToUnserved:
		unserved(t, ip, r)
		return false
	case class == ToElsewhere && !r.in.Workload() && !t.policy.Transit && !r.in.KernelForwards():
		r.drop(DropTransit) // else it was taken too early, and goes the kernel's way by our hand
		return false
	}
	r.redirect = onlink && r.in == r.out && r.out.Conf.SendRedirects &&
		(r.out.Conf.SharedMedia || r.out.onSubnet(f.src, r.nexthop.Gateway))
	return true
}

// forwardable reports whether a router may forward to an address at all: not to
// multicast, broadcast and loopback addresses, nor to 0.0.0.0.
func forwardable(dst netip.Addr) bool {
	b := dst.As4()
	return b != [4]byte{} && b[0] != 127 && b[0]&0xf0 != 0xe0 && b != [4]byte{255, 255, 255, 255}
}

// unserved ends a packet that nobody can send on.
func unserved(t *Table, ip wire.IPv4, r *result) {
	switch {
	case r.nexthop.Encap:
		r.drop(DropRouteEncap)
	case r.nexthop.Ifindex == loopbackIfindex:
		// The kernel hands such a packet to itself until its TTL has run out.
		if ip.HeaderLen() > wire.IPv4MinLen && !checkOptions(t, ip, r) {
			return
		}
		for ip.TTL() > 1 {
			ip.DecrementTTL()
		}
		r.dropWith(DropTTLExpired, wire.ICMPTimeExceeded, 0, 0)
	default:
		r.drop(DropIfUnknown)
	}
}

// flowOf is the flow of a received packet (net/ipv4/route.c, ip_route_input_slow).
func (t *Table) flowOf(ip wire.IPv4, iif int32) flow {
	f := flow{dst: ip.DstAddr(), src: ip.SrcAddr(), iif: iif, tos: ip.TOS()}
	if t.dissect {
		k := dissect(ip, false)
		f.proto = k.proto
		f.sport, f.dport = binary.BigEndian.Uint16(k.ports[:]), binary.BigEndian.Uint16(k.ports[2:])
	}
	return f
}

// noRoute ends packets whose route is not unicast, with the kernel's ICMP
// codes (net/ipv4/fib_semantics.c, fib_props; net/ipv4/route.c, ip_error).
func noRoute(r *result) {
	switch r.route.Type {
	case RouteBlackhole:
		r.drop(DropRouteBlackhole)
	case RouteProhibit:
		r.dropWith(DropRouteProhibit, wire.ICMPDestUnreachable, wire.ICMPPacketFiltered, 0)
	case RouteUnreachable:
		code := uint8(wire.ICMPHostUnreachable)
		if r.route == ruleUnreachable {
			code = wire.ICMPNetUnreachable // net/ipv4/fib_rules.c, fib4_rule_action
		}
		r.dropWith(DropRouteUnreachable, wire.ICMPDestUnreachable, code, 0)
	default:
		r.dropWith(DropIPInNoRoutes, wire.ICMPDestUnreachable, wire.ICMPNetUnreachable, 0)
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
func checkForward(ip wire.IPv4, f *Frame, r *result) bool {
	if ip.TTL() <= 1 {
		r.dropWith(DropTTLExpired, wire.ICMPTimeExceeded, 0, 0)
		return false
	}
	if r.mtu = r.out.MTU; r.route.MTU != 0 {
		r.mtu = r.route.MTU // counts alone (include/net/ip.h, ip_dst_mtu_maybe_forward)
	}
	length := len(ip)
	if vnet := Vnet(f.Buf); vnet.gso() != gsoNone {
		if length = segmentLen(ip, vnet); length < 0 {
			r.drop(DropGSO)
			return false
		}
		if vnet.gso() == gsoUDPL4 && vnet.flags()&vnetNeedsCsum == 0 {
			partialChecksum(ip, vnet, f.l2len())
		}
	}
	if length > r.mtu {
		if ip.DontFragment() {
			r.dropWith(DropPktTooBig, wire.ICMPDestUnreachable, wire.ICMPFragNeeded, uint32(r.mtu)&0xffff)
			return false
		}
		r.fragment = true
	}
	return true
}

// segmentLen is the length at the network layer of the segments that a GSO
// frame stands for (net/core/gso.c, skb_gso_network_seglen), or -1 if type and
// packet don't fit together.
func segmentLen(ip wire.IPv4, v Vnet) int {
	hlen := ip.HeaderLen()
	l4 := ip[hlen:]
	if v.gsoSize() == 0 {
		return -1
	}
	switch v.gso() {
	case gsoTCPv4:
		if ip.Protocol() == wire.ProtoTCP && len(l4) >= 20 {
			if thl := int(l4[12]>>4) * 4; thl >= 20 && thl <= len(l4) {
				return hlen + thl + v.gsoSize()
			}
		}
	case gsoUDPL4:
		if ip.Protocol() == wire.ProtoUDP && len(l4) >= 8 {
			return hlen + 8 + v.gsoSize()
		}
	}
	return -1
}

// finish resolves the next hop and rewrites the packet (net/ipv4/ip_output.c,
// ip_finish_output2).
func finish(t *Table, ip wire.IPv4, f *Frame, r *result) {
	if r.verdict = Forward; r.out.ethernet() {
		if r.neigh = r.out.Neighbour(r.next); r.neigh == nil || !r.neigh.Valid {
			r.neigh, r.verdict = nil, Queue // without carrier too: in the end its sender is told
		}
	}
	if r.verdict == Forward && !r.out.Up() {
		r.drop(DropIfDown)
		return
	}
	ip.DecrementTTL()
	if r.compiled && !r.redirect { // else a redirect quotes it first
		r.stamp(t, ip)
	}
	r.relink = !f.Ethernet || !r.out.ethernet()
	if r.neigh != nil && !r.relink {
		setMACs(f.ethernet(), r.neigh, r.out)
	}
}

// stamp fills in what a router fills in of IP options on the way out.
func (r *result) stamp(t *Table, ip wire.IPv4) {
	r.options.forward(ip, addr4(t.sourceFor(r.route, r.nexthop, r.out)))
}

func setMACs(eth wire.Ethernet, n *Neighbour, out *Link) {
	eth.SetDst(n.MAC)
	eth.SetSrc(out.MAC)
}
