package forward

// Verdict says how the way of a packet through the datapath ended. Every
// packet ends in exactly one; each has a counter.
//
// Drop reasons bear the name of the kernel's enum skb_drop_reason
// (include/net/dropreason-core.h) where they mean what the kernel means, and
// the prefix PARP_ where they are this program's own.
type Verdict uint8

// The verdicts. Those from dropFirst on are drops.
const (
	NotSpecified Verdict = iota // no code path may leave a packet so
	Forward                     // sent out
	Queue                       // waits for its next hop's MAC; ends later in another verdict
	Originate                   // made by us: an ICMP error
	Local                       // for the host itself: the kernel's
	Punt                        // left to the kernel: --punt
	IgnoreProto                 // not IPv4: the kernel's
	IgnoreTagged                // VLAN-tagged: belongs to the VLAN device
	IgnoreType                  // broadcast or multicast at layer 2: the kernel's

	dropFirst
	DropOtherHost        Verdict = iota - 1 // not to a MAC of ours
	DropPktTooSmall                         // shorter than its headers say
	DropIPInHdr                             // version, header length or total length wrong
	DropIPCsum                              // header checksum wrong
	DropIPInvalidSource                     // source 0.0.0.0, multicast or broadcast
	DropIPInvalidDest                       // destination 0.0.0.0
	DropIPLocalnet                          // 127/8 on the wire
	DropIPLocalSource                       // source is an address of this host
	DropIPRPFilter                          // source is not routed to the interface it came from
	DropSourceRoute                         // source routed, and accept_source_route is 0
	DropIPInNoRoutes                        // no route
	DropRouteBlackhole                      // route of type blackhole
	DropRouteUnreachable                    // route of type unreachable
	DropRouteProhibit                       // route of type prohibit
	DropRouteEncap                          // next hop with an encapsulation (lwtunnel)
	DropTTLExpired                          // TTL ran out
	DropPktTooBig                           // larger than the MTU, with DF
	DropGSO                                 // a GSO frame that can't be: type against protocol, headers cut off
	DropNeighFailed                         // next hop does not answer
	DropNeighQueueFull                      // too many packets wait for that next hop
	DropIfDown                              // egress interface is down or gone
	DropIfUnknown                           // ingress or egress interface is none of ours
	DropTransit                             // neither from nor to a workload
	DropRateLimit                           // ingress interface held its share of the ring
	DropFullRing                            // no free slot in the ring
	DropNoMem                               // no buffer in the kernel to send from
	DropQdisc                               // the egress queueing discipline or device refused it
	DropPacketSockError                     // sending failed otherwise
	DropLocalLate                           // for this host, but taken before the filter knew the address

	numVerdicts
)

var verdictNames = [numVerdicts]string{
	NotSpecified: "PARP_NOT_SPECIFIED",
	Forward:      "forward", Queue: "queue", Originate: "originate",
	Local: "local", Punt: "punt",
	IgnoreProto: "not-ipv4", IgnoreTagged: "vlan-tagged", IgnoreType: "multicast-not-forwarded",
	DropOtherHost: "OTHERHOST", DropPktTooSmall: "PKT_TOO_SMALL", DropIPInHdr: "IP_INHDR",
	DropIPCsum: "IP_CSUM", DropIPInvalidSource: "IP_INVALID_SOURCE", DropIPInvalidDest: "IP_INVALID_DEST",
	DropIPLocalnet: "IP_LOCALNET", DropIPLocalSource: "IP_LOCAL_SOURCE",
	DropIPRPFilter: "IP_RPFILTER", DropSourceRoute: "PARP_SOURCE_ROUTE", DropIPInNoRoutes: "IP_INNOROUTES",
	DropRouteBlackhole: "PARP_ROUTE_BLACKHOLE", DropRouteUnreachable: "PARP_ROUTE_UNREACHABLE",
	DropRouteProhibit: "PARP_ROUTE_PROHIBIT", DropRouteEncap: "PARP_ROUTE_ENCAP", DropTTLExpired: "PARP_TTL_EXPIRED",
	DropPktTooBig: "PKT_TOO_BIG", DropGSO: "SKB_GSO_SEG", DropNeighFailed: "NEIGH_FAILED",
	DropNeighQueueFull: "NEIGH_QUEUEFULL", DropIfDown: "PARP_IF_DOWN", DropIfUnknown: "PARP_IF_UNKNOWN",
	DropTransit: "PARP_TRANSIT", DropRateLimit: "PARP_RATE_LIMIT", DropFullRing: "FULL_RING",
	DropNoMem: "NOMEM", DropQdisc: "QDISC_DROP", DropPacketSockError: "PACKET_SOCK_ERROR",
	DropLocalLate: "PARP_LOCAL_LATE",
}

// String is the reason of a drop or an ignore, and the kind of all else.
func (v Verdict) String() string {
	if v >= numVerdicts {
		return verdictNames[NotSpecified]
	}
	return verdictNames[v]
}

// Kind is one of forward, queue, originate, local, punt, ignore, drop.
func (v Verdict) Kind() string {
	switch {
	case v == NotSpecified || v.IsDrop():
		return "drop"
	case v == IgnoreProto || v == IgnoreTagged || v == IgnoreType:
		return "ignore"
	}
	return v.String()
}

// IsDrop reports whether the packet was lost by intent or need.
func (v Verdict) IsDrop() bool { return v >= dropFirst && v < numVerdicts }

// Verdicts are all of them, for tables and metrics.
func Verdicts() []Verdict {
	all := make([]Verdict, numVerdicts)
	for i := range all {
		all[i] = Verdict(i)
	}
	return all
}
