package netstate

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// A fibMessage is what the kernel announced, with the list after it.
type fibMessage struct {
	typ, flags uint16
	route      Route
	after      []Route
}

// kernelInsert is fib_table_insert, from its text rather than from
// insertAlias: it refuses what the kernel refuses.
func kernelInsert(list []Route, r Route, request uint16) ([]Route, uint16, bool) {
	first, end := aliasGroup(list, &r)
	if first == end {
		return slices.Insert(slices.Clone(list), first, r), unix.NLM_F_CREATE | unix.NLM_F_EXCL, true
	}
	if slices.ContainsFunc(list[first:end], func(o Route) bool { return sameRoute(&o, &r) }) {
		return list, 0, false
	}
	list = slices.Clone(list)
	switch request {
	case unix.NLM_F_REPLACE:
		list[first] = r
		return list, unix.NLM_F_REPLACE, true
	case unix.NLM_F_APPEND:
		return slices.Insert(list, end, r), unix.NLM_F_CREATE | unix.NLM_F_APPEND, true
	}
	return slices.Insert(list, first, r), unix.NLM_F_CREATE, true
}

// aliased is the destination of all routes of a history.
var aliased = netip.MustParsePrefix("10.0.0.0/8")

func history(rng *rand.Rand, n int) []fibMessage {
	var list []Route
	var out []fibMessage
	for len(out) < n {
		if len(list) > 0 && rng.IntN(5) < 2 {
			i := rng.IntN(len(list))
			m := fibMessage{typ: unix.RTM_DELROUTE, route: list[i]}
			list = slices.Delete(slices.Clone(list), i, i+1)
			m.after = list
			out = append(out, m)
			continue
		}
		r := Route{Dst: aliased, Type: unix.RTN_UNICAST, Priority: uint32(rng.IntN(2)), TOS: uint8(rng.IntN(2) * 8),
			Nexthops: []Nexthop{{Index: 1 + rng.IntN(4), Weight: 1}}}
		request := []uint16{unix.NLM_F_REPLACE, unix.NLM_F_APPEND, 0}[rng.IntN(3)]
		if after, flags, ok := kernelInsert(list, r, request); ok {
			list = after
			out = append(out, fibMessage{unix.RTM_NEWROUTE, flags, r, after})
		}
	}
	return out
}

func (m *fibMessage) apply(list []Route) []Route {
	if m.typ == unix.RTM_NEWROUTE {
		return insertAlias(list, m.route, m.flags)
	}
	list, _ = removeAlias(list, m.route)
	return list
}

func equalRoutes(a, b []Route) bool {
	return slices.EqualFunc(a, b, func(x, y Route) bool { return sameRoute(&x, &y) })
}

func TestAliasesFollowHistory(t *testing.T) {
	for seed := range uint64(300) {
		var list []Route
		for i, m := range history(rand.New(rand.NewPCG(seed, 0)), 40) {
			if list = m.apply(list); !equalRoutes(list, m.after) {
				t.Fatalf("seed %d, message %d: %v, not %v", seed, i, list, m.after)
			}
		}
	}
}

// TestReplay starts from a dump that is newer than the messages that follow
// it, as it is whenever something changes while a dump runs. Either the routes
// come out right or the State knows that it must ask again.
func TestReplay(t *testing.T) {
	asked := 0
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		h := history(rng, 20)
		dumped := rng.IntN(len(h))
		from := dumped - min(dumped, rng.IntN(6))
		s := newState(false)
		for _, r := range h[dumped].after {
			s.v4.routes.add(&r)
		}
		s.v4.beginReplay()
		for i := from; i < len(h); i++ {
			if i > dumped {
				s.endReplay()
			}
			if h[i].typ == unix.RTM_NEWROUTE {
				s.setRoute(h[i].route, h[i].flags)
			} else {
				s.deleteRoute(h[i].route)
			}
		}
		if !s.v4.stale && !equalRoutes(s.v4.routes.routes(keyOf(0, aliased)), h[len(h)-1].after) {
			t.Fatalf("seed %d from %d to %d: %v, not %v", seed, from, dumped, s.v4.routes.routes(keyOf(0, aliased)), h[len(h)-1].after)
		}
		if s.v4.stale {
			asked++
		}
	}
	if asked == 3000 {
		t.Error("never sure")
	}
	t.Logf("asked again %d times of 3000", asked)
}

// TestDumpBetweenDeathAndFlush: fib_sync_down_dev marks nexthops first and
// fib_flush drops the route later; a dump may fall between the two.
func TestDumpBetweenDeathAndFlush(t *testing.T) {
	s := newState(false)
	dead := uint32(unix.RTNH_F_DEAD | unix.RTNH_F_LINKDOWN)
	s.v4.routes.add(&Route{Table: 254, Dst: netip.MustParsePrefix("0.0.0.0/0"), Type: unix.RTN_UNICAST,
		Nexthops: []Nexthop{{Index: 2, Flags: dead, Weight: 1}, {Index: 3, Flags: dead, Weight: 1}}})
	s.v4.beginReplay()
	s.setLink(Link{Index: 3, Name: "b0"})
	if s.v4.routes.count != 0 || !s.v4.stale {
		t.Errorf("%d routes, stale %v", s.v4.routes.count, s.v4.stale)
	}
}

func TestRouteTable(t *testing.T) {
	var pool bodyPool
	rt := newRouteTable(&pool, 0)
	dst := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 0}), 24)
	}
	route := func(i, gw int) Route {
		return Route{Table: 254, Dst: dst(i), Type: unix.RTN_UNICAST,
			Nexthops: []Nexthop{{Index: 2, Gateway: netip.AddrFrom4([4]byte{192, 0, 2, byte(gw)}), Weight: 1}}}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	want := map[netip.Prefix][]Route{}
	for range 1000 {
		i := rng.IntN(20)
		var routes []Route
		for gw := range rng.IntN(4) {
			routes = append(routes, route(i, gw+rng.IntN(2)*10))
		}
		rt.put(keyOf(254, dst(i)), routes)
		if want[dst(i)] = routes; len(routes) == 0 {
			delete(want, dst(i))
		}
		n := 0
		for d, rs := range want {
			n += len(rs)
			if got := rt.routes(keyOf(254, d)); fmt.Sprint(got) != fmt.Sprint(rs) {
				t.Fatalf("%s: %v, not %v", d, got, rs)
			}
		}
		if rt.size() != len(want) || rt.count != n {
			t.Fatalf("%d sets of %d routes, not %d of %d", rt.size(), rt.count, len(want), n)
		}
	}
	rt.clear()
	if len(pool.byKey) != 0 || rt.count != 0 {
		t.Errorf("%d bodies and %d routes left", len(pool.byKey), rt.count)
	}
}

// TestRouteFamilies: a table holds routes of both families, apart.
func TestRouteFamilies(t *testing.T) {
	var pool bodyPool
	rt := newRouteTable(&pool, 0)
	dsts := []string{"0.0.0.0/0", "192.0.2.0/24", "192.0.2.1/32", "::/0", "2001:db8::/32", "::192.0.2.1/128", "2001:db8::1/128"}
	var prefixes []netip.Prefix
	for i, s := range dsts {
		prefixes = append(prefixes, netip.MustParsePrefix(s))
		rt.add(&Route{Table: 254, Dst: netip.MustParsePrefix(s), Priority: uint32(i)})
		rt.add(&Route{Table: 7, Dst: netip.MustParsePrefix(s), Priority: uint32(i + 100)})
		rt.add(&Route{Table: 7, Dst: netip.MustParsePrefix(s), Priority: uint32(i + 200)})
	}
	seen := 0
	for k := range rt.keys() {
		i := slices.Index(prefixes, k.dst())
		got := rt.routeSet(k)
		switch seen++; {
		case i < 0 || got.Table != k.table || got.Dst != k.dst() || got.Routes[0].Dst != k.dst() || got.Routes[0].Table != k.table:
			t.Errorf("%v: %+v", k, got)
		case k.table == 254 && (len(got.Routes) != 1 || got.Routes[0].Priority != uint32(i)),
			k.table == 7 && (len(got.Routes) != 2 || got.Routes[1].Priority != uint32(i+200)):
			t.Errorf("%v: %+v", k, got)
		}
	}
	if seen != 2*len(dsts) || rt.size() != seen || rt.count != 3*len(dsts) {
		t.Errorf("%d seen of %d, %d routes", seen, rt.size(), rt.count)
	}
	for range rt.keys() {
		break // may be left early
	}
	if rt.clear(); rt.size() != 0 || len(pool.byKey) != 0 {
		t.Errorf("%d destinations, %d bodies left", rt.size(), len(pool.byKey))
	}
}

// TestToldTwice: a dump may tell a route again when others change under it.
func TestToldTwice(t *testing.T) {
	var pool bodyPool
	rt := newRouteTable(&pool, 0)
	for _, gw := range []int{1, 1, 2, 1, 2, 3, 3, 1} {
		r := routeTo("10.0.0.0/8", gw)
		rt.add(&r)
	}
	got := rt.routes(keyOf(unix.RT_TABLE_MAIN, aliased))
	if len(got) != 3 || rt.count != 3 || got[0].Nexthops[0].Index != 1 || got[2].Nexthops[0].Index != 3 {
		t.Errorf("%d routes: %v", rt.count, got)
	}
	if rt.clear(); len(pool.byKey) != 0 || rt.count != 0 {
		t.Errorf("%d bodies, %d routes left", len(pool.byKey), rt.count)
	}
}
