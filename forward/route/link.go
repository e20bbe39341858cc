package route

import (
	"net/netip"
	"sync/atomic"

	"proxyarpd/internal/wire"
)

// LinkFlags say what an interface is to the datapath.
type LinkFlags uint16

// The flags.
const (
	LinkUp              LinkFlags = 1 << iota // can send: IFF_UP and carrier
	LinkWorkload                              // leads to a workload
	LinkUplink                                // leads off the host
	LinkBypass                                // has no queueing discipline and no egress program
	LinkNoARP                                 // has a link layer without resolution (IFF_NOARP)
	LinkEthernet                              // frames bear an Ethernet header
	LinkKernelForwards                        // the kernel forwards the IPv4 packets that come in there (IN_DEV_FORWARD)
	LinkReceiveOnly                           // packets can't be sent there from a packet socket
	LinkLeft                                  // is left to the kernel: its packets, and those that lead there
	LinkNoOffload                             // takes whole checksums and no super-packets
	LinkUnsettled                             // has not got its queueing discipline yet: what is sent the ordinary way may be lost
	LinkSorts                                 // what is sent there is sorted by its priority, or given one on the wire by it
	LinkPeer                                  // is a workload's veth, whose other end is in another namespace and takes what devices are left to do
	LinkKernelForwards6                       // the kernel forwards the IPv6 packets that come in there
)

// Link is an interface as the datapath sees it. It is immutable.
type Link struct {
	Ifindex int32
	Name    string
	Flags   LinkFlags
	MAC     wire.MAC // source of frames sent here
	// Aliases are further destination addresses that stand for this interface.
	Aliases [2]wire.MAC
	MTU     int    // bytes, network layer
	MTU6    int    // of IPv6 (net.ipv6.conf.IF.mtu); 0: there is no IPv6, and it is not served for it
	Slot    uint32 // index in the ring filter's tables
	Conf    LinkConf
	Conf6   LinkConf6

	addresses  [families][]Address // in the kernel's order
	neighbours neighbourTable
}

// LinkConf are the settings of /proc/sys/net/ipv4/conf/* that count for an
// interface, with those of "all" already taken into account, and of neigh/*.
type LinkConf struct {
	RPFilter          uint8 // 0 off, 1 strict, 2 loose (RFC 3704)
	SendRedirects     bool
	SharedMedia       bool
	AcceptSourceRoute bool
	AcceptLocal       bool
	RouteLocalnet     bool

	// Of /proc/sys/net/ipv4/neigh/*.
	QueueBytes  int   // unres_qlen_bytes; 0: the kernel's default
	ResolveTime int64 // (mcast_solicit + app_solicit) * retrans_time, ns; 0: the kernel's default
	NoSolicit   bool  // mcast_solicit + app_solicit is 0: a next hop without MAC fails at once
}

// LinkConf6 are the settings of /proc/sys/net/ipv6/conf/* that count for an
// interface, with those of "all" already taken into account, and of neigh/*.
type LinkConf6 struct {
	// RPFilter: 0 off, 1 strict, 2 loose. The kernel has no such setting for IPv6.
	RPFilter        uint8
	HopLimit        uint8 // hop_limit, of what this host sends there; 0: HostConf6's
	OwnAddresses    bool  // use_oif_addrs_only
	PreferTemporary bool  // use_tempaddr is 2 or more
	UseOptimistic   bool  // use_optimistic

	// Of /proc/sys/net/ipv6/neigh/*.
	QueueBytes  int   // unres_qlen_bytes; 0: the kernel's default
	ResolveTime int64 // (mcast_solicit + app_solicit) * retrans_time, ns; 0: the kernel's default
	NoSolicit   bool  // mcast_solicit + app_solicit is 0: a next hop without MAC fails at once
}

// Address is an address of this host.
type Address struct {
	Local     netip.Addr
	Prefix    netip.Prefix
	Scope     uint8 // RT_SCOPE_*
	Secondary bool  // IFA_F_SECONDARY; of IPv6 that is IFA_F_TEMPORARY

	// Of IPv6:
	Deprecated, Tentative, Optimistic bool // IFA_F_*
}

// Workload reports whether the interface leads to a workload.
func (l *Link) Workload() bool { return l.Flags&LinkWorkload != 0 }

// KernelForwards reports whether the kernel forwards the IPv4 packets that come in
// there.
func (l *Link) KernelForwards() bool { return l.Flags&LinkKernelForwards != 0 }

// KernelForwards6 is KernelForwards for IPv6.
func (l *Link) KernelForwards6() bool { return l.Flags&LinkKernelForwards6 != 0 }

func (l *Link) kernelForwards(family Family) bool {
	if family == IPv6 {
		return l.KernelForwards6()
	}
	return l.KernelForwards()
}

// AnswersTo reports whether frames to a MAC are meant for the interface.
func (l *Link) AnswersTo(mac wire.MAC) bool {
	return mac == l.MAC || !mac.IsZero() && (mac == l.Aliases[0] || mac == l.Aliases[1])
}

// Ethernet reports whether frames bear an Ethernet header there.
func (l *Link) Ethernet() bool { return l.Flags&LinkEthernet != 0 }

// L2Len is the length of the link-layer header of frames sent here, in bytes.
func (l *Link) L2Len() int {
	if l.Ethernet() {
		return wire.EthernetLen
	}
	return 0
}

// Up reports whether the interface can send.
func (l *Link) Up() bool { return l.Flags&LinkUp != 0 }

// Neighbour is a next hop on a link, as the kernel knows it.
type Neighbour struct {
	MAC   wire.MAC
	Valid bool // NUD_VALID: MAC may be used
	// Stale entries may be used, but the kernel has to be told of it so that
	// it probes them (net/core/neighbour.c, __neigh_event_send).
	Stale  bool
	Failed bool // NUD_FAILED
	// Fixed entries (PERMANENT, NOARP, EXT_LEARNED, MANAGED) are never to be touched.
	Fixed bool

	touched atomic.Int64 // when the kernel was last told of its use, ns
}

// State is that of an entry in the words of ip-neighbour(8), as far as the
// datapath tells them apart: REACHABLE stands for DELAY and PROBE too, PERMANENT
// for NOARP and what others have learned.
func (n *Neighbour) State() string {
	switch {
	case n.Fixed:
		return "PERMANENT"
	case n.Failed:
		return "FAILED"
	case n.Stale:
		return "STALE"
	case n.Valid:
		return "REACHABLE"
	}
	return "INCOMPLETE"
}

// Neighbour gives what is known of addr on a link, or nil.
func (l *Link) Neighbour(addr netip.Addr) *Neighbour { return l.neighbours.get(addr) }

// HasNeighbours reports whether any neighbour of a link is known.
func (l *Link) HasNeighbours() bool { return !l.neighbours.empty() }

// Touch reports whether the kernel is to be told of the use of a stale or
// missing neighbour, at most once in interval. now is in ns.
func (n *Neighbour) Touch(now, interval int64) bool {
	last := n.touched.Load()
	return (last == 0 || now-last >= interval) && n.touched.CompareAndSwap(last, now)
}
