package netstate

import (
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The names below are iproute2's, so that an operator can compare with ip(8).

// A Family is AF_*: of addresses, routes and rules.
type Family uint8

// The families of IP.
const (
	IPv4 Family = unix.AF_INET
	IPv6 Family = unix.AF_INET6
)

func (f Family) String() string {
	switch f {
	case IPv4:
		return "IPv4"
	case IPv6:
		return "IPv6"
	}
	return strconv.Itoa(int(f))
}

func familyOfAddr(ip netip.Addr) Family {
	if ip.Is4() {
		return IPv4
	}
	return IPv6
}

// A RouteType is RTN_*.
type RouteType uint8

var routeTypes = [...]string{"none", "unicast", "local", "broadcast", "anycast", "multicast",
	"blackhole", "unreachable", "prohibit", "throw", "nat", "xresolve"}

func (t RouteType) String() string { return nameOr(routeTypes[:], int(t)) }

// A Protocol is RTPROT_*: who made a route or rule.
type Protocol uint8

func (p Protocol) String() string {
	switch p {
	case unix.RTPROT_UNSPEC:
		return "unspec"
	case unix.RTPROT_REDIRECT:
		return "redirect"
	case unix.RTPROT_KERNEL:
		return "kernel"
	case unix.RTPROT_BOOT:
		return "boot"
	case unix.RTPROT_STATIC:
		return "static"
	case unix.RTPROT_RA:
		return "ra"
	case unix.RTPROT_ZEBRA:
		return "zebra"
	case unix.RTPROT_BIRD:
		return "bird"
	case unix.RTPROT_DHCP:
		return "dhcp"
	case unix.RTPROT_KEEPALIVED:
		return "keepalived"
	case unix.RTPROT_BABEL:
		return "babel"
	case unix.RTPROT_BGP:
		return "bgp"
	case unix.RTPROT_ISIS:
		return "isis"
	case unix.RTPROT_OSPF:
		return "ospf"
	case unix.RTPROT_RIP:
		return "rip"
	case unix.RTPROT_EIGRP:
		return "eigrp"
	}
	return strconv.Itoa(int(p))
}

// A Scope is RT_SCOPE_*.
type Scope uint8

func (s Scope) String() string {
	switch s {
	case unix.RT_SCOPE_UNIVERSE:
		return "global"
	case unix.RT_SCOPE_SITE:
		return "site"
	case unix.RT_SCOPE_LINK:
		return "link"
	case unix.RT_SCOPE_HOST:
		return "host"
	case unix.RT_SCOPE_NOWHERE:
		return "nowhere"
	}
	return strconv.Itoa(int(s))
}

// A RuleAction is FR_ACT_*.
type RuleAction uint8

var ruleActions = [...]string{"unspec", "lookup", "goto", "nop", "4", "5", "blackhole", "unreachable", "prohibit"}

func (a RuleAction) String() string { return nameOr(ruleActions[:], int(a)) }

// An OperState is IF_OPER_* (RFC 2863).
type OperState uint8

var operStates = [...]string{"UNKNOWN", "NOTPRESENT", "DOWN", "LOWERLAYERDOWN", "TESTING", "DORMANT", "UP"}

func (o OperState) String() string { return nameOr(operStates[:], int(o)) }

// A NeighState is NUD_*.
type NeighState uint16

var neighStates = []bit{{unix.NUD_INCOMPLETE, "INCOMPLETE"}, {unix.NUD_REACHABLE, "REACHABLE"},
	{unix.NUD_STALE, "STALE"}, {unix.NUD_DELAY, "DELAY"}, {unix.NUD_PROBE, "PROBE"},
	{unix.NUD_FAILED, "FAILED"}, {unix.NUD_NOARP, "NOARP"}, {unix.NUD_PERMANENT, "PERMANENT"}}

func (s NeighState) String() string {
	if s == unix.NUD_NONE {
		return "NONE"
	}
	return bitNames(neighStates, uint32(s))
}

// Valid reports whether the kernel would send to the neighbour's MAC now:
// NUD_VALID of include/net/neighbour.h.
func (s NeighState) Valid() bool {
	return s&(unix.NUD_PERMANENT|unix.NUD_NOARP|unix.NUD_REACHABLE|unix.NUD_PROBE|unix.NUD_STALE|unix.NUD_DELAY) != 0
}

// NTF_EXT_*: Neighbour.ExtFlags, from include/uapi/linux/neighbour.h.
const (
	ExtManaged = 1 << iota
	ExtLocked
	ExtValidated
)

// NeighbourFlags names NTF_* and NTF_EXT_*, "|" between them.
func NeighbourFlags(flags uint8, ext uint32) string {
	names := bitNames([]bit{{unix.NTF_USE, "use"}, {unix.NTF_SELF, "self"}, {unix.NTF_MASTER, "master"},
		{unix.NTF_PROXY, "proxy"}, {unix.NTF_EXT_LEARNED, "extern_learn"},
		{unix.NTF_OFFLOADED, "offload"}, {unix.NTF_ROUTER, "router"}}, uint32(flags))
	more := bitNames([]bit{{ExtManaged, "managed"}, {ExtLocked, "locked"}, {ExtValidated, "extern_valid"}}, ext)
	if names != "" && more != "" {
		return names + "|" + more
	}
	return names + more
}

// NexthopFlags names RTNH_F_*, "|" between them.
func NexthopFlags(flags uint32) string {
	return bitNames([]bit{{unix.RTNH_F_DEAD, "dead"}, {unix.RTNH_F_PERVASIVE, "pervasive"},
		{unix.RTNH_F_ONLINK, "onlink"}, {unix.RTNH_F_OFFLOAD, "offload"}, {unix.RTNH_F_LINKDOWN, "linkdown"},
		{unix.RTNH_F_UNRESOLVED, "unresolved"}, {unix.RTNH_F_TRAP, "trap"}}, flags&nexthopFlags)
}

// LinkFlags names IFF_* as ip link does, "|" between them.
func LinkFlags(flags uint32) string {
	return bitNames([]bit{{unix.IFF_UP, "UP"}, {unix.IFF_BROADCAST, "BROADCAST"}, {unix.IFF_DEBUG, "DEBUG"},
		{unix.IFF_LOOPBACK, "LOOPBACK"}, {unix.IFF_POINTOPOINT, "POINTOPOINT"},
		{unix.IFF_NOTRAILERS, "NOTRAILERS"}, {unix.IFF_RUNNING, "RUNNING"}, {unix.IFF_NOARP, "NOARP"},
		{unix.IFF_PROMISC, "PROMISC"}, {unix.IFF_ALLMULTI, "ALLMULTI"}, {unix.IFF_MASTER, "MASTER"},
		{unix.IFF_SLAVE, "SLAVE"}, {unix.IFF_MULTICAST, "MULTICAST"}, {unix.IFF_PORTSEL, "PORTSEL"},
		{unix.IFF_AUTOMEDIA, "AUTOMEDIA"}, {unix.IFF_DYNAMIC, "DYNAMIC"}, {unix.IFF_LOWER_UP, "LOWER_UP"},
		{unix.IFF_DORMANT, "DORMANT"}, {unix.IFF_ECHO, "ECHO"}}, flags)
}

// TableName names the three tables that every namespace has.
func TableName(table uint32) string {
	switch table {
	case unix.RT_TABLE_DEFAULT:
		return "default"
	case unix.RT_TABLE_MAIN:
		return "main"
	case unix.RT_TABLE_LOCAL:
		return "local"
	}
	return strconv.FormatUint(uint64(table), 10)
}

type bit struct {
	mask uint32
	name string
}

// bitNames joins the names of the bits set; bits without a name are hex.
func bitNames(names []bit, v uint32) string {
	var out []string
	for _, n := range names {
		if v&n.mask != 0 {
			out = append(out, n.name)
			v &^= n.mask
		}
	}
	if v != 0 {
		out = append(out, "0x"+strconv.FormatUint(uint64(v), 16))
	}
	return strings.Join(out, "|")
}

func nameOr(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return strconv.Itoa(i)
}
