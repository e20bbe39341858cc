package route

import "net/netip"

// Family is an address family: what rules, tables and addresses there are of each.
type Family uint8

// The families.
const (
	IPv4 Family = iota
	IPv6

	families = 2
)

// String is the name of the protocol.
func (f Family) String() string {
	if f == IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// FamilyOf is the family of an address; of one that is none, IPv6.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// The prefixes of all destinations.
var (
	everythingV4 = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	everythingV6 = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	everythings  = [families]netip.Prefix{IPv4: everythingV4, IPv6: everythingV6}
)

// zero is 0.0.0.0 or ::, of the family of an address.
func zero(like netip.Addr) netip.Addr { return everythings[FamilyOf(like)].Addr() }

// hostsOnly6 are the IPv6 destinations that a router does not forward to (RFC 4291
// sections 2.5.2, 2.5.3, 2.5.6 and 2.7): the unspecified and the loopback address,
// link-local and multicast addresses. They are the kernel's.
var hostsOnly6 = [...]netip.Prefix{
	netip.PrefixFrom(netip.IPv6Unspecified(), 128),
	netip.PrefixFrom(netip.IPv6Loopback(), 128),
	netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfe, 0x80}), 10),
	netip.PrefixFrom(netip.AddrFrom16([16]byte{0xff}), 8),
}

// keptLocal reports whether all destinations of an IPv6 prefix are of hostsOnly6.
func keptLocal(p netip.Prefix) bool {
	for _, q := range hostsOnly6 {
		if q.Bits() <= p.Bits() && q.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// isLinkLocal6 and isMulticast6 are as the kernel has it (net/ipv6/addrconf_core.c): netip's methods
// say of a mapped IPv4 address what that is.
func isLinkLocal6(a netip.Addr) bool {
	b := a.As16()
	return b[0] == 0xfe && b[1]&0xc0 == 0x80
}

func isMulticast6(a netip.Addr) bool { return a.As16()[0] == 0xff }

// forwardable6 reports whether a router may forward to an address at all.
func (k fibKey) forwardable6() bool {
	return !k.multicast6() && !k.linkLocal6() && (k.high != 0 || k.low > 1)
}
