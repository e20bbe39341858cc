package ebpf

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"proxyarpd/forward/claim"
	"proxyarpd/forward/route"
	"proxyarpd/forward/route/routetest"
)

// means is what the programs do with packets to an address.
func (m *mirror) means(addr netip.Addr) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.mem.(*heap)
	word := h.lookup(addr)
	if word <= claim.ToRing {
		return fmt.Sprint(word)
	}
	key, hop := m.hops.all[word].key, h.hops[word]
	if key.several {
		return fmt.Sprintf("%+v", hop)
	}
	next := ""
	if !key.next.IsValid() {
		if id := h.neighbours[hopKey{ifindex: key.ifindex, next: addr}]; id != 0 {
			next = fmt.Sprintf(", %x", h.hops[id].MAC)
		}
	}
	way := h.ways[hop.Way]
	way.Fresh = 0
	return fmt.Sprintf("%+v by %d, %x%s, way %+v", key, hop.Ifindex, hop.MAC, next, way)
}

func testMirror() *mirror {
	return newMirror(newHeap(), func() uint64 { return uint64(time.Now().UnixNano()) }, func() error { return nil })
}

// check looks for what nobody names, or somebody names that is not held.
func (m *mirror) check(t *testing.T) {
	t.Helper()
	h := m.mem.(*heap)
	refs, chunks := map[uint32]int{}, map[uint32]int{}
	name := func(word uint32) {
		if word > claim.ToRing {
			refs[word]++
		}
	}
	var chunk func(id uint32)
	chunk = func(id uint32) {
		c := h.Chunk(id)
		chunks[id] = 0
		for _, word := range c.Word {
			if word != 0 {
				chunks[id]++
			}
			if word&claim.ToChunk != 0 {
				chunk(word &^ claim.ToChunk)
			} else {
				name(word)
			}
		}
		name(c.Above)
	}
	for _, word := range h.Chunk(0).Word {
		name(word)
	}
	for _, r := range h.root {
		name(r.Hop)
		if r.Chunk != 0 {
			chunk(r.Chunk)
		}
	}
	for _, id := range h.neighbours {
		name(id)
	}
	for p, word := range h.routes6 {
		name(word)
		if kept := m.words6[key6{p.Addr().As16(), uint8(p.Bits())}]; kept != word || word == claim.AsAbove {
			t.Fatalf("%v: word %d, kept is %d", p, word, kept)
		}
	}
	if len(h.routes6) != len(m.words6) {
		t.Fatalf("%d prefixes, kept are %d", len(h.routes6), len(m.words6))
	}
	for id, hop := range m.hops.all {
		if hop.refs != refs[uint32(id)] {
			t.Fatalf("next hop %d: %d words name it, counted are %d", id, refs[uint32(id)], hop.refs)
		}
	}
	if fmt.Sprint(chunks) != fmt.Sprint(m.chunks.used) {
		t.Fatalf("chunks %v, counted are %v", chunks, m.chunks.used)
	}
}

// A mirror that has followed changes says the same as one that is made at once,
// and what the table says.
func TestMirrorFollows(t *testing.T) {
	for _, family := range families {
		t.Run(family.String(), func(t *testing.T) { testMirrorFollows(t, family) })
	}
}

func testMirrorFollows(t *testing.T, family route.Family) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	kinds := map[string]int{}
	for range map[route.Family]int{route.IPv4: 60, route.IPv6: 20}[family] {
		w := newWorld(rng, family)
		b := w.Builder()
		m := testMirror()
		for step := range 12 {
			table := b.Publish()
			if err := m.publish(table); err != nil {
				t.Fatal(err)
			}
			m.check(t)
			anew := testMirror()
			if err := anew.publish(table); err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				if on := m.mem.(*heap).on[f]; on != table.Plain(f) {
					t.Fatalf("carries %v: %v, rules are plain: %v", f, on, table.Plain(f))
				}
			}
			for _, a := range w.Probes(rng) {
				got, want := m.means(a), anew.means(a)
				if got != want {
					t.Fatalf("step %d, %v: %s, want %s\n%v", step, a, got, want, w)
				}
				if table.Plain(family) {
					kinds[m.compare(t, table, a)]++
				}
			}
			w.Change(rng, b)
		}
		m.mu.Lock()
		for _, f := range families {
			m.of[f].table = nil
			m.forget(f)
		}
		m.mu.Unlock()
		m.check(t)
		if len(m.hops.byKey) != 0 || len(m.chunks.used) != 0 {
			t.Fatalf("left behind: next hops %v, chunks %v", m.hops.byKey, m.chunks.used)
		}
	}
	t.Log(kinds)
	for _, kind := range []string{"ring", "none", "hop", "subnet", "several"} {
		if kinds[kind] == 0 {
			t.Errorf("never came to %s", kind)
		}
	}
}

// newWorld is a random host that has a family.
func newWorld(rng *rand.Rand, family route.Family) *routetest.World {
	if family == route.IPv6 {
		return routetest.New6(rng)
	}
	return routetest.New(rng)
}

// compare holds a word to what the table says of a packet to the address.
func (m *mirror) compare(t *testing.T, table *route.Table, a netip.Addr) string {
	t.Helper()
	word := m.mem.(*heap).lookup(a)
	sources := []netip.Addr{netip.MustParseAddr("10.9.9.9")}
	if a.Is6() { // what has routes for sources of its own is the ring's
		sources = []netip.Addr{netip.MustParseAddr("4000::9"), routetest.To6(netip.MustParseAddr("10.0.0.1")), routetest.To6(netip.MustParseAddr("192.168.1.7"))}
	}
	for _, src := range sources {
		for _, tos := range []uint8{0, 4, 8, 16, 0x18} {
			r := table.Lookup(a, src, 2, tos)
			if word == claim.ToRing {
				return "ring"
			}
			if word == claim.AsAbove {
				if r != nil {
					t.Fatalf("%v: no way, and a route %+v", a, r)
				}
				continue
			}
			key := m.hops.all[word].key
			if key.several && r != nil && r.Type == route.TypeUnicast && len(r.Nexthops) > 1 {
				continue
			}
			if r == nil || r.Type != route.TypeUnicast || len(r.Nexthops) != 1 || r.Nexthops[0].Ifindex != key.ifindex || mtuOf(a, r) != key.mtu ||
				r.Nexthops[0].Gateway != key.next && (r.Nexthops[0].Gateway.IsValid() || key.next.IsValid() && key.next != a) {
				t.Fatalf("%v, TOS %d: %+v, and the route is %+v", a, tos, key, r)
			}
		}
	}
	if word == claim.AsAbove {
		return "none"
	}
	switch key := m.hops.all[word].key; {
	case key.several:
		return "several"
	case key.subnet():
		return "subnet"
	}
	return "hop"
}

// mtuOf is the MTU of a route as packets to an address have it.
func mtuOf(a netip.Addr, r *route.Route) int {
	if a.Is6() && r.MTULock && r.MTU != 0 {
		return max(r.MTU, 1280)
	}
	return r.MTU
}

// Without room nothing is carried, rather than something wrong; of IPv4, if it is IPv4's.
func TestMirrorFull(t *testing.T) {
	b := routetest.Host(route.Policy{IPv6: true})
	m := testMirror()
	if err := m.publish(b.Publish()); err != nil || !m.mem.(*heap).on[route.IPv4] {
		t.Fatal(err)
	}
	m.mem.(*heap).full = true
	for i := range 300 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 8), byte(i), 0}), 24)
		q := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(30 + i%100), byte(i), 1, 1}), 32)
		for _, p := range []netip.Prefix{p, q} {
			b.SetRoutes(route.TableMain, p, []route.Route{{Table: route.TableMain, Type: route.TypeUnicast, Nexthops: []route.Nexthop{{Ifindex: routetest.IfUplink, Weight: 1}}}})
		}
	}
	table := b.Publish()
	if err := m.publish(table); !errors.As(err, &familyError{}) || m.mem.(*heap).on != [2]bool{route.IPv6: true} {
		t.Errorf("error %v, carries %v", err, m.mem.(*heap).on)
	}
	if err := m.publish(table); err != nil || m.mem.(*heap).lookup(netip.MustParseAddr("20.0.7.1")) != claim.AsAbove {
		t.Errorf("it is said again: %v, or something is still there", err)
	}
	m.check(t)
}

// An interface that is claimed is new by itself: it keeps no flow of others in the ring.
func TestMirrorFreshWay(t *testing.T) {
	b := routetest.Host(route.Policy{})
	m := testMirror()
	if err := m.publish(b.Publish()); err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	before := m.mem.(*heap).until
	m.mu.Unlock()
	m.setClaimed(routetest.IfPod1, true)
	m.mu.Lock()
	defer m.mu.Unlock()
	if h := m.mem.(*heap); h.until > before || h.ways[1].Fresh <= m.now() || h.ways[1].In&claim.InOK == 0 {
		t.Errorf("new until %d, before %d; %+v", h.until, before, h.ways[1])
	}
}

// What a change lets be carried is new for a while, however long the change takes.
func TestMirrorFreshLong(t *testing.T) {
	b := routetest.Host(route.Policy{})
	m := testMirror()
	clock := uint64(0)
	m.now = func() uint64 { clock += uint64(freshTime / 5); return clock }
	if err := m.publish(b.Publish()); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i), 0, 0}), 16)
		b.SetRoutes(route.TableMain, p, []route.Route{{Table: route.TableMain, Type: route.TypeUnicast, Nexthops: []route.Nexthop{{Ifindex: routetest.IfUplink, Weight: 1}}}})
	}
	if err := m.publish(b.Publish()); err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if until := m.mem.(*heap).until; clock < uint64(10*freshTime) || until < clock+uint64(freshTime) {
		t.Errorf("it is %v, and new until %v", time.Duration(clock), time.Duration(until))
	}
}

// What becomes known is new for a while, and then no more.
func TestMirrorFresh(t *testing.T) {
	b := routetest.Host(route.Policy{})
	m, h := testMirror(), (*heap)(nil)
	h = m.mem.(*heap)
	if err := m.publish(b.Publish()); err != nil {
		t.Fatal(err)
	}
	gateway := netip.MustParseAddr("192.168.1.77")
	b.SetNeighbour(routetest.IfUplink, gateway, &route.Neighbour{MAC: routetest.MACRouter, Valid: true})
	if err := m.publish(b.Publish()); err != nil {
		t.Fatal(err)
	}
	id := m.hops.byKey[hopKey{ifindex: routetest.IfUplink, next: gateway}]
	m.mu.Lock()
	if now := m.now(); h.hops[id].Fresh < now || h.until < now {
		t.Errorf("not new: %+v, until %d, now %d", h.hops[id], h.until, now)
	}
	m.mu.Unlock()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		m.mu.Lock()
		fresh := h.hops[id].Fresh != 0 || h.until != 0 || m.aging
		m.mu.Unlock()
		if !fresh {
			break
		}
		if time.Now().After(end) {
			t.Fatal("new for ever")
		}
	}
}
