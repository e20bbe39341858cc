package netstate

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func newRequester(t *testing.T, ns *netns) (r *Requester) {
	ns.do(func() (err error) { r, err = NewRequester(); return err })
	t.Cleanup(func() { r.Close() })
	return r
}

func TestUseNeighbourResolves(t *testing.T) {
	ns, other := newNetns(t), newNetns(t)
	f := follow(t, ns, Config{})
	index := ns.veth("a0", "b0")
	r := newRequester(t, ns)
	var tid int
	other.do(func() error { tid = unix.Gettid(); return nil })
	ns.do(func() error { return errors.Join(ns.addAddr("a0", "192.0.2.1/24"), ns.move("b0", tid)) })
	other.do(func() error { return errors.Join(other.addAddr("b0", "192.0.2.2/24"), other.setUp("b0")) })
	f.await("carrier", func() bool { l, _ := f.link("a0"); return l.Running() })
	ip := netip.MustParseAddr("192.0.2.2")
	if err := r.UseNeighbour(index, ip); err != nil {
		t.Fatal(err)
	}
	f.await("the neighbour's MAC", func() bool {
		n := f.neighbours[neighbourKey{index, ip}]
		return n.HasMAC && n.State.Valid()
	})
	if err := r.UseNeighbour(1<<20, ip); !errors.Is(err, unix.ENODEV) {
		t.Errorf("no such link: %v", err)
	}
}

func TestPermanentNeighbours(t *testing.T) {
	ns := newNetns(t)
	index := ns.veth("a0", "b0")
	r := newRequester(t, ns)
	want := Neighbour{Index: index, IP: netip.MustParseAddr("192.0.2.7"), MAC: [6]byte{2, 0, 0, 0, 0, 7}, HasMAC: true, State: unix.NUD_PERMANENT}
	stale := want
	stale.IP, stale.State = netip.MustParseAddr("192.0.2.8"), unix.NUD_STALE
	if err := errors.Join(r.make(want), r.make(stale)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got, err := r.PermanentNeighbours()
		if err != nil || !slices.Equal(got, []Neighbour{want}) {
			t.Fatalf("%+v, %v", got, err)
		}
		want.MAC[5]++
		if err := r.make(want); err != nil {
			t.Fatal(err)
		}
	}
	// Of any link and either family, a group's too; not what answers for others.
	second := ns.veth("c0", "d0")
	all := []Neighbour{want,
		{Index: second, IP: netip.MustParseAddr("192.0.2.9"), MAC: [6]byte{3, 0xbf, 10, 0, 0, 1}, HasMAC: true, State: unix.NUD_PERMANENT, Protocol: unix.RTPROT_BIRD},
		{Index: second, IP: netip.MustParseAddr("2001:db8::1"), MAC: oneMAC, HasMAC: true, State: unix.NUD_PERMANENT, Flags: unix.NTF_ROUTER}}
	proxy := Neighbour{Index: second, IP: netip.MustParseAddr("192.0.2.10"), Flags: unix.NTF_PROXY, State: unix.NUD_PERMANENT}
	if err := errors.Join(r.make(all[1]), r.make(all[2]), r.make(proxy)); err != nil {
		t.Fatal(err)
	}
	got, err := r.PermanentNeighbours()
	slices.SortFunc(got, func(a, b Neighbour) int { return a.IP.Compare(b.IP) })
	if err != nil || !slices.Equal(got, all) {
		t.Errorf("%+v, %v, want %+v", got, err, all)
	}
	if got, err := r.Neighbours(second); err != nil || len(got) != 1 || got[0] != all[2] {
		t.Errorf("of one link, stations' alone: %+v, %v", got, err)
	}
}

func TestSetMAC(t *testing.T) {
	ns := newNetns(t)
	index := ns.veth("a0", "b0")
	r := newRequester(t, ns)
	mac := [6]byte{2, 1, 2, 3, 4, 5}
	if err := r.SetMAC(index, mac); err != nil {
		t.Fatal(err)
	}
	l, err := r.LinkByIndex(index)
	if err != nil || l.MAC != mac || l.Name != "a0" || l.Kind != "veth" {
		t.Errorf("%+v, %v", l, err)
	}
	if err := r.SetMAC(index, [6]byte{1}); err == nil {
		t.Error("a group address was accepted")
	}
	if _, err := r.LinkByIndex(1 << 20); !errors.Is(err, ErrNotFound) || !errors.Is(err, unix.ENODEV) {
		t.Errorf("no such link: %v", err)
	}
	if err := r.SetMAC(1<<20, mac); !errors.Is(err, ErrNotFound) || !errors.Is(err, unix.ENODEV) {
		t.Errorf("no such link: %v", err)
	}
}

func TestRequesterIsConcurrentAndCloses(t *testing.T) {
	ns := newNetns(t)
	index := ns.veth("a0", "b0")
	r := newRequester(t, ns)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if l, err := r.LinkByIndex(index); err != nil || l.Index != index {
					t.Errorf("%+v, %v", l, err)
				}
				if _, err := r.LinkByIndex(1 << 20); !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	r.Close()
	if _, err := r.LinkByIndex(index); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// A neighbour that fails again is told of again: somebody has asked anew.
func TestNeighbourFailsAgain(t *testing.T) {
	ns := newNetns(t)
	f := follow(t, ns, Config{})
	index := ns.veth("a0", "b0")
	r := newRequester(t, ns)
	ns.do(func() error {
		return errors.Join(ns.addAddr("a0", "192.0.2.1/24"), os.WriteFile("/proc/sys/net/ipv4/neigh/a0/retrans_time_ms", []byte("10"), 0))
	})
	f.await("carrier", func() bool { l, _ := f.link("a0"); return l.Running() })
	for times := 1; times <= 3; times++ {
		if err := r.UseNeighbour(index, netip.MustParseAddr("192.0.2.9")); err != nil {
			t.Fatal(err)
		}
		f.await("failure", func() bool {
			n := 0
			for _, line := range f.log {
				if line == "set neighbour 192.0.2.9" {
					n++
				}
			}
			return n == times
		})
	}
}
