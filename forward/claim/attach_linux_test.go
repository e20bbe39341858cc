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

	"proxyarpd/internal/nstest"
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
		nstest.Skip(t, "needs TCX (Linux 6.6), here is %s", s.Mode())
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
		s, err := Load(Config{ARP: ARPPolice{PerSecond: 1, Burst: 1}})
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
