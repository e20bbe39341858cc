package claim

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// attachments lists what stands at an interface's tc hooks: programs of TCX,
// clsact, and the filters in it.
func attachments(t testing.TB, e *end) []string {
	t.Helper()
	var all []string
	for _, a := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		q, err := link.QueryPrograms(link.QueryOptions{Target: int(e.index), Attach: a})
		if err != nil {
			t.Fatal(err)
		}
		for range q.Programs {
			all = append(all, a.String())
		}
	}
	dev := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: int(e.index)}}
	qdiscs, err := netlink.QdiscList(dev)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range qdiscs {
		if q.Attrs().Parent == netlink.HANDLE_CLSACT {
			all = append(all, q.Type())
		}
	}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		filters, err := netlink.FilterList(dev, parent)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range filters {
			a := f.Attrs()
			if b, ok := f.(*netlink.BpfFilter); ok {
				all = append(all, fmt.Sprintf("%s pref %d handle %d", b.Name, a.Priority, a.Handle))
			}
		}
	}
	return all
}

func expect(t testing.TB, e *end, when string, want ...string) {
	t.Helper()
	if got := attachments(t, e); !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", when, got, want)
	}
}

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

func TestTCX(t *testing.T) {
	namespace(t)
	e, s := veth(t, "a"), load(t)
	if s.Mode() == Clsact {
		t.Fatal("clsact before it was tried")
	}
	for range 2 {
		if err := s.Claim(e.index); err != nil {
			t.Fatal(err)
		}
		expect(t, e, "claimed", "TCXIngress")
	}
	if s.Mode() != TCX {
		t.Skipf("no TCX here: %s", s.Mode())
	}
	for range 2 {
		if err := s.Release(e.index); err != nil {
			t.Fatal(err)
		}
		expect(t, e, "released")
	}
	if err := s.Claim(1 << 20); !errors.Is(err, unix.ENODEV) {
		t.Errorf("no such interface: %v", err)
	}
	// Ours comes before what is there, whose verdict might end the chain.
	const ok = 0
	foreign, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: returns(ok)})
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	l, err := link.AttachTCX(link.TCXOptions{Interface: int(e.index), Program: foreign, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, k := openRing(t, s, 64), openKernel(t, e, unix.ETH_P_IP)
	slot := forward(t, s, e, 10)
	e.put(t, packet(e.mac, "203.0.113.9"))
	if a, b := drain(r, s, slot), len(k.got(t)); a != 1 || b != 0 {
		t.Errorf("beside another program: %d in the ring, %d in the kernel", a, b)
	}
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

// Somebody joins while we are there: our qdisc stays for his filter.
func TestClsactStaysForOthers(t *testing.T) {
	namespace(t)
	e, s := veth(t, "a"), load(t)
	s.SetMode(Clsact)
	forward(t, s, e, 10)
	addForeign(t, e, netlink.HANDLE_MIN_INGRESS, 5, 1)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	expect(t, e, "closed", "clsact", "foreign pref 5 handle 1")
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

// An interface that vanishes takes the claim with it; letting go then is no error.
func TestInterfaceVanishes(t *testing.T) {
	namespace(t)
	for _, m := range []Mode{TCX, Clsact} {
		s := load(t)
		s.SetMode(m)
		for i, letGo := range []func(int32) error{s.Release, s.DeletePort, func(int32) error { return s.Close() }} {
			e := veth(t, "a")
			forward(t, s, e, 10)
			remove(t, e)
			if err := letGo(e.index); err != nil {
				t.Errorf("%s, %d: %v", m, i, err)
			}
		}
	}
}

func remove(t testing.TB, e *end) {
	t.Helper()
	if err := netlink.LinkDel(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: int(e.index)}}); err != nil {
		t.Fatal(err)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	namespace(t)
	e := veth(t, "a")
	files := openFiles(t)
	for _, m := range []Mode{TCX, Clsact, None} {
		s, err := Load(ARPPolice{PerSecond: 1, Burst: 1})
		if err != nil {
			t.Fatal(err)
		}
		var ids []ebpf.ProgramID
		for _, p := range []*ebpf.Program{s.ring, s.arp, s.claim} {
			info, err := p.Info()
			if err != nil {
				t.Fatal(err)
			}
			id, _ := info.ID()
			ids = append(ids, id)
		}
		s.SetMode(m)
		r := openRing(t, s, 64)
		forward(t, s, e, 10)
		if s.Claimed(e.index) == (m == None) {
			t.Errorf("%s: claimed %v", m, s.Claimed(e.index))
		}
		if err := errors.Join(s.Close(), r.Close()); err != nil {
			t.Error(err)
		}
		expect(t, e, string(m)+", closed")
		for _, id := range ids {
			for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // the kernel frees by RCU
				p, err := ebpf.NewProgramFromID(id)
				if errors.Is(err, fs.ErrNotExist) {
					break
				}
				if p.Close(); time.Now().After(deadline) {
					t.Fatalf("%s: program %d is still loaded", m, id)
				}
			}
		}
	}
	if n := openFiles(t); n > files {
		t.Errorf("%d open files, %d before", n, files)
	}
}

func openFiles(t testing.TB) int {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}
