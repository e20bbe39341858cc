package arpd

import "proxyarpd/internal/wire"

// JudgeStations decides by the MACs of a request or solicitation: those of the Ethernet
// header, and that of who asks, to which the answer goes. NotSpecified is no objection.
func (p *Policy) JudgeStations(dst, src, asker wire.MAC) Verdict {
	switch {
	case !dst.IsMulticast() && !p.ours(dst):
		return IgnoreOtherhost
	case p.isUs(src) || p.isUs(asker):
		return IgnoreOwnFrame
	case src.IsMulticast() || src.IsZero() || asker.IsMulticast() || asker.IsZero():
		return DropInvalidMAC
	}
	return NotSpecified
}

// Judge decides about who asks for an address, once nothing is wrong with the form. The
// rules are the same for ARP and neighbour discovery; so are the verdicts, which are
// ARP's ([Verdict.ForND]).
func (p *Policy) Judge(a Asker) Verdict {
	switch {
	case p.Uplink != nil:
		return p.judgeUplink(a)
	case p.IsGateway(a.Target):
		return Answered // a probe too: RFC 5227 section 2.4, we hold the address
	}
	decision := p.route(a)
	switch {
	case decision == ProxyLocal:
		return Local
	case a.IsProbe():
		// An answer would tell the prober that its address is taken.
		return IgnoreProbe
	case decision != ProxyYes || !p.inProxy(a.Target):
		return IgnoreNotProxied
	case p.uses(a):
		// It is on its way to or from another host: the route leads there yet, or
		// already. Who has an address is not told that somebody else has it.
		return IgnoreOwnAddress
	}
	return Answered
}

// judgeUplink decides about a request on an uplink for an address of another than
// the sender. The rules are those of arp_process for proxy_arp, and more:
//   - the route has to lead to a workload, not just to another interface;
//   - of several interfaces that hear the request one answers, as with arp_filter;
//   - a probe is answered: the address is in use here (RFC 5227 section 2.1.1, RFC 4862
//     section 5.4), and who probes for it is told so by nobody else. The kernel proxies
//     no probe of ARP;
//   - proxy_delay and proxy_qlen are not followed: they keep the answers of several
//     proxies apart, and here one host has the route;
//   - medium_id and proxy_arp_pvlan are not followed.
func (p *Policy) judgeUplink(a Asker) Verdict {
	decision := p.uplink(a)
	switch {
	case decision == UplinkLocal:
		return Local
	case !within(p.Uplink.Targets, a.Target):
		return IgnoreNotProxied
	case p.Uplink.Unforwarded:
		return IgnoreUnforwarded
	case decision == UplinkNo:
		return IgnoreNoWorkload
	case decision == UplinkOwn:
		return IgnoreOwnAddress
	case decision == UplinkElsewhere:
		return IgnoreWayBack
	}
	return Answered
}

// lacksRoute reports whether nothing but Routes stands against an answer to a request
// that was found unrouted.
func (p *Policy) lacksRoute(a Asker) bool {
	return p.Routes != nil && (p.Uplink != nil || p.inProxy(a.Target))
}

// unrouted reports whether v is the verdict of a request for a target that Routes does
// not know yet, among others.
func (p *Policy) unrouted(v Verdict) bool {
	if p.Uplink != nil {
		return v == IgnoreNoWorkload || v == IgnoreNDNoWorkload
	}
	return v == IgnoreNotProxied || v == IgnoreNDNotProxied
}

// fromUnrouted reports whether a request that was answered is one for a gateway by an
// address that is not routed to this interface. A probe has no address, and a link-local
// address of IPv6 no route.
func (p *Policy) fromUnrouted(a Asker) bool {
	return p.Routes != nil && p.IsGateway(a.Target) && !HasNoRoute(a.IP) && !p.Routes.Routed(a.IP, p.Index)
}
