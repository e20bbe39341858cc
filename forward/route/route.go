package route

import (
	"net/netip"
	"strconv"
)

// Type is the kind of a route (include/uapi/linux/rtnetlink.h, RTN_*).
type Type uint8

// The route types that can decide a packet's way.
const (
	TypeUnicast     Type = 1
	TypeLocal       Type = 2
	TypeBroadcast   Type = 3
	TypeAnycast     Type = 4
	TypeMulticast   Type = 5
	TypeBlackhole   Type = 6
	TypeUnreachable Type = 7
	TypeProhibit    Type = 8
	TypeThrow       Type = 9
)

var typeNames = [...]string{TypeUnicast: "unicast", TypeLocal: "local", TypeBroadcast: "broadcast", TypeAnycast: "anycast",
	TypeMulticast: "multicast", TypeBlackhole: "blackhole", TypeUnreachable: "unreachable", TypeProhibit: "prohibit", TypeThrow: "throw"}

// String is the word of ip-route(8).
func (t Type) String() string {
	if int(t) < len(typeNames) && typeNames[t] != "" {
		return typeNames[t]
	}
	return strconv.Itoa(int(t))
}

// Nexthop is one way on.
type Nexthop struct {
	Ifindex int32
	Gateway netip.Addr // invalid: the destination itself is the neighbour; may be IPv6
	Weight  int        // 1 and up
	Encap   bool       // frames need more than a MAC header: never sent
	Input   bool       // packets end in the kernel, whether it forwards or not: segments of SRv6 (RFC 8986)

	upper uint32 // upper bound of this nexthop's share of the 31-bit hash space
}

// Route is a route of a table; it is immutable. Destinations whose routes differ in
// nothing else share one.
type Route struct {
	Table    uint32
	Bits     uint8 // length of the destination's prefix; Builder.SetRoutes sets it
	Type     Type
	Protocol uint8
	Scope    uint8
	TOS      uint8 // of IPv4
	Metric   uint32
	MTU      int        // bytes, 0: the device's
	Source   netip.Addr // preferred source, invalid: none
	Nexthops []Nexthop  // those that can be used
	Dev      int32      // interface of the first nexthop, usable or not; 0: none
	// Object says that the nexthops are those of a nexthop object, among which
	// the kernel chooses by rules of its own (net/ipv4/nexthop.c).
	Object bool

	// Of IPv6:
	From     netip.Prefix // sources that may take it (CONFIG_IPV6_SUBTREES); invalid: all
	Pref     Pref         // of the router (RFC 4191)
	MTULock  bool         // MTU counts for packets that are forwarded (ip-route(8), mtu lock)
	HopLimit uint8        // of what this host sends by it, 0: the device's

	// special: Lookup may not return the route as it finds it, but has to look
	// at its TOS or From, at other routes to the destination, or into another table.
	special bool
	next    *Route // the kernel's next to the same destination: for another TOS; of IPv6 another choice
}

// Pref is the preference of a router (include/uapi/linux/icmpv6.h,
// ICMPV6_ROUTER_PREF_*).
type Pref uint8

// The preferences.
const (
	PrefMedium Pref = 0
	PrefHigh   Pref = 1
	PrefLow    Pref = 3
)

// rank is the preference as a number, IPV6_DECODE_PREF in the kernel.
func (p Pref) rank() int { return int(p ^ 2) }

// PrefixOf is the destination of the route that Lookup found for dst.
func (r *Route) PrefixOf(dst netip.Addr) netip.Prefix {
	p, _ := dst.Prefix(int(r.Bits)) // fails for more bits than an address has, which none has
	return p
}
