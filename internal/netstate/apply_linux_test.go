package netstate

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// These tests have no kernel: messages come alone that the kernel sends with
// others, as they do when some are lost, or older than a dump.

// told is a state, and what it tells: one word an event.
func told() (s *state, words func() []string) {
	s = newState(false)
	var all []string
	s.emit = func(ev Event) {
		what := ""
		switch {
		case ev.Link != nil:
			what = "link " + ev.Link.Name
		case ev.Addresses != nil:
			what = "addresses"
		case ev.Routes != nil:
			what = "routes " + ev.Routes.Dst.String()
		case ev.Rules != nil:
			what = "rules"
		case ev.Neighbour != nil:
			what = "neighbour " + ev.Neighbour.IP.String()
		case ev.Netconf != nil:
			what = "netconf"
		}
		all = append(all, ev.Op.String()+" "+what)
	}
	return s, func() []string {
		defer func() { all = nil }()
		s.settle()
		slices.Sort(all)
		return all
	}
}

func expectTold(t *testing.T, when string, words func() []string, want ...string) {
	t.Helper()
	if got := words(); !slices.Equal(got, want) {
		t.Errorf("%s: told %q, want %q", when, got, want)
	}
}

func routeTo(dst string, indices ...int) Route {
	r := Route{Table: unix.RT_TABLE_MAIN, Dst: netip.MustParsePrefix(dst), Type: unix.RTN_UNICAST}
	for _, i := range indices {
		r.Nexthops = append(r.Nexthops, Nexthop{Index: i, Weight: 1})
	}
	return r
}

// TestUnmatchedDelete: the end of a route that is not there as we know it has
// the kernel asked, for what we have may be that one, changed since.
func TestUnmatchedDelete(t *testing.T) {
	dst := "10.1.0.0/16"
	other := routeTo(dst, 3)
	blackhole := routeTo(dst)
	blackhole.Type = unix.RTN_BLACKHOLE
	later := routeTo(dst, 2)
	later.Priority = 7
	for _, c := range []struct {
		name   string
		has    []Route
		delete Route
		stale  bool
		left   int
	}{
		{"as known", []Route{routeTo(dst, 2)}, routeTo(dst, 2), false, 0},
		{"another nexthop", []Route{routeTo(dst, 2)}, other, true, 1},
		{"another type", []Route{routeTo(dst, 2)}, blackhole, false, 1},
		{"another priority", []Route{routeTo(dst, 2)}, later, false, 1},
		{"one of two types", []Route{blackhole, routeTo(dst, 2)}, other, true, 2},
		{"nothing there", nil, routeTo(dst, 2), false, 0},
	} {
		s, words := told()
		for i := range c.has {
			s.v4.routes.add(&c.has[i])
		}
		s.deleteRoute(c.delete)
		if s.v4.stale != c.stale || s.v4.routes.count != c.left {
			t.Errorf("%s: %d routes left, stale %v", c.name, s.v4.routes.count, s.v4.stale)
		}
		if got := len(words()); (got != 0) != (c.left != len(c.has)) {
			t.Errorf("%s: %d events", c.name, got)
		}
	}
}

// TestLinkTakesAll: what is on a link goes with it though the kernel has said
// nothing of that, and the rest stays.
func TestLinkTakesAll(t *testing.T) {
	s, words := told()
	s.setLink(Link{Index: 2, Name: "a", Flags: unix.IFF_UP})
	s.setLink(Link{Index: 3, Name: "b", Flags: unix.IFF_UP})
	s.setAddress(addressNo(2, 1))
	s.setAddress(addressNo(3, 2))
	host := routeTo("10.1.0.1/32", 2)
	host.Scope = unix.RT_SCOPE_HOST
	for _, r := range []Route{routeTo("10.1.0.0/16", 2), routeTo("10.2.0.0/16", 3), host, routeTo("10.4.0.0/16")} {
		s.setRoute(r, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	}
	for i, ip := range []string{"10.1.0.9", "10.2.0.9"} {
		s.setNeighbour(Neighbour{Index: 2 + i, IP: netip.MustParseAddr(ip)})
	}
	words()
	s.deleteLink(2)
	expectTold(t, "the link goes", words, "delete link a", "delete neighbour 10.1.0.9", "delete routes 10.1.0.0/16", "delete routes 10.1.0.1/32", "set addresses")
	if s.v4.stale || s.v4.routes.count != 2 || len(s.links) != 1 || len(s.neighbours) != 1 || len(s.addresses.lists) != 1 {
		t.Errorf("stale %v, %d routes, %d links, %d neighbours, addresses of %d", s.v4.stale, s.v4.routes.count, len(s.links), len(s.neighbours), len(s.addresses.lists))
	}
	s.deleteLink(2)
	expectTold(t, "once more", words)
	s.deleteLink(3)
	expectTold(t, "the other", words, "delete link b", "delete neighbour 10.2.0.9", "delete routes 10.2.0.0/16", "set addresses")
}

// TestLinkDown: fib_sync_down_dev without force.
func TestLinkDown(t *testing.T) {
	dead := routeTo("10.5.0.0/16", 2, 3)
	dead.Nexthops[1].Flags = unix.RTNH_F_DEAD
	opaque := routeTo("10.6.0.0/16")
	opaque.NHID = 4
	host := routeTo("10.1.0.1/32", 2)
	host.Scope = unix.RT_SCOPE_HOST
	linkdown := routeTo("10.7.0.0/16", 2)
	linkdown.Nexthops[0].Flags = unix.RTNH_F_DEAD | unix.RTNH_F_LINKDOWN
	for name, c := range map[string]struct {
		route Route
		left  int
		stale bool
	}{
		"over it":                    {routeTo("10.1.0.0/16", 2), 0, false},
		"over another":               {routeTo("10.1.0.0/16", 3), 1, false},
		"over both":                  {routeTo("10.1.0.0/16", 2, 3), 1, true},
		"over it, the other is dead": {dead, 0, true},
		"of an object":               {opaque, 1, true},
		"to the host":                {host, 1, false},
		"dead for want of a carrier": {linkdown, 0, false},
	} {
		s, _ := told()
		s.setLink(Link{Index: 2, Name: "a", Flags: unix.IFF_UP})
		s.setRoute(c.route, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
		s.setLink(Link{Index: 2, Name: "a"})
		if s.v4.routes.count != c.left || s.v4.stale != c.stale {
			t.Errorf("%s: %d routes, stale %v", name, s.v4.routes.count, s.v4.stale)
		}
	}
}

// TestCarrier: the flag LINKDOWN of nexthops follows it in silence, if there are
// any.
func TestCarrier(t *testing.T) {
	for _, c := range []struct {
		before, after uint32
		routed, stale bool
	}{
		{unix.IFF_UP | unix.IFF_RUNNING, unix.IFF_UP, true, true},
		{unix.IFF_UP, unix.IFF_UP | unix.IFF_LOWER_UP, true, true},
		{0, unix.IFF_UP, true, true},
		{unix.IFF_UP | unix.IFF_RUNNING, unix.IFF_UP, false, false},
		{unix.IFF_UP | unix.IFF_RUNNING, unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_PROMISC, true, false},
	} {
		s, _ := told()
		s.setLink(Link{Index: 2, Name: "a", Flags: c.before})
		index := 3
		if c.routed {
			index = 2
		}
		s.setRoute(routeTo("10.1.0.0/16", index), unix.NLM_F_CREATE|unix.NLM_F_EXCL)
		s.setLink(Link{Index: 2, Name: "a", Flags: c.after})
		if s.v4.stale != c.stale {
			t.Errorf("%x to %x: stale %v", c.before, c.after, s.v4.stale)
		}
	}
}

// TestAddressTakesRoutes: fib_sync_down_addr and fib_inetaddr_event.
func TestAddressTakesRoutes(t *testing.T) {
	first, second := addressNo(2, 1), addressNo(2, 2)
	preferring := func(table uint32) Route {
		r := routeTo("10.9.0.0/16", 3)
		r.Table, r.PrefSrc = table, first.Local
		return r
	}
	elsewhere := first
	elsewhere.Index = 3
	for name, c := range map[string]struct {
		has   []Address
		route Route
		left  int
		stale bool
	}{
		"the last of its link":          {[]Address{first}, routeTo("10.1.0.0/16", 2), 0, true},
		"not the last":                  {[]Address{first, second}, routeTo("10.1.0.0/16", 2), 1, true},
		"another link's":                {[]Address{first}, routeTo("10.1.0.0/16", 3), 1, false},
		"preferred":                     {[]Address{first, second}, preferring(unix.RT_TABLE_MAIN), 0, true},
		"preferred, in another table":   {[]Address{first, second}, preferring(7), 1, true},
		"preferred, and there still is": {[]Address{first, second, elsewhere}, preferring(unix.RT_TABLE_MAIN), 1, true},
	} {
		s, words := told()
		for _, a := range c.has {
			s.setAddress(a)
		}
		s.setRoute(c.route, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
		words()
		s.deleteAddress(first)
		if s.v4.routes.count != c.left || s.v4.stale != c.stale {
			t.Errorf("%s: %d routes, stale %v", name, s.v4.routes.count, s.v4.stale)
		}
		if got := strings.Join(words(), ", "); !strings.Contains(got, "set addresses") || strings.Contains(got, "delete routes") != (c.left == 0) {
			t.Errorf("%s: told %q", name, got)
		}
	}
	// The first address of a link revives its nexthops.
	s, _ := told()
	dead := routeTo("10.1.0.0/16", 2, 3)
	dead.Nexthops[0].Flags = unix.RTNH_F_DEAD
	s.setRoute(dead, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	if s.setAddress(elsewhere); s.v4.stale {
		t.Error("an address of another link revives nexthops")
	}
	if s.setAddress(first); !s.v4.stale {
		t.Error("it does not revive nexthops")
	}
	s.v4.stale = false
	if s.setAddress(first); s.v4.stale {
		t.Error("nothing new revives nexthops")
	}
	s.v4.beginReplay()
	if s.setAddress(first); !s.v4.stale {
		t.Error("what a dump told of may have revived nexthops after the dump of routes")
	}
}

// TestNeighbourNews: what is the same is not told, but for a failure.
func TestNeighbourNews(t *testing.T) {
	s, words := told()
	n := Neighbour{Index: 2, IP: netip.MustParseAddr("10.0.0.1"), State: unix.NUD_STALE, HasMAC: true}
	s.setNeighbour(n)
	s.setNeighbour(n)
	expectTold(t, "twice the same", words, "set neighbour 10.0.0.1")
	n.State = unix.NUD_FAILED
	s.setNeighbour(n)
	s.setNeighbour(n)
	expectTold(t, "failed twice", words, "set neighbour 10.0.0.1", "set neighbour 10.0.0.1")
	s.deleteNeighbour(n.key())
	s.deleteNeighbour(n.key())
	expectTold(t, "the end of one that was not told of is told", words, "delete neighbour 10.0.0.1", "delete neighbour 10.0.0.1")
}

// TestIndexUsedAgain: a link of another kind with a known index is another link.
func TestIndexUsedAgain(t *testing.T) {
	s, words := told()
	s.setLink(Link{Index: 2, Name: "a", Kind: "veth", Flags: unix.IFF_UP})
	s.setNeighbour(Neighbour{Index: 2, IP: netip.MustParseAddr("10.0.0.1")})
	words()
	s.setLink(Link{Index: 2, Name: "b", Kind: "veth", Flags: unix.IFF_UP})
	expectTold(t, "renamed", words, "set link b")
	s.setLink(Link{Index: 2, Name: "b", Kind: "tun", Flags: unix.IFF_UP})
	expectTold(t, "another kind", words, "delete link b", "delete neighbour 10.0.0.1", "set link b")
	s.setLink(Link{Index: 2, Name: "b", Kind: "tun", Type: unix.ARPHRD_NONE, Flags: unix.IFF_UP})
	expectTold(t, "another type", words, "delete link b", "set link b")
	s.setLink(Link{Index: 2, Name: "b", Kind: "tun", Type: unix.ARPHRD_NONE, Flags: unix.IFF_UP})
	expectTold(t, "the same", words)
}
