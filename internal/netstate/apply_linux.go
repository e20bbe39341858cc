package netstate

import (
	"golang.org/x/sys/unix"
)

// An outcome is what became of a message.
type outcome uint8

const (
	applied outcome = iota
	ignored
	malformed
)

// apply takes one message of the event socket: the type and flags of its
// header, and what follows it.
func (s *state) apply(typ, flags uint16, b []byte) outcome {
	var o outcome
	switch typ {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		var l Link
		if typ == unix.RTM_NEWLINK && s.ipv6 && familyOf(b) == unix.AF_INET6 {
			if l, o = readInet6Link(b); o == applied {
				s.setInet6(l)
				s.revive6(l.Index)
			}
			break
		}
		if l, o = readLink(b); o == applied && typ == unix.RTM_NEWLINK {
			s.setLink(l)
		} else if o == applied {
			s.deleteLink(l.Index)
		}
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		var a Address
		if a, o = s.readAddress(b); o == applied && typ == unix.RTM_NEWADDR {
			s.setAddress(a)
		} else if o == applied {
			s.deleteAddress(a)
		}
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if o = s.readRoute(b, &s.route); o != applied {
			break
		}
		if s.nexthops.complete(&s.route); typ == unix.RTM_NEWROUTE {
			s.setRoute(s.route, flags)
		} else {
			s.deleteRoute(s.route)
		}
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		var r Rule
		f := Family(familyOf(b))
		s.unordered = s.unordered || s.replay // a rule that the dump has told would be there twice
		if r, o = s.readRule(b); o == applied && typ == unix.RTM_NEWRULE {
			s.setRules(f, insertRule(s.rules[f], r))
		} else if o == applied {
			s.setRules(f, removeRule(s.rules[f], r))
		}
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		var n Neighbour
		if n, o = readNeighbour(b); o == applied && typ == unix.RTM_NEWNEIGH {
			s.setNeighbour(n)
		} else if o == applied {
			s.deleteNeighbour(n.key())
		}
	case unix.RTM_NEWQDISC, unix.RTM_DELQDISC:
		o = s.setQdisc(typ, b)
	case unix.RTM_NEWNETCONF:
		o = s.setNetconf(b)
	case unix.RTM_NEWNEXTHOP, unix.RTM_DELNEXTHOP:
		o = s.setNexthop(typ, flags, b)
	default:
		o = ignored
	}
	return o
}

func (s *state) setLink(l Link) {
	s.completeInet6(&l)
	old, had := s.links[l.Index]
	if had && anotherLink(old, l) {
		s.deleteLink(l.Index)
		had = false
	}
	if !had || old != l {
		s.links[l.Index] = l
		s.tell(Event{Op: Set, Link: &l})
	}
	if had && old != l {
		s.inet6Changed(&old, &l)
	}
	for _, t := range s.fibs() {
		switch {
		case !l.Up() && t == &s.v6 && had && !old.Up() && !t.replay:
			// What was added meanwhile stays: an address's own route.
		case !l.Up():
			s.disableLink(t, l.Index, t == &s.v6)
		case had && (!old.Up() || carrier(old) != carrier(l) || t == &s.v6 && old.Running() != l.Running()):
			t.stale = t.stale || t.routed(l.Index)
		}
	}
}

// anotherLink reports whether the index has been given to a new link. That the
// old one went was lost in an overrun.
func anotherLink(old, l Link) bool { return old.Kind != l.Kind || old.Type != l.Type }

// carrier is the condition by which fib_netdev_event (net/ipv4/fib_frontend.c)
// sets and clears RTNH_F_LINKDOWN. That of addrconf_notify (net/ipv6/addrconf.c,
// addrconf_link_ready) also looks at the operational state.
func carrier(l Link) bool { return l.Flags&(unix.IFF_RUNNING|unix.IFF_LOWER_UP) != 0 }

// deleteLink forgets a link and, in case the kernel did not say so one by one,
// all that was on it.
func (s *state) deleteLink(index int) {
	for k, n := range s.neighbours {
		if k.index == index {
			delete(s.neighbours, k)
			s.tell(Event{Op: Delete, Neighbour: &n})
		}
	}
	for _, t := range s.fibs() {
		s.disableLink(t, index, true)
	}
	delete(s.unasked, index)
	for _, f := range []Family{IPv4, IPv6} {
		if k := (addressListKey{index, f}); s.addresses.forget(k) {
			s.tellAddresses(k)
		}
	}
	s.settle() // what comes after is another link's
	if l, ok := s.links[index]; ok {
		delete(s.links, index)
		s.tell(Event{Op: Delete, Link: &l})
	}
}

func (s *state) setAddress(a Address) {
	if s.addresses.put(a) {
		s.unordered = s.unordered || s.replay && len(s.addresses.of(a.list())) > 1
		s.tellAddresses(a.list())
	} else if !s.replaying() {
		return
	}
	t := s.fib(familyOfAddr(a.Local))
	if t == &s.v6 {
		if len(s.addresses.of(a.list())) == 1 {
			s.ask6(a.Index)
		}
		return
	}
	// fib_inetaddr_event: the first address of a link revives its nexthops.
	t.stale = t.stale || t.dead(a.Index)
}

// deleteAddress forgets an address and the routes that go with it: those
// preferring it as source (fib_sync_down_addr, which looks at the main table
// only, outside of VRFs) when no link has it any more, and those of the link
// if it was the last (fib_inetaddr_event). Of IPv6, routes lose the preferred
// source, and stay (rt6_remove_prefsrc in net/ipv6/route.c).
func (s *state) deleteAddress(a Address) {
	if s.addresses.remove(a) {
		s.tellAddresses(a.list())
	}
	t := s.fib(familyOfAddr(a.Local))
	preferring := t.bodies.match(func(r *Route) bool { return r.PrefSrc == a.Local })
	last := len(s.addresses.of(a.list())) == 0
	t.stale = t.stale || preferring != nil
	if t == &s.v6 {
		if last {
			s.ask6(a.Index)
		}
		return
	}
	t.stale = t.stale || t.routed(a.Index)
	if !s.addresses.has(a.Local) {
		s.dropBodies(t, preferring, unix.RT_TABLE_MAIN)
	}
	if last {
		s.disableLink(t, a.Index, true)
	}
}

func (s *state) setNeighbour(n Neighbour) {
	// That one has failed again is news: the states in between are not told.
	if old, ok := s.neighbours[n.key()]; ok && old == n && n.State&unix.NUD_FAILED == 0 {
		return
	}
	s.neighbours[n.key()] = n
	s.tell(Event{Op: Set, Neighbour: &n})
}

func (s *state) deleteNeighbour(k neighbourKey) {
	n, ok := s.neighbours[k]
	if !ok {
		// The kernel does not tell of an entry that it is still resolving, but of its
		// end it does.
		n = Neighbour{Index: k.index, IP: k.ip}
	}
	delete(s.neighbours, k)
	s.tell(Event{Op: Delete, Neighbour: &n})
}
