package route

import "net/netip"

// loopbackIfindex is lo's in every namespace; the kernel looks up routes of what
// a host sends itself as if it had come from there (LOOPBACK_IFINDEX).
const loopbackIfindex = 1

// Scopes (include/uapi/linux/rtnetlink.h, RT_SCOPE_*).
const (
	scopeUniverse = 0
	scopeLink     = 253
	scopeHost     = 254
)

// isAddress is inet_lookup_ifaddr_rcu (net/ipv4/devinet.c): an address of this
// host, which the local table has, but for the rest of a subnet of lo, which the kernel makes local on its own. Where
// others have made routes local it looks them up in full.
func (t *Table) isAddress(addr fibKey) bool {
	const protoKernel = 2 // RTPROT_KERNEL
	r := t.v4.local.root.find(addr)
	return r != nil && r.Type == TypeLocal && (r.Bits == 32 || r.Protocol != protoKernel)
}

// selectAddr is the kernel's choice of a source address (net/ipv4/devinet.c,
// inet_select_addr): a primary address of the link, rather one whose subnet
// dst is in; else one of any link that is valid beyond its link.
func (t *Table) selectAddr(l *Link, dst netip.Addr, scope uint8) (best netip.Addr) {
	if l != nil {
		localnet := uint8(scopeHost)
		if l.Conf.RouteLocalnet {
			localnet = scopeLink
		}
		for i := range l.addresses[IPv4] {
			a := &l.addresses[IPv4][i]
			if a.Secondary || min(a.Scope, localnet) > scope {
				continue
			}
			if !dst.IsValid() || a.Prefix.Contains(dst) {
				return a.Local
			}
			if !best.IsValid() {
				best = a.Local
			}
		}
	}
	if best.IsValid() {
		return best
	}
	for i := range t.addresses[IPv4] {
		if a := &t.addresses[IPv4][i]; !a.Secondary && a.Scope != scopeLink && a.Scope <= scope {
			return a.Local
		}
	}
	return netip.Addr{}
}

// anyAddr is the source of IPv4 packets of this host that have none yet.
var anyAddr = netip.IPv4Unspecified()

// unspecified is the source of packets of this host to an address that have none
// yet: see flow.
func unspecified(dst netip.Addr) netip.Addr {
	if dst.Is4() {
		return anyAddr
	}
	return netip.Addr{}
}

// SourceFor is the address of this host for packets by a route (net/ipv4/
// fib_semantics.c, fib_result_prefsrc): the route's preferred source, or the
// kernel's choice. It is invalid if the host has none.
func (t *Table) SourceFor(r *Route, nh *Nexthop, out *Link) netip.Addr {
	if r.Source.IsValid() {
		return r.Source
	}
	return t.selectAddr(out, nh.Gateway, r.Scope)
}

// SpecDst is this host's address as the source of a packet that came in by a
// link sees it (net/ipv4/fib_frontend.c, fib_compute_spec_dst), for IP options.
// It is invalid if the host has none.
func (t *Table) SpecDst(src netip.Addr, tos uint8, in *Link) netip.Addr {
	if r := t.Lookup(src, anyAddr, loopbackIfindex, tos); r != nil {
		switch {
		case r.Source.IsValid():
			return r.Source
		case r.Type == TypeLocal:
			return src
		case r.Type == TypeUnicast:
			nh := &r.Nexthops[0]
			return t.SourceFor(r, nh, t.Link(nh.Ifindex))
		}
	}
	return t.selectAddr(in, src, scopeUniverse)
}

// Unicast reports whether an IPv4 address is one of another host (inet_addr_type()
// in net/ipv4/fib_frontend.c == RTN_UNICAST).
func (t *Table) Unicast(a netip.Addr) bool {
	if a.IsUnspecified() || a.IsMulticast() || a == limitedBroadcast {
		return false
	}
	r, ok := t.v4.local.Lookup(a)
	return !ok || r.Type == TypeUnicast
}

var limitedBroadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})
