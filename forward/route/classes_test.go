package route_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"proxyarpd/forward/route"
	"proxyarpd/forward/route/routetest"
	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

// classMap is what a consumer of UpdateClasses has.
type classMap map[netip.Prefix]route.Class

func (m classMap) set(t *testing.T) func(netip.Prefix, route.Class) {
	return func(p netip.Prefix, c route.Class) {
		switch _, had := m[p]; {
		case c == 0 && !had:
			t.Errorf("%v is forgotten, and was never told", p)
		case c == 0:
			delete(m, p)
		case m[p] == c:
			t.Errorf("%v is told to be %b again", p, c)
		default:
			m[p] = c
		}
	}
}

func (m classMap) lookup(dst netip.Addr) route.Class {
	best, bits := route.ToElsewhere, -1
	for p, c := range m {
		if p.Contains(dst) && p.Bits() > bits {
			best, bits = c, p.Bits()
		}
	}
	return best
}

// What is told prefix by prefix is the class of each destination, also while
// routes, rules and interfaces change, and no more is told than has to be.
func TestClassesFollowChanges(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range nstest.Rounds(400) {
		w := newWorld(rng, i)
		b := w.Builder()
		told := classMap{}
		for range 30 {
			table := b.Publish()
			b.UpdateClasses(told.set(t))
			for _, dst := range w.Probes(rng) {
				want := table.Class(dst)
				if got := told.lookup(dst); got != want {
					t.Fatalf("%v: told %b, is %b\n%v\n%v", dst, got, want, w, told)
				}
				if got := b.KeptClass(dst); got != want {
					t.Fatalf("%v: kept %b, is %b\n%v", dst, got, want, w)
				}
			}
			for p, c := range told {
				if told.without(p).lookup(p.Addr()) == c && p.IsSingleIP() {
					t.Errorf("%v is told needlessly\n%v", p, told)
				}
			}
			if t.Failed() {
				return
			}
			for range 1 + rng.IntN(3) {
				w.Change(rng, b)
			}
		}
	}
}

// newWorld draws the nth world: each other one has IPv6.
func newWorld(rng *rand.Rand, n int) *routetest.World {
	if n%2 == 1 {
		return routetest.New6(rng)
	}
	return routetest.New(rng)
}

// draw draws a packet of the world's family, with its destination and the table's link
// that it comes in by, nil if that has none.
func draw(w *routetest.World, t *route.Table, c *routetest.Choices) (in *route.Link, ip []byte, dst netip.Addr) {
	if w.Family == route.IPv6 {
		from, ip := w.Packet6(c)
		return t.Link(from.Ifindex), ip, wire.IPv6(ip).DstAddr()
	}
	from, ip := w.Packet(c)
	return t.Link(from.Ifindex), ip, wire.IPv4(ip).DstAddr()
}

// forwards reports whether the kernel forwards what comes in for an address.
func forwards(in *route.Link, dst netip.Addr) bool {
	if dst.Is6() {
		return in.KernelForwards6()
	}
	return in.KernelForwards()
}

func (m classMap) without(p netip.Prefix) classMap {
	rest := classMap{}
	for q, c := range m {
		if q != p {
			rest[q] = c
		}
	}
	return rest
}

// What becomes of a packet is among what its destination's class says, and whose
// it is by its destination alone is whose it is, but for what can't be told so.
func TestOwnerByDestination(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	counts := map[route.Verdict]int{}
	for i := range nstest.Rounds(2000) {
		w := newWorld(rng, i)
		w.Policy.Copies = false
		table := w.Build()
		for range 50 {
			data := make([]byte, 48)
			for i := range data {
				data[i] = byte(rng.Uint32())
			}
			c := routetest.Choices(data)
			in, ip, dst := draw(w, table, &c)
			if in == nil || !route.Forwardable(dst) || ip[0]>>4 == 6 != dst.Is6() { // else Owner reads it as of the other family
				continue
			}
			owner := table.Owner(ip, in)
			byClass := table.OwnerOf(dst, in)
			counts[owner]++
			switch {
			case owner == byClass:
			case owner == route.NotSpecified && byClass == route.PuntTransit && forwards(in, dst):
				// Not certain to be ours, and the kernel forwards.
			case byClass == route.NotSpecified && owner == route.Local && !forwards(in, dst):
				// Maybe this host's, and nobody else would forward: taken, and given back.
			case owner == route.Local && byClass == route.PuntTransit && forwards(in, dst):
			case owner == route.Local && byClass == route.Punt:
				// The kernel's in any case: not all routes to there end in it.
			default:
				t.Fatalf("%v from %v: %v, by its destination alone %v (class %b)\n%v", dst, in.Name, owner, byClass, table.Class(dst), w)
			}
		}
	}
	t.Log(counts)
	for _, v := range []route.Verdict{route.NotSpecified, route.Local, route.Punt, route.PuntTransit} {
		if counts[v] == 0 {
			t.Errorf("never came to %v", v)
		}
	}
}

// A full table of routes to uplinks is told in one word: nothing.
func TestClassesOfFullTable(t *testing.T) {
	b := routetest.Host(route.Policy{})
	nh := []route.Nexthop{{Ifindex: routetest.IfUplink, Weight: 1, Gateway: netip.MustParseAddr("192.168.1.16")}}
	for i := range 100_000 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(20 + i>>16), byte(i >> 8), byte(i), 0}), 24)
		b.SetRoutes(route.TableMain, p, []route.Route{{Table: route.TableMain, Type: route.TypeUnicast, Nexthops: nh}})
	}
	b.Publish()
	told := classMap{}
	b.UpdateClasses(told.set(t))
	want := classMap{}
	for p, c := range map[string]route.Class{"10.65.0.1/32": route.ToWorkload, "10.65.0.2/32": route.ToWorkload, "192.168.1.32/32": route.ToLocal, "192.168.1.255/32": route.ToLocal} {
		want[netip.MustParsePrefix(p)] = c
	}
	if len(told) != len(want) {
		t.Errorf("told %v", told)
	}
	for p, c := range want {
		if told[p] != c {
			t.Errorf("%v is %b, not %b", p, told[p], c)
		}
	}
	// A default route over an interface that is not served makes all of them differ.
	b.SetRoutes(route.TableMain, netip.MustParsePrefix("0.0.0.0/0"), []route.Route{{Table: route.TableMain, Type: route.TypeUnicast, Nexthops: []route.Nexthop{{Ifindex: 99, Weight: 1}}}})
	b.Publish()
	b.UpdateClasses(told.set(t))
	if n := len(told); n < 100_000 || told[netip.MustParsePrefix("0.0.0.0/0")] != route.ToUnserved {
		t.Errorf("%d told", n)
	}
	b.SetRoutes(route.TableMain, netip.MustParsePrefix("0.0.0.0/0"), nil)
	b.Publish()
	b.UpdateClasses(told.set(t))
	if len(told) != len(want) {
		t.Errorf("%d told", len(told))
	}
}

// An address that leaves the host is no longer this host's to the ring's filter:
// what its traffic is then, the routes say.
func TestClassesForgetAddress(t *testing.T) {
	b := routetest.Host(route.Policy{})
	own := netip.MustParsePrefix("10.65.1.7/32") // in a subnet that leads to an uplink
	local := []route.Route{{Table: route.TableLocal, Type: route.TypeLocal, Nexthops: []route.Nexthop{{Ifindex: 1, Weight: 1}}}}
	told := classMap{}
	update := func() *route.Table {
		table := b.Publish()
		b.UpdateClasses(told.set(t))
		return table
	}
	update()
	for range 2 { // it may come and go again
		b.SetRoutes(route.TableLocal, own, local)
		if table := update(); told[own] != route.ToLocal || table.Class(own.Addr()) != route.ToLocal {
			t.Fatalf("an address of the host is told as %b", told[own])
		}
		b.SetRoutes(route.TableLocal, own, nil)
		if table := update(); told.lookup(own.Addr()) != route.ToElsewhere || table.Class(own.Addr()) != route.ToElsewhere {
			t.Errorf("one that has left is told as %b", told.lookup(own.Addr()))
		}
		if _, still := told[own]; still {
			t.Error("one that has left keeps an entry")
		}
	}
	// It may be a workload's next.
	b.SetRoutes(route.TableLocal, own, local)
	update()
	b.SetRoutes(route.TableMain, own, []route.Route{{Table: route.TableMain, Type: route.TypeUnicast,
		Nexthops: []route.Nexthop{{Ifindex: routetest.IfPod1, Weight: 1}}}})
	b.SetRoutes(route.TableLocal, own, nil)
	if update(); told[own] != route.ToWorkload {
		t.Errorf("a workload's is told as %b", told[own])
	}
}
