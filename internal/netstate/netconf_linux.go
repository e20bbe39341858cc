package netstate

import "golang.org/x/sys/unix"

// Attributes of struct netconfmsg (include/uapi/linux/netconf.h).
const (
	sizeofNetconfmsg     = 4 // the family, padded
	netconfIfindex       = 1
	netconfForwarding    = 2
	netconfRPFilter      = 3
	netconfIgnoreLinkdwn = 6
)

// AllLinks is the Index of a Netconf about net.ipv4.conf.all (NETCONFA_IFINDEX_ALL).
const AllLinks = -1

// A Netconf says that settings below net.ipv4.conf have changed. The kernel
// tells of few of them, and the values only when they change: read them anew,
// but for forwarding of a link, which is Link.Forwards.
type Netconf struct {
	Index      int // of the link, or AllLinks
	Forwarding bool
	RPFilter   bool
}

// setNetconf takes an RTM_NEWNETCONF (net/ipv4/devinet.c,
// inet_netconf_notify_devconf).
func (s *state) setNetconf(b []byte) outcome {
	if len(b) < sizeofNetconfmsg {
		return malformed
	}
	if b[0] != unix.AF_INET {
		return ignored
	}
	var n Netconf
	ignoreLinkdown, forwards := false, false
	a := attrs{rest: b[sizeofNetconfmsg:]}
	for a.next() {
		switch a.typ {
		case netconfIfindex:
			n.Index = int(int32(a.u32()))
		case netconfForwarding:
			n.Forwarding, forwards = true, a.u32() != 0
		case netconfRPFilter:
			n.RPFilter = true
		case netconfIgnoreLinkdwn:
			ignoreLinkdown = true
		}
	}
	if a.err != nil {
		return malformed
	}
	l, known := s.links[n.Index]
	if !known && n.Index != AllLinks {
		return ignored // "default", or a link that is being made, which tells it itself
	}
	if known && n.Forwarding && l.Forwards != forwards {
		l.Forwards = forwards
		s.links[n.Index] = l
		s.tell(Event{Op: Set, Link: &l})
	}
	// It decides whether nexthops with RTNH_F_LINKDOWN bear RTNH_F_DEAD, too
	// (net/ipv4/fib_semantics.c, fib_nexthop_info). A message that tells of
	// everything is about a new link, which has no routes.
	if ignoreLinkdown && !n.Forwarding {
		s.stale = true
	}
	if n.Forwarding || n.RPFilter {
		s.tell(Event{Op: Set, Netconf: &n})
	}
	return applied
}
