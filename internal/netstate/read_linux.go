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

func readAddress(b []byte) (Address, outcome) {
	if f := familyOf(b); f != unix.AF_INET && f != unix.AF_MAX {
		return Address{}, ignored
	}
	a, err := parseAddress(b)
	return a, outcomeOf(err)
}

// readRoute ignores cached routes.
func readRoute(b []byte, r *Route) outcome {
	if f := familyOf(b); f != unix.AF_INET && f != unix.AF_MAX {
		return ignored
	}
	if err := parseRoute(b, r); err != nil {
		return malformed
	}
	if r.Flags&unix.RTM_F_CLONED != 0 {
		return ignored
	}
	return applied
}

// readRule ignores the rules of multicast routing, which share the group.
func readRule(b []byte) (Rule, outcome) {
	if f := familyOf(b); f != unix.AF_INET && f != unix.AF_MAX {
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
