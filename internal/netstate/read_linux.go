package netstate

import "golang.org/x/sys/unix"

// The functions here parse the messages that concern the State and tell the
// others apart. Dumps and events go through the same.

// familyOf is the first byte of every rtnetlink message.
func familyOf(b []byte) uint8 {
	if len(b) == 0 {
		return unix.AF_MAX // no family: left for the parser to refuse
	}
	return b[0]
}

// follows reports whether messages of a family are of interest, or have none and
// are the parser's to refuse.
func (s *state) follows(family uint8) bool {
	return family == unix.AF_INET || family == unix.AF_INET6 && s.ipv6 || family == unix.AF_MAX
}

func outcomeOf(err error) outcome {
	if err != nil {
		return malformed
	}
	return applied
}

// readLink ignores what a bridge says of its ports, in particular the
// RTM_DELLINK of family AF_BRIDGE, which means that a port left the bridge.
func readLink(b []byte) (Link, outcome) {
	if len(b) > 0 && b[0] != unix.AF_UNSPEC || isWireless(b) {
		return Link{}, ignored
	}
	l, err := parseLink(b)
	return l, outcomeOf(err)
}

func (s *state) readAddress(b []byte) (Address, outcome) {
	if !s.follows(familyOf(b)) {
		return Address{}, ignored
	}
	a, err := parseAddress(b)
	return a, outcomeOf(err)
}

// readRoute ignores cached routes, and those to link-local addresses and groups of
// IPv6: each link has its own to the same few destinations, and no router
// forwards by them (RFC 4291 sections 2.5.6 and 2.7).
func (s *state) readRoute(b []byte, r *Route) outcome {
	if !s.follows(familyOf(b)) {
		return ignored
	}
	if err := parseRoute(b, r); err != nil {
		return malformed
	}
	if r.Flags&unix.RTM_F_CLONED != 0 || ofLink(r) {
		return ignored
	}
	return applied
}

// ofLink reports whether packets by an IPv6 route stay on its link.
func ofLink(r *Route) bool {
	ip := r.Dst.Addr()
	return ip.Is6() && (r.Type == unix.RTN_MULTICAST || ip.IsLinkLocalUnicast() && r.Dst.Bits() >= linkLocalBits)
}

const linkLocalBits = 10 // of fe80::/10

// readRule ignores the rules of multicast routing, which share the group.
func (s *state) readRule(b []byte) (Rule, outcome) {
	if !s.follows(familyOf(b)) {
		return Rule{}, ignored
	}
	r, err := parseRule(b)
	return r, outcomeOf(err)
}

// readNeighbour ignores bridge forwarding entries (AF_BRIDGE), proxy entries,
// which are not in the same table as neighbours, and the groups that IPv6 has
// among them. IPv6 ones are of interest as gateways of IPv4 routes.
func readNeighbour(b []byte) (Neighbour, outcome) {
	if f := familyOf(b); f != unix.AF_INET && f != unix.AF_INET6 && f != unix.AF_MAX {
		return Neighbour{}, ignored
	}
	n, err := parseNeighbour(b)
	if err == nil && (n.Flags&unix.NTF_PROXY != 0 || n.IP.Is6() && n.IP.IsMulticast()) {
		return n, ignored
	}
	return n, outcomeOf(err)
}
