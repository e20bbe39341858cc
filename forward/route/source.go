package route

import (
	"net/netip"
	"slices"
)

// validateSource is net/ipv4/fib_frontend.c, fib_validate_source, for a packet
// that came in on a link and leaves by another: it may not bear an address of
// this host, and with rp_filter the way back has to lead where it came from. ok
// is false if it may not pass; onlink, that its source is a neighbour on the
// link, for which alone redirects are sent. src is the key of f.src.
func (t *Table) validateSource(f *flow, src fibKey, in *Link, oif int32, d *Decision) (ok, onlink bool) {
	mode := in.Conf.RPFilter
	if mode == 0 && (in.Ifindex != oif || !in.Conf.SendRedirects) {
		if in.Conf.AcceptLocal || t.v4.customRules || !t.isAddress(src) {
			if !t.v4.customRules || in.Conf.AcceptLocal {
				return true, false
			}
			// With rules of its own the host looks the source up in full.
		} else {
			d.drop(DropIPLocalSource)
			return false, false
		}
	}
	reverse := f.reverse(oif)
	back, _ := t.v4.lookupKey(&reverse, src)
	switch {
	case back == nil || back.refuses():
		if mode != 0 {
			d.drop(DropIPRPFilter)
		}
		return mode == 0, false
	case back.Type == TypeLocal && in.Conf.AcceptLocal:
	case back.Type == TypeLocal:
		d.drop(DropIPLocalSource)
		return false, false
	case back.Type != TypeUnicast:
		d.drop(DropIPInvalidSource)
		return false, false
	}
	for i := range back.Nexthops {
		if back.Nexthops[i].Ifindex == in.Ifindex {
			return true, !back.Nexthops[0].Gateway.IsValid() // the scope of the first one counts
		}
	}
	switch {
	case len(in.addresses[IPv4]) == 0 && mode != 0, mode == 1:
		d.drop(DropIPRPFilter)
		return false, false
	}
	return true, false
}

// Routed reports whether the source validation of a link lets a sender in: for ARP
// and neighbour discovery.
func (t *Table) Routed(src, dst netip.Addr, in *Link, oif int32) bool {
	var d Decision
	if src.Is6() {
		return t.validateSource6(&flow{dst: dst, src: src, iif: in.Ifindex}, keyOf(src), in, oif, &d)
	}
	ok, _ := t.validateSource(&flow{dst: dst, src: src, iif: in.Ifindex}, keyOf(src), in, oif, &d)
	return ok
}

// LeadsTo reports whether packets of this host to an address may leave by an
// interface.
func (t *Table) LeadsTo(addr netip.Addr, ifindex int32) bool {
	r := t.Lookup(addr, unspecified(addr), loopbackIfindex, 0)
	return r != nil && r.Type == TypeUnicast &&
		slices.ContainsFunc(r.Nexthops, func(nh Nexthop) bool { return nh.Ifindex == ifindex })
}

// onSubnet reports whether two addresses are in one subnet of the link
// (net/ipv4/devinet.c, inet_addr_onlink); an address that is not IPv4 is none.
func (l *Link) onSubnet(a, b netip.Addr) bool {
	for i := range l.addresses[IPv4] {
		if p := l.addresses[IPv4][i].Prefix; p.Contains(a) && (!b.Is4() || p.Contains(b)) {
			return true
		}
	}
	return false
}
