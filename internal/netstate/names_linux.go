package netstate

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// A Family is AF_*: of addresses, routes and rules.
type Family uint8

// The families of IP.
const (
	IPv4 Family = unix.AF_INET
	IPv6 Family = unix.AF_INET6
)

func familyOfAddr(ip netip.Addr) Family {
	if ip.Is4() {
		return IPv4
	}
	return IPv6
}

// A RouteType is RTN_*.
type RouteType uint8

// A Protocol is RTPROT_*: who made a route or rule.
type Protocol uint8

// A Scope is RT_SCOPE_*.
type Scope uint8

// A RuleAction is FR_ACT_*.
type RuleAction uint8

// An OperState is IF_OPER_* (RFC 2863).
type OperState uint8

// A NeighState is NUD_*.
type NeighState uint16

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
