package route

import "proxyarpd/internal/wire"

// Serves6 reports whether IPv6 packets that come in by a link are forwarded at all.
func (t *Table) Serves6(in *Link) bool { return t.policy.IPv6 && in.MTU6 != 0 }

// owner6 is Owner for IPv6.
func (t *Table) owner6(packet []byte, in *Link) Verdict {
	ip := wire.IPv6(packet)
	switch {
	case !t.Serves6(in):
		return IgnoreProto
	case !ip.Valid() || !key6(ip[24:40]).forwardable6():
		return Local
	}
	f := flow6(ip, in)
	var keys *flowKeys
	if t.v6.dissect {
		k := dissect(ip, headerIPv6, false)
		f.setPorts(&k)
		keys = &k
	}
	route, _ := t.v6.lookup(&f)
	switch {
	case route != nil && (route.delivers() || route.inputs()):
		return Local
	case t.punted(f.dst):
		return Punt
	case route == nil || route.Type != TypeUnicast:
		return t.policy.owner(ToElsewhere, in, IPv6)
	}
	nh := t.nexthopFor6(route, ip, keys)
	return t.policy.owner(nh.class(t.Link(nh.Ifindex), IPv6), in, IPv6)
}

// flow6 is the flow of a packet that came in by a link (ip6_route_input). The kernel
// prefers routes that lead back over that link, among those of one metric.
func flow6(ip wire.IPv6, in *Link) flow {
	return flow{dst: ip.DstAddr(), src: ip.SrcAddr(), iif: in.Ifindex, near: in.Ifindex,
		tos: ip.TrafficClass(), label: ip.FlowLabel(), proto: ip.NextHeader()}
}
