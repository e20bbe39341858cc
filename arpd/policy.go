package arpd

import (
	"net/netip"
	"slices"

	"proxyarpd/internal/wire"
)

// ProxyDecision is what the routing table says of a target that is asked for.
type ProxyDecision uint8

// The decisions, as arp_process (net/ipv4/arp.c) tells them apart.
const (
	// ProxyNo: no route, one that is not unicast (blackhole, unreachable,
	// prohibit, broadcast, ...), or one back out of the interface asked on.
	ProxyNo ProxyDecision = iota
	// ProxyLocal: the target is an address of this host. The kernel answers.
	ProxyLocal
	// ProxyYes: a unicast route through another interface.
	ProxyYes
)

// UplinkDecision is what the tables say of a target that is asked for on an uplink.
type UplinkDecision uint8

// The decisions, in the order in which they are looked for.
const (
	// UplinkNo: no unicast route leads to the target over a workload interface.
	UplinkNo UplinkDecision = iota
	// UplinkLocal: the target is an address of this host. The kernel answers.
	UplinkLocal
	// UplinkOwn: the workload that has the target asks for it itself.
	UplinkOwn
	// UplinkElsewhere: the way back to the sender, or to the target if no route tells
	// of the sender, is not by the interface asked on, or rp_filter does not let him in.
	// Where several uplinks share a segment all of them hear a request, and one is to
	// answer: the kernel's arp_filter.
	UplinkElsewhere
	// UplinkYes: the target is a workload's, and this is the interface to say so.
	UplinkYes
)

// HasNoRoute reports whether no route tells on which interface a sender is: one that
// probes has no address, and a link-local address of IPv6 is on each.
func HasNoRoute(sender netip.Addr) bool {
	return sender.IsUnspecified() || sender.Is6() && sender.IsLinkLocalUnicast()
}

// Routes is the part of the routing table that the proxy rules need.
//
// Its methods are called on the hot path, from the goroutine of Responder.Run: they
// must not block. The sender is 0.0.0.0 for an address probe. An implementation that
// checks sources (the kernel's rp_filter gates answers, since it looks the route
// up as seen from the sender) says ProxyNo where the check fails.
type Routes interface {
	Proxy(target, sender netip.Addr, ifindex int) ProxyDecision
	// Uplink is Proxy for an uplink; asker is the MAC of who asks. Of a sender that
	// HasNoRoute the way to the target without the workloads' routes counts.
	Uplink(target, sender netip.Addr, asker wire.MAC, ifindex int) UplinkDecision
	// Uses reports whether the station with a MAC is known, at the interface, as the
	// one that has an address (the neighbour table).
	Uses(address netip.Addr, station wire.MAC, ifindex int) bool
	// Routed reports whether a unicast route to sender leads to the interface. It
	// decides nothing: a gateway is answered all the same, and counted. It is
	// called as Proxy is.
	Routed(sender netip.Addr, ifindex int) bool
}

// Policy says what is answered on one interface, a workload's or an uplink. It is
// immutable once it was handed to Answer or Publish.
type Policy struct {
	Index int
	Name  string // for people; nothing is decided by it

	// Own is the MAC that the device has, Answer the one that replies give.
	// They are the same unless --keep-mac is in force.
	Own, Answer wire.MAC
	// Alias holds further MACs that are ours, say those of a moment ago.
	Alias []wire.MAC

	// Settled: the kernel has told by an event that the link is operationally up
	// (IFF_RUNNING in an RTM_NEWLINK; what RTM_GETLINK says may be too early).
	// Until then an interface may be able to carry frames, and yet have the noop
	// queueing discipline, which loses all it is given and reports success:
	// linkwatch (net/core/link_watch.c) replaces it some time after carrier is
	// there. Replies then pass by the queue (PACKET_QDISC_BYPASS): through it, the
	// first reply was lost on 1 to 16 of 200 interfaces. False is always right;
	// only, tcpdump on the interface does not see such replies.
	Settled bool

	// Gateways are answered always: there or not, routed or not, and also if
	// one is an address of the host. The kernel then answers too, with the
	// device's MAC; both answers are the same one unless --keep-mac is in force,
	// and there ours is what the operator asked for.
	Gateways []netip.Addr
	// Proxy targets are answered if Routes says ProxyYes. A nil Routes never does.
	Proxy  []netip.Prefix
	Routes Routes

	// Uplink is set for an interface that leads off the host. There it alone says
	// what is answered; Gateways and Proxy are empty.
	Uplink *Uplink
}

// Uplink says what is answered on an uplink, in the place of workloads (RFC 1027).
type Uplink struct {
	// Targets are answered if Routes says UplinkYes.
	Targets []netip.Prefix
	// Others are the MACs of the host's other uplinks: what comes from one of them
	// is this host's own, on a segment that they share.
	Others []wire.MAC
	// Unforwarded: nobody forwards what comes in there, neither the engine nor the
	// kernel. An answer would draw packets that are lost.
	Unforwarded bool
}

// ours reports whether m is a station address of this interface.
func (p *Policy) ours(m wire.MAC) bool {
	return m == p.Own || m == p.Answer || slices.Contains(p.Alias, m)
}

// isUs reports whether m is a station address of this host, as far as it may come
// in by this interface.
func (p *Policy) isUs(m wire.MAC) bool {
	return p.ours(m) || p.Uplink != nil && slices.Contains(p.Uplink.Others, m)
}

// IsGateway reports whether an address is one of Gateways.
func (p *Policy) IsGateway(a netip.Addr) bool { return slices.Contains(p.Gateways, a) }

// answersFor reports whether an address may be one that we say is here: on a workload's
// side a gateway, on an uplink a target.
func (p *Policy) answersFor(a netip.Addr) bool {
	if p.Uplink != nil {
		return within(p.Uplink.Targets, a)
	}
	return p.IsGateway(a)
}

func (p *Policy) inProxy(a netip.Addr) bool { return within(p.Proxy, a) }

func within(all []netip.Prefix, a netip.Addr) bool {
	for _, pfx := range all {
		if pfx.Contains(a) {
			return true
		}
	}
	return false
}

func (p *Policy) route(a Asker) ProxyDecision {
	if p.Routes == nil {
		return ProxyNo
	}
	return p.Routes.Proxy(a.Target, a.IP, p.Index)
}

// uplink is what Routes says of a request on an uplink.
func (p *Policy) uplink(a Asker) UplinkDecision {
	if p.Routes == nil {
		return UplinkNo
	}
	return p.Routes.Uplink(a.Target, a.IP, a.MAC, p.Index)
}

// uses reports whether who asks has the target itself.
func (p *Policy) uses(a Asker) bool {
	return p.Routes != nil && p.Routes.Uses(a.Target, a.MAC, p.Index)
}
