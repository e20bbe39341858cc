package netstate

import "golang.org/x/sys/unix"

// Numbers of struct ipv6_devconf in IFLA_INET6_CONF, each 32 bits (DEVCONF_* of
// include/uapi/linux/ipv6.h; ipv6_store_devconf in net/ipv6/addrconf.c).
const (
	devconf6MTU             = 2
	devconf6Disable         = 26
	devconf6ForceForwarding = 59 // since Linux 6.17
)

const iflaInet6Conf = 2 // IFLA_INET6_CONF of include/uapi/linux/if_link.h

// readInet6 reads the IPv6 settings of a link, which are in IFLA_AF_SPEC of every
// message about it (inet6_fill_link_af) unless it has no IPv6 at all, and in
// IFLA_PROTINFO of those of IPv6 (inet6_fill_ifinfo).
func (l *Link) readInet6(spec *attrs) {
	for n := (attrs{rest: spec.val}); n.next() || spec.take(&n); {
		if n.typ != iflaInet6Conf {
			continue
		}
		value := func(which int) uint32 {
			if at := which * 4; len(n.val) >= at+4 {
				return native.Uint32(n.val[at:])
			}
			return 0
		}
		if l.IPv6 = value(devconf6Disable) == 0; l.IPv6 {
			l.MTU6 = int(value(devconf6MTU))
		}
		l.forced6 = value(devconf6ForceForwarding) != 0
	}
}

// completeInet6 settles what a message says of a link's IPv6.
func (s *state) completeInet6(l *Link) {
	if !s.ipv6 {
		l.IPv6, l.MTU6, l.forced6 = false, 0, false
	}
	l.Forwards6 = l.IPv6 && (s.forwards6 || l.forced6)
}

// setInet6 takes what is told of a link's IPv6 alone.
func (s *state) setInet6(said Link) {
	l, known := s.links[said.Index]
	if !known {
		return
	}
	l.IPv6, l.MTU6, l.forced6 = said.IPv6, said.MTU6, said.forced6
	s.setLink(l)
}

// revive6 is for a message of IPv6 about a link, which is sent when its nexthops
// have been revived (rt6_sync_up) in silence.
func (s *state) revive6(index int) { s.v6.stale = s.v6.stale || s.v6.dead(index) }

// inet6Changed follows what a link's IPv6 settings decide about routes.
func (s *state) inet6Changed(old, l *Link) {
	if old.MTU6 != l.MTU6 {
		// rt6_mtu_change lowers or raises the MTU of routes in silence.
		s.v6.stale = s.v6.stale || s.v6.any(func(r *Route) bool { return r.MTU != 0 })
	}
	if old.IPv6 && !l.IPv6 {
		// As where the link goes down, the routes may go in silence.
		s.v6.stale = s.v6.stale || s.v6.routed(l.Index)
	}
	// The message about another MTU comes before IPv6 has taken it over
	// (rtnetlink_event is called before addrconf_notify).
	if old.MTU != l.MTU {
		s.ask6(l.Index)
	}
}

// ask6 has a link's IPv6 settings asked for: no message is sure to tell of
// disable_ipv6, but addresses come and go with it.
func (s *state) ask6(index int) {
	if _, known := s.links[index]; known && s.ipv6 {
		s.unasked[index] = true
	}
}

// readInet6Link reads an RTM_NEWLINK of family AF_INET6, which tells of the IPv6 of
// a link alone.
func readInet6Link(b []byte) (Link, outcome) {
	l, err := parseLink(b)
	return l, outcomeOf(err)
}

// askLinks asks for the IPv6 settings of links. The answer is given under the RTNL
// lock, when what the messages told of is complete.
func (w *Watcher) askLinks() error {
	for index := range w.state.unasked {
		var said []Link
		err := w.ask(getLink(index), func(_ uint16, body []byte) error {
			if l, o := readLink(body); o == applied {
				said = append(said, l)
			}
			return nil
		})
		if err != nil && err != unix.ENODEV {
			return err
		}
		delete(w.state.unasked, index)
		for _, l := range said {
			w.state.setInet6(l)
		}
	}
	return nil
}
