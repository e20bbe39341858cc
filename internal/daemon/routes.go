package daemon

import (
	"net/netip"
	"sync/atomic"

	"proxyarpd/arpd"
	"proxyarpd/forward/route"
)

// proxyRoutes answers arpd's question from the table that the datapath uses.
type proxyRoutes struct{ table atomic.Pointer[route.Table] }

// Routed implements arpd.Routes. The route is the one that packets of this host
// to the sender would take.
func (p *proxyRoutes) Routed(sender netip.Addr, ifindex int) bool {
	t := p.table.Load()
	return t != nil && t.LeadsTo(sender, int32(ifindex))
}

// Uses implements arpd.Routes.
func (p *proxyRoutes) Uses(address netip.Addr, station macAddr, ifindex int) bool {
	t := p.table.Load()
	return t != nil && uses(t.Link(int32(ifindex)), address, station)
}

// uses reports whether the neighbour table says that the station has the address.
func uses(l *route.Link, address netip.Addr, station macAddr) bool {
	if l == nil {
		return false
	}
	n := l.Neighbour(address)
	return n != nil && n.Valid && n.MAC == station
}

// Uplink implements arpd.Routes: the target needs a unicast route to a workload, the
// sender has to be accepted by rp_filter, as in the kernel (net/ipv4/arp.c,
// arp_process), and of several interfaces that may hear the request the one answers
// that leads back to the sender (arp_filter). To a link-local sender each leads back: a
// router of the network solicits from such an address for what it forwards
// (net/ipv6/ndisc.c, ndisc_send_ns).
func (p *proxyRoutes) Uplink(target, sender netip.Addr, asker macAddr, ifindex int) arpd.UplinkDecision {
	t := p.table.Load()
	if t == nil {
		return arpd.UplinkNo
	}
	in := t.Link(int32(ifindex))
	out, local := t.ToWorkload(target, sender, int32(ifindex))
	switch {
	case local:
		return arpd.UplinkLocal
	case in == nil || out == nil:
		return arpd.UplinkNo
	case uses(out, target, asker):
		return arpd.UplinkOwn
	case arpd.HasNoRoute(sender):
		if t.Beside(target) != in {
			return arpd.UplinkElsewhere
		}
	case !t.Returns(target, sender, out, in.Ifindex), !t.Routed(sender, target, in, out.Ifindex):
		return arpd.UplinkElsewhere
	}
	return arpd.UplinkYes
}

// Proxy implements arpd.Routes by the kernel's rules (net/ipv4/arp.c,
// arp_process): the target needs a unicast route that leaves by another
// interface; a local one is the kernel's to answer.
func (p *proxyRoutes) Proxy(target, sender netip.Addr, ifindex int) arpd.ProxyDecision {
	t := p.table.Load()
	if t == nil {
		return arpd.ProxyNo
	}
	r := t.Lookup(target, sender, int32(ifindex), 0)
	switch {
	case r == nil:
		return arpd.ProxyNo
	case r.Type == route.TypeLocal:
		return arpd.ProxyLocal
	case r.Type != route.TypeUnicast:
		return arpd.ProxyNo
	}
	if nh := t.SelectFor(r, sender, target); nh == nil || nh.Ifindex == int32(ifindex) {
		return arpd.ProxyNo
	} else if in := t.Link(int32(ifindex)); in == nil || !t.Routed(sender, target, in, nh.Ifindex) {
		return arpd.ProxyNo // rp_filter gates answers, as in the kernel
	}
	return arpd.ProxyYes
}
