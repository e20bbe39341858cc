package claim

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
)

// addForeign puts somebody else's program, which lets everything pass, into the
// interface's clsact.
func addForeign(t testing.TB, e *end, parent uint32, prio uint16, handle uint32) {
	t.Helper()
	const unspec = -1
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "foreign", Type: ebpf.SchedCLS, License: "GPL", Instructions: returns(unspec)})
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	err = netlink.QdiscAdd(clsact(e))
	if err != nil && !errors.Is(err, unix.EEXIST) {
		t.Fatal(err)
	}
	if err := netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: int(e.index), Parent: parent, Handle: handle, Protocol: unix.ETH_P_ALL, Priority: prio},
		Fd:          prog.FD(), Name: "foreign", DirectAction: true,
	}); err != nil {
		t.Fatal(err)
	}
}

func clsact(e *end) *netlink.GenericQdisc {
	return &netlink.GenericQdisc{QdiscType: "clsact", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: int(e.index), Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
}

func TestClsact(t *testing.T) {
	namespace(t)
	const ours = "parp_claim pref 1 handle 1"
	for _, c := range []struct {
		name    string
		before  func(e *end)
		claimed []string
		after   []string
	}{
		{"nothing there", func(*end) {}, []string{"clsact", ours}, nil},
		{"an empty clsact", func(e *end) {
			if err := netlink.QdiscAdd(clsact(e)); err != nil {
				t.Fatal(err)
			}
		}, []string{"clsact", ours}, []string{"clsact"}},
		{"somebody's egress filter", func(e *end) { addForeign(t, e, netlink.HANDLE_MIN_EGRESS, 1, 1) },
			[]string{"clsact", ours, "foreign pref 1 handle 1"}, []string{"clsact", "foreign pref 1 handle 1"}},
		{"somebody's ingress filter", func(e *end) { addForeign(t, e, netlink.HANDLE_MIN_INGRESS, 9, 1) },
			[]string{"clsact", ours, "foreign pref 9 handle 1"}, []string{"clsact", "foreign pref 9 handle 1"}},
		{"somebody in our place", func(e *end) { addForeign(t, e, netlink.HANDLE_MIN_INGRESS, 1, 1) },
			[]string{"clsact", "parp_claim pref 1 handle 2", "foreign pref 1 handle 1"}, []string{"clsact", "foreign pref 1 handle 1"}},
	} {
		e, s := veth(t, "a"), load(t)
		r, k := openRing(t, s, 64), openKernel(t, e, unix.ETH_P_IP)
		c.before(e)
		s.SetMode(Clsact)
		slot := forward(t, s, e, 10)
		expect(t, e, c.name+", claimed", c.claimed...)
		e.put(t, packet(e.mac, "203.0.113.9"))
		if a, b := drain(r, s, slot), len(k.got(t)); a != 1 || b != 0 {
			t.Errorf("%s: %d in the ring, %d in the kernel", c.name, a, b)
		}
		if err := s.Claim(e.index); err != nil || s.Mode() != Clsact {
			t.Errorf("%s: again: %v, mode %s", c.name, err, s.Mode())
		}
		expect(t, e, c.name+", claimed again", c.claimed...)
		if err := s.Release(e.index); err != nil {
			t.Error(err)
		}
		expect(t, e, c.name+", released", c.after...)
		remove(t, e)
	}
}

// Somebody joins while we are there: our qdisc stays for his filter, whichever
// way that looks, when we go and when what we left is swept.
func TestClsactStaysForOthers(t *testing.T) {
	namespace(t)
	for name, parent := range map[string]uint32{"a": netlink.HANDLE_MIN_INGRESS, "b": netlink.HANDLE_MIN_EGRESS} {
		e, s := veth(t, name), load(t)
		s.SetMode(Clsact)
		forward(t, s, e, 10)
		addForeign(t, e, parent, 5, 1)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		expect(t, e, "closed", "clsact", "foreign pref 5 handle 1")
		remove(t, e)

		e, s = veth(t, name), load(t)
		s.SetMode(Clsact)
		forward(t, s, e, 10)
		addForeign(t, e, parent, 5, 1)
		clear(s.claims) // kill -9: no Release
		if err := errors.Join(s.Close(), Sweep(int(e.index))); err != nil {
			t.Error(err)
		}
		expect(t, e, "swept", "clsact", "foreign pref 5 handle 1")
		remove(t, e)
	}
}

// What a killed predecessor left drops nothing, and goes with the next start.
func TestSweep(t *testing.T) {
	namespace(t)
	alone, shared, untouched := veth(t, "a"), veth(t, "b"), veth(t, "c")
	dead := load(t)
	dead.SetMode(Clsact)
	for _, e := range []*end{alone, shared} {
		forward(t, dead, e, 10)
	}
	addForeign(t, shared, netlink.HANDLE_MIN_INGRESS, 1, 2)
	if err := netlink.QdiscAdd(clsact(untouched)); err != nil {
		t.Fatal(err)
	}
	clear(dead.claims) // kill -9: no Release
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	k := openKernel(t, alone, unix.ETH_P_IP)
	alone.put(t, repeat(5, packet(alone.mac, "203.0.113.9"))...)
	if n := len(k.got(t)); n != 5 {
		t.Errorf("the kernel has %d of 5 frames back", n)
	}
	for range 2 {
		for _, e := range []*end{alone, shared, untouched} {
			if err := Sweep(int(e.index)); err != nil {
				t.Error(err)
			}
		}
		expect(t, alone, "swept")
		expect(t, shared, "swept beside a stranger", "clsact", "foreign pref 1 handle 2")
		expect(t, untouched, "swept though nothing of ours was there", "clsact")
	}
	if err := Sweep(1 << 20); err != nil {
		t.Errorf("no such interface: %v", err)
	}
}

// What a predecessor in another mode left goes at the start, from the interfaces
// that are ours and from no others; the program of the new mode stands alone then.
func TestSweepEarlierMode(t *testing.T) {
	namespace(t)
	alone, shared, others := veth(t, "a"), veth(t, "b"), veth(t, "c")
	dead := load(t)
	dead.SetMode(Clsact)
	for _, e := range []*end{alone, shared, others} {
		forward(t, dead, e, 10)
	}
	addForeign(t, shared, netlink.HANDLE_MIN_EGRESS, 1, 1)
	clear(dead.claims) // kill -9: no Release
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	asked := map[int]bool{}
	if err := SweepAll(func(ifindex int) bool {
		asked[ifindex] = true
		return ifindex != int(others.index)
	}); err != nil {
		t.Fatal(err)
	}
	if len(asked) != 3 {
		t.Errorf("asked about %v", asked)
	}
	expect(t, alone, "swept")
	expect(t, shared, "swept beside a stranger", "clsact", "foreign pref 1 handle 1")
	expect(t, others, "not ours", "clsact", "parp_claim pref 1 handle 1")

	s := load(t)
	r, k := openRing(t, s, 64), openKernel(t, alone, unix.ETH_P_IP)
	slot := forward(t, s, alone, 10)
	if s.Mode() == Clsact {
		nstest.Skip(t, "no TCX here")
	}
	expect(t, alone, "claimed anew", "TCXIngress")
	alone.put(t, packet(alone.mac, "203.0.113.9"))
	if a, b := drain(r, s, slot), len(k.got(t)); a != 1 || b != 0 {
		t.Errorf("%d in the ring, %d in the kernel", a, b)
	}
}
