package netstate

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func addrFrom(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func TestWatcherFollowsLinks(t *testing.T) {
	ns := newNetns(t)
	f := follow(t, ns, Config{})
	first := ns.veth("a0", "b0")
	f.await("link a0, running", func() bool { l, ok := f.link("a0"); return ok && l.Running() && l.Kind == "veth" })

	mac := [6]byte{2, 0, 0, 0, 0, 0x17}
	ns.do(func() error {
		l, err := netlink.LinkByName("a0")
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetHardwareAddr(l, mac[:]), netlink.LinkSetMTU(l, 1400),
			netlink.LinkSetDown(l), netlink.LinkSetName(l, "c0"), netlink.LinkSetUp(l))
	})
	f.await("the rename", func() bool { l, ok := f.link("c0"); return ok && l.Index == first && l.MAC == mac && l.MTU == 1400 })
	f.awaitKernel(ns)

	ns.do(func() error { return ns.del("c0") })
	second := ns.veth("c0", "b0")
	f.await("the link made again", func() bool { l, ok := f.link("c0"); return ok && l.Index == second })
	if first == second {
		t.Fatal("the kernel used an index again")
	}
	f.awaitKernel(ns)

	ns.do(func() error { return ns.setDown("b0") })
	f.await("the loss of carrier", func() bool { l, _ := f.link("c0"); return l.Up() && !l.Running() })
}

// TestWatcherFollowsQdiscs: no link message tells of what tc does.
func TestWatcherFollowsQdiscs(t *testing.T) {
	ns := newNetns(t)
	f := follow(t, ns, Config{})
	ns.veth("a0", "b0")
	f.await("the qdisc of a veth", func() bool { l, _ := f.link("a0"); return l.Qdisc == "noqueue" })
	bfifo := func(index int) netlink.Qdisc {
		return &netlink.GenericQdisc{QdiscType: "bfifo", QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}}
	}
	index := 0
	f.await("a0", func() bool { l, ok := f.link("a0"); index = l.Index; return ok })
	ns.do(func() error { return netlink.QdiscAdd(bfifo(index)) })
	f.await("bfifo", func() bool { l, _ := f.link("a0"); return l.Qdisc == "bfifo" })
	ns.do(func() error { return netlink.QdiscDel(bfifo(index)) })
	f.await("its end", func() bool { l, _ := f.link("a0"); return l.Qdisc == QdiscDefault })
}

func TestWatcherLinkLeavesNamespace(t *testing.T) {
	ns, other := newNetns(t), newNetns(t)
	f := follow(t, ns, Config{})
	ns.veth("a0", "b0")
	var tid int
	other.do(func() error { tid = unix.Gettid(); return nil })
	ns.do(func() error {
		return errors.Join(ns.addAddr("a0", "192.0.2.1/24"), ns.move("a0", tid))
	})
	f.await("departure of a0", func() bool {
		_, there := f.link("a0")
		b, _ := f.link("b0")
		return !there && b.ParentForeign && len(f.addresses) == 1
	})
	f.awaitKernel(ns)
}

func TestWatcherBridgePortLeavesIsNoDeletion(t *testing.T) {
	ns := newNetns(t)
	f := follow(t, ns, Config{})
	ns.veth("a0", "b0")
	ns.do(func() error {
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
		if err := netlink.LinkAdd(br); err != nil {
			return err
		}
		l, err := netlink.LinkByName("a0")
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetMaster(l, br), netlink.LinkSetUp(br), netlink.LinkSetNoMaster(l))
	})
	f.awaitKernel(ns)
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.link("a0"); !ok {
		t.Fatal("a0 is gone")
	}
}

func TestWatcherFollowsRules(t *testing.T) {
	ns := newNetns(t)
	f := follow(t, ns, Config{})
	rule := func(table int, mark uint32) *netlink.Rule {
		r := netlink.NewRule()
		r.Family, r.Priority, r.Table, r.Mark = netlink.FAMILY_V4, 100, table, mark
		return r
	}
	ns.do(func() error {
		return errors.Join(netlink.RuleAdd(rule(7, 1)), netlink.RuleAdd(rule(8, 2)), netlink.RuleAdd(rule(9, 3)))
	})
	f.awaitKernel(ns)
	ns.do(func() error { return errors.Join(netlink.RuleDel(rule(7, 1)), netlink.RuleAdd(rule(7, 1))) })
	f.awaitKernel(ns)
	if len(f.rules) != 6 {
		t.Fatalf("%d rules", len(f.rules))
	}
}

func TestWatcherFollowsNeighbours(t *testing.T) {
	ns := newNetns(t)
	f := follow(t, ns, Config{})
	index := ns.veth("a0", "b0")
	n := &netlink.Neigh{LinkIndex: index, Family: netlink.FAMILY_V4, IP: net.IPv4(192, 0, 2, 9).To4(),
		State: unix.NUD_PERMANENT, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}}
	fdb := &netlink.Neigh{LinkIndex: index, Family: unix.AF_BRIDGE, Flags: unix.NTF_SELF,
		State: unix.NUD_PERMANENT, HardwareAddr: net.HardwareAddr{1, 0, 0x5e, 0, 0, 9}}
	ns.do(func() error { return errors.Join(netlink.NeighAppend(fdb), netlink.NeighAdd(n)) })
	f.await("the neighbour", func() bool { return len(f.neighbours) == 1 })
	f.awaitKernel(ns)
	n.HardwareAddr[5] = 10
	ns.do(func() error { return netlink.NeighSet(n) })
	f.awaitKernel(ns)
	ns.do(func() error { return netlink.NeighDel(n) })
	f.await("its end", func() bool { return len(f.neighbours) == 0 })

	ns.do(func() error { return errors.Join(netlink.NeighAdd(n), ns.del("a0")) })
	f.await("the end of the link", func() bool { _, ok := f.link("a0"); return !ok && len(f.neighbours) == 0 })
	if f.w.Stats().Ignored == 0 {
		t.Error("the bridge's entry was not counted as ignored")
	}
}

func TestRunBeginsWithTheState(t *testing.T) {
	ns := newNetns(t)
	ns.veth("a0", "b0")
	ns.do(func() error { return ns.addAddr("a0", "192.0.2.1/24") })
	f := follow(t, ns, Config{})
	f.awaitKernel(ns)
	if s := f.w.Stats(); s.Events == 0 || s.Resyncs != 0 {
		t.Errorf("%+v", s)
	}
}

func TestRunEnds(t *testing.T) {
	ns := newNetns(t)
	var w *Watcher
	ns.do(func() (err error) { w, err = Open(Config{}); return err })
	run := func(ctx context.Context, apply func([]Event) error) chan error {
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx, apply) }()
		return ended
	}
	synced := make(chan struct{}, 1)
	ready := func(evs []Event) error {
		if evs[len(evs)-1].Op == Synced {
			synced <- struct{}{}
		}
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := run(ctx, ready)
	<-synced
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	refused := errors.New("refused")
	if err := <-run(context.Background(), func([]Event) error { return refused }); err != refused {
		t.Errorf("apply failed: %v", err)
	}
	ended = run(context.Background(), ready)
	<-synced
	w.Close()
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if err := <-run(context.Background(), ready); !errors.Is(err, os.ErrClosed) {
		t.Errorf("run after close: %v", err)
	}
}

// TestEventsAndDumpsAgree compares every field of what events told with a
// dump: a difference in any would be reported again after each dump.
func TestEventsAndDumpsAgree(t *testing.T) {
	ns, f := twoLinks(t)
	f.await("carriers", func() bool {
		up := 0
		for _, l := range f.links {
			if l.OperState == 6 {
				up++
			}
		}
		return up == 4
	})
	var w *Watcher
	ns.do(func() (err error) { w, err = Open(Config{}); return err })
	defer w.Close()
	f.await("the same as a dump tells", func() bool {
		same := maps.Equal(f.links, w.state.links) && maps.EqualFunc(f.addresses, w.state.addresses.lists, slices.Equal) &&
			slices.Equal(f.rules, w.state.ruleSet(IPv4).Rules) && len(f.sets) == w.state.v4.routes.size()
		for k := range w.state.v4.routes.keys() {
			same = same && reflect.DeepEqual(f.sets[k], w.state.v4.routes.routes(k))
		}
		return same
	})
}
