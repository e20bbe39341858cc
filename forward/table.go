package forward

import (
	"math"
	"net/netip"
	"sync/atomic"

	"proxyarpd/internal/wire"
)

// LinkFlags say what an interface is to the datapath.
type LinkFlags uint16

// The flags.
const (
	LinkUp             LinkFlags = 1 << iota // can send: IFF_UP and carrier
	LinkWorkload                             // leads to a workload
	LinkUplink                               // leads off the host
	LinkBypass                               // has no queueing discipline and no egress program
	LinkNoARP                                // has a link layer without resolution (IFF_NOARP)
	LinkEthernet                             // frames bear an Ethernet header
	LinkKernelForwards                       // the kernel forwards what comes in there (IN_DEV_FORWARD)
	LinkReceiveOnly                          // packets can't be sent there from a packet socket
	LinkLeft                                 // is left to the kernel: its packets, and those that lead there
	LinkNoOffload                            // takes whole checksums and no super-packets
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
	Slot    uint32 // index in the ring filter's tables
	Conf    LinkConf

	addresses  []Address
	neighbours map[netip.Addr]*Neighbour
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

// queueBytes is how much may wait for one next hop, in bytes of memory.
func (c *LinkConf) queueBytes() int {
	if c.QueueBytes == 0 {
		return 212992
	}
	return c.QueueBytes
}

// resolveTime is how long the kernel tries to resolve a next hop, in ns.
func (c *LinkConf) resolveTime() int64 {
	if c.ResolveTime == 0 {
		return 3 * second
	}
	return c.ResolveTime
}

// Address is an address of this host.
type Address struct {
	Local     netip.Addr
	Prefix    netip.Prefix
	Scope     uint8 // RT_SCOPE_*
	Secondary bool
}

// HostConf are the settings of /proc/sys/net/ipv4 that count for all packets.
type HostConf struct {
	DefaultTTL      uint8  // ip_default_ttl
	HashPolicy      uint8  // fib_multipath_hash_policy
	HashFields      uint32 // fib_multipath_hash_fields, for policy 3
	HashSeed        uint32 // fib_multipath_hash_seed, or the program's own
	UseNeigh        bool   // fib_multipath_use_neigh
	ICMPRateLimit   int    // icmp_ratelimit, ms
	ICMPRateMask    uint32 // icmp_ratemask
	ICMPPerSecond   int    // icmp_msgs_per_sec
	ICMPBurst       int    // icmp_msgs_burst
	ICMPFromInbound bool   // icmp_errors_use_inbound_ifaddr

	// Of /proc/sys/net/ipv4/route/*; times are in ns. What is more than there is
	// time, MaxTime, never comes.
	ErrorCost       int64 // error_cost: of one error about a packet that has no way
	ErrorBurst      int64 // error_burst: what may be saved up
	RedirectLoad    int64 // redirect_load: from one redirect to the next, doubled each time
	RedirectNumber  int   // redirect_number: after which there is none
	RedirectSilence int64 // redirect_silence: after which all begins again
}

// MaxTime is the longest time.
const MaxTime = math.MaxInt64

// DefaultHostConf is what a kernel starts with.
var DefaultHostConf = HostConf{DefaultTTL: 64, ICMPRateLimit: 1000, ICMPRateMask: 6168,
	ICMPPerSecond: 1000, ICMPBurst: 50, HashFields: 7, HashSeed: 1, ErrorCost: second, ErrorBurst: 5 * second,
	RedirectLoad: second / 50, RedirectNumber: 9, RedirectSilence: second / 50 << (9 + 1)}

// Workload reports whether the interface leads to a workload.
func (l *Link) Workload() bool { return l.Flags&LinkWorkload != 0 }

// KernelForwards reports whether the kernel forwards what comes in there.
func (l *Link) KernelForwards() bool { return l.Flags&LinkKernelForwards != 0 }

// answersTo reports whether frames to a MAC are meant for the interface.
func (l *Link) answersTo(mac wire.MAC) bool {
	return mac == l.MAC || !mac.IsZero() && (mac == l.Aliases[0] || mac == l.Aliases[1])
}

func (l *Link) ethernet() bool { return l.Flags&LinkEthernet != 0 }

// l2len is the length of the link-layer header of frames sent here, in bytes.
func (l *Link) l2len() int {
	if l.ethernet() {
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

	touched atomic.Int64 // time of the last call of Resolve, ns
}

// RouteType is the kind of a route (include/uapi/linux/rtnetlink.h, RTN_*).
type RouteType uint8

// The route types that can decide a packet's way.
const (
	RouteNone        RouteType = 0
	RouteUnicast     RouteType = 1
	RouteLocal       RouteType = 2
	RouteBroadcast   RouteType = 3
	RouteAnycast     RouteType = 4
	RouteMulticast   RouteType = 5
	RouteBlackhole   RouteType = 6
	RouteUnreachable RouteType = 7
	RouteProhibit    RouteType = 8
	RouteThrow       RouteType = 9
)

// Nexthop is one way on.
type Nexthop struct {
	Ifindex int32
	Gateway netip.Addr // invalid: the destination itself is the neighbour; may be IPv6
	Weight  int        // 1 and up
	Encap   bool       // frames need more than a MAC header: never sent

	upper uint32 // upper bound of this nexthop's share of the 31-bit hash space
}

// Route is a route of a table; it is immutable. Destinations whose routes differ in
// nothing else share one.
type Route struct {
	Table    uint32
	Bits     uint8 // length of the destination's prefix; Builder.SetRoutes sets it
	Type     RouteType
	Protocol uint8
	Scope    uint8
	TOS      uint8
	Metric   uint32
	MTU      int        // bytes, 0: the device's
	Source   netip.Addr // preferred source, invalid: none
	Nexthops []Nexthop  // those that can be used
	Dev      int32      // interface of the first nexthop, usable or not; 0: none
	// Object says that the nexthops are those of a nexthop object, among which
	// the kernel chooses by rules of its own (net/ipv4/nexthop.c).
	Object bool

	// special: Lookup may not return the route as it finds it, but has to look
	// at its TOS, at other routes to the destination, or into another table.
	special bool
	next    *Route // the kernel's next to the same destination, for another TOS
}

// PrefixOf is the destination of the route that Lookup found for dst.
func (r *Route) PrefixOf(dst netip.Addr) netip.Prefix {
	p, _ := dst.Prefix(int(r.Bits)) // fails for more bits than an address has, which none has
	return p
}

// Table is all that a forwarding decision needs. It is immutable but for the
// time stamps in its neighbours; readers load it once a batch.
type Table struct {
	links links
	rules []Rule
	// simple: the rules are the kernel's three default ones.
	simple                bool
	local, main, fallback *fib
	policy                Policy
	host                  HostConf
	addresses             []Address // of all interfaces, by index
	customRules           bool
	dissect               bool             // a rule looks at protocol or ports
	groups                map[int32]uint32 // of interfaces, for suppress_ifgroup
	routes                int
}

// Link gives the interface with that index, or nil.
func (t *Table) Link(ifindex int32) *Link { return t.links.get(ifindex) }

// Neighbour gives what is known of addr on a link, or nil.
func (l *Link) Neighbour(addr netip.Addr) *Neighbour { return l.neighbours[addr] }

// isAddress is inet_lookup_ifaddr_rcu (net/ipv4/devinet.c): an address of this
// host, which the local table has, but for the rest of a subnet of lo, which the kernel makes local on its own. Where
// others have made routes local it looks them up in full.
func (t *Table) isAddress(addr netip.Addr) bool {
	const protoKernel = 2 // RTPROT_KERNEL
	r, ok := t.local.Lookup(addr)
	return ok && r.Type == RouteLocal && (r.Bits == 32 || r.Protocol != protoKernel)
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
		for i := range l.addresses {
			a := &l.addresses[i]
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
	for i := range t.addresses {
		if a := &t.addresses[i]; !a.Secondary && a.Scope != scopeLink && a.Scope <= scope {
			return a.Local
		}
	}
	return netip.Addr{}
}

// anyAddr is the source of packets of this host that have none yet.
var anyAddr = netip.IPv4Unspecified()

// loopbackIfindex is lo's in every namespace; the kernel looks up routes of what
// a host sends itself as if it had come from there (LOOPBACK_IFINDEX).
const loopbackIfindex = 1

// Scopes (include/uapi/linux/rtnetlink.h, RT_SCOPE_*).
const (
	scopeUniverse = 0
	scopeLink     = 253
	scopeHost     = 254
)

// links finds a Link by ifindex: an open-addressed table, since indices grow
// without bound on a host whose pods come and go.
type links struct {
	slots []*Link
	mask  uint32
}

func newLinks(all map[int32]*Link) links {
	size := uint32(8)
	for int(size) < 2*len(all) {
		size *= 2
	}
	l := links{slots: make([]*Link, size), mask: size - 1}
	for _, link := range all {
		i := uint32(link.Ifindex) & l.mask
		for l.slots[i] != nil {
			i = (i + 1) & l.mask
		}
		l.slots[i] = link
	}
	return l
}

func (l *links) get(ifindex int32) *Link {
	if len(l.slots) == 0 {
		return nil
	}
	for i := uint32(ifindex) & l.mask; ; i = (i + 1) & l.mask {
		if s := l.slots[i]; s == nil || s.Ifindex == ifindex {
			return s
		}
	}
}
