package route

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"proxyarpd/internal/wire"
)

// classMap is what a consumer of UpdateClasses has.
type classMap map[netip.Prefix]Class

func (m classMap) set(t *testing.T) func(netip.Prefix, Class) {
	return func(p netip.Prefix, c Class) {
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

func (m classMap) lookup(dst netip.Addr) Class {
	best, bits := ToElsewhere, -1
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
	for range 400 {
		w := newWorld(rng)
		b := w.builder()
		told := classMap{}
		for range 30 {
			table := b.Publish()
			b.UpdateClasses(told.set(t))
			for _, dst := range w.probes(rng) {
				want := table.Class(dst)
				if got := told.lookup(dst); got != want {
					t.Fatalf("%v: told %b, is %b\n%v\n%v", dst, got, want, w, told)
				}
				if got := b.classes.Lookup(dst); got != want {
					t.Fatalf("%v: kept %b, is %b\n%v", dst, got, want, w)
				}
			}
			for p, c := range told {
				if told.without(p).lookup(p.Addr()) == c && p.Bits() == 32 {
					t.Errorf("%v is told needlessly\n%v", p, told)
				}
			}
			if t.Failed() {
				return
			}
			for range 1 + rng.IntN(3) {
				w.change(rng, b)
			}
		}
	}
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
	counts := map[Verdict]int{}
	for range 2000 {
		w := newWorld(rng)
		w.policy.Copies = false
		table := w.build()
		for range 50 {
			data := make([]byte, 48)
			for i := range data {
				data[i] = byte(rng.Uint32())
			}
			f := w.newFrame(data)
			in := table.Link(f.Ifindex)
			l2 := f.l2len()
			if in == nil || len(f.Buf) < VnetLen+l2+wire.IPv4MinLen {
				continue
			}
			ip := wire.IPv4(f.Buf[VnetLen+l2:])
			dst := ip.DstAddr()
			if !forwardable(dst) {
				continue
			}
			owner := table.Owner(ip, in)
			byClass := table.policy.owner(table.Class(dst), in)
			counts[owner]++
			switch {
			case owner == byClass:
			case owner == NotSpecified && byClass == PuntTransit && in.KernelForwards():
				// Not certain to be ours, and the kernel forwards.
			case byClass == NotSpecified && owner == Local && !in.KernelForwards():
				// Maybe this host's, and nobody else would forward: taken, and given back.
			case owner == Local && byClass == PuntTransit && in.KernelForwards():
			default:
				t.Fatalf("%v from %v: %v, by its destination alone %v (class %b)\n%v", dst, in.Name, owner, byClass, table.Class(dst), w)
			}
		}
	}
	t.Log(counts)
	for _, v := range []Verdict{NotSpecified, Local, Punt, PuntTransit} {
		if counts[v] == 0 {
			t.Errorf("never came to %v", v)
		}
	}
}

// A full table of routes to uplinks is told in one word: nothing.
func TestClassesOfFullTable(t *testing.T) {
	b := testBuilder(Policy{})
	nh := []Nexthop{{Ifindex: ifUplink, Weight: 1, Gateway: netip.MustParseAddr("192.168.1.16")}}
	for i := range 100_000 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(20 + i>>16), byte(i >> 8), byte(i), 0}), 24)
		b.SetRoutes(TableMain, p, []Route{{Table: TableMain, Type: TypeUnicast, Nexthops: nh}})
	}
	b.Publish()
	told := classMap{}
	b.UpdateClasses(told.set(t))
	want := classMap{}
	for p, c := range map[string]Class{"10.65.0.1/32": ToWorkload, "10.65.0.2/32": ToWorkload, "192.168.1.32/32": ToLocal, "192.168.1.255/32": ToLocal} {
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
	b.SetRoutes(TableMain, netip.MustParsePrefix("0.0.0.0/0"), []Route{{Table: TableMain, Type: TypeUnicast, Nexthops: []Nexthop{{Ifindex: 99, Weight: 1}}}})
	b.Publish()
	b.UpdateClasses(told.set(t))
	if n := len(told); n < 100_000 || told[netip.MustParsePrefix("0.0.0.0/0")] != ToUnserved {
		t.Errorf("%d told", n)
	}
	b.SetRoutes(TableMain, netip.MustParsePrefix("0.0.0.0/0"), nil)
	b.Publish()
	b.UpdateClasses(told.set(t))
	if len(told) != len(want) {
		t.Errorf("%d told", len(told))
	}
}
