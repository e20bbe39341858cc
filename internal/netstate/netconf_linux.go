package netstate

import "golang.org/x/sys/unix"

// Attributes of struct netconfmsg (include/uapi/linux/netconf.h).
const (
	sizeofNetconfmsg     = 4 // the family, padded
	netconfIfindex       = 1
	netconfForwarding    = 2
	netconfRPFilter      = 3
	netconfIgnoreLinkdwn = 6
	netconfForce         = 9 // NETCONFA_FORCE_FORWARDING of IPv6, since Linux 6.17
)

// AllLinks is the Index of a Netconf about net.ipv4.conf.all or net.ipv6.conf.all
// (NETCONFA_IFINDEX_ALL).
const AllLinks = -1

// A Netconf says that settings below net.ipv4.conf or net.ipv6.conf have changed.
// The kernel tells of few of them, and the values only when they change: read
// them anew, but for forwarding, which is Link.Forwards and Link.Forwards6.
type Netconf struct {
	Family     Family
	Index      int // of the link, or AllLinks
	Forwarding bool
	RPFilter   bool
}

// setNetconf takes an RTM_NEWNETCONF (inet_netconf_notify_devconf in
// net/ipv4/devinet.c, inet6_netconf_notify_devconf in net/ipv6/addrconf.c).
func (s *state) setNetconf(b []byte) outcome {
	if len(b) < sizeofNetconfmsg {
		return malformed
	}
	if !s.follows(b[0]) {
		return ignored
	}
	n := Netconf{Family: Family(b[0])}
	ignoreLinkdown, forwards := false, false
	force, forces := false, false
	bare := true // nothing but the link is told
	a := attrs{rest: b[sizeofNetconfmsg:]}
	for a.next() {
		bare = bare && a.typ == netconfIfindex
		switch a.typ {
		case netconfIfindex:
			n.Index = int(int32(a.u32()))
		case netconfForwarding:
			n.Forwarding, forwards = true, a.u32() != 0
		case netconfRPFilter:
			n.RPFilter = true
		case netconfIgnoreLinkdwn:
			ignoreLinkdown = true
		case netconfForce:
			force, forces = true, a.u32() != 0
		}
	}
	if a.err != nil {
		return malformed
	}
	l, known := s.links[n.Index]
	if !known && n.Index != AllLinks {
		return ignored // "default", or a link that is being made, which tells it itself
	}
	switch {
	case n.Family == IPv6 && bare:
		// Of force_forwarding the kernel tells without the value: inet6_netconf_fill_devconf
		// does not know of it (6.17, 6.18).
		s.askAll6(n.Index)
	case n.Family == IPv6 && n.Index == AllLinks && n.Forwarding:
		s.setForwards6(forwards)
	case n.Family == IPv6 && known && force && l.forced6 != forces:
		l.forced6 = forces
		s.setLink(l)
	case n.Family == IPv4 && known && n.Forwarding && l.Forwards != forwards:
		l.Forwards = forwards
		s.setLink(l)
	}
	// It decides whether nexthops with RTNH_F_LINKDOWN bear RTNH_F_DEAD, too
	// (net/ipv4/fib_semantics.c, fib_nexthop_info). A message that tells of
	// everything is about a new link, which has no routes.
	if ignoreLinkdown && !n.Forwarding {
		s.fib(n.Family).stale = true
	}
	if n.Forwarding || n.RPFilter {
		s.tell(Event{Op: Set, Netconf: &n})
	}
	return applied
}

// setForwards6 takes net.ipv6.conf.all.forwarding. What turns it off takes
// force_forwarding from all links (addrconf_fixup_forwarding in
// net/ipv6/addrconf.c).
func (s *state) setForwards6(on bool) {
	s.forwards6 = on
	for _, l := range s.links {
		l.forced6 = l.forced6 && on
		s.setLink(l)
	}
}

// getForwards6 asks for net.ipv6.conf.all.
func getForwards6() []byte {
	msg := newMessage(unix.RTM_GETNETCONF, 0, []byte{unix.AF_INET6, 0, 0, 0})
	all := AllLinks
	return appendU32(msg, netconfIfindex, uint32(all))
}

// readForwards6 reads the answer.
func readForwards6(b []byte) (on bool) {
	if len(b) < sizeofNetconfmsg {
		return false
	}
	for a := (attrs{rest: b[sizeofNetconfmsg:]}); a.next(); {
		if a.typ == netconfForwarding {
			on = a.u32() != 0
		}
	}
	return on
}
