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
