package netstate

import (
	"time"

	"golang.org/x/sys/unix"
)

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
	if l.forced6 && s.recheck.IsZero() {
		s.recheck = time.Now().Add(recheckPause)
	}
}

// recheckPause is how long it may take until it is noticed that links have
// force_forwarding no more.
const recheckPause = 2 * time.Second

// recheckForced asks for one of the links with force_forwarding, when it is time: who
// writes 0 to net.ipv6.conf.all.forwarding takes it from all of them, in silence if 0 was
// there before (addrconf_fixup_forwarding in net/ipv6/addrconf.c).
func (s *state) recheckForced(now time.Time) {
	if s.recheck.IsZero() || now.Before(s.recheck) {
		return
	}
	s.recheck = time.Time{}
	for index, l := range s.links {
		if l.forced6 {
			s.ask6(index)
			s.recheck = now.Add(recheckPause)
			return
		}
	}
}

// setInet6 takes what is told of a link's IPv6 alone.
func (s *state) setInet6(said Link) {
	l, known := s.links[said.Index]
	if !known {
		return
	}
	if l.forced6 && !said.forced6 { // and nothing has told of it
		for index, other := range s.links {
			if other.forced6 && index != l.Index {
				s.ask6(index)
			}
		}
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
	// (rtnetlink_event is called before addrconf_notify). One that is older than the
	// dump, and applied behind it, tells of settings that no later one need take back.
	if old.MTU != l.MTU || old.MTU6 != l.MTU6 || old.IPv6 != l.IPv6 {
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

// askAll6 is ask6 for one link or AllLinks.
func (s *state) askAll6(index int) {
	if index != AllLinks {
		s.ask6(index)
		return
	}
	for index := range s.links {
		s.ask6(index)
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
	for len(w.state.unasked) > 0 { // an answer may raise questions
		if err := w.askEach(); err != nil {
			return err
		}
	}
	return nil
}

func (w *Watcher) askEach() error {
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
