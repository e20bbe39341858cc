package ndp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"proxyarpd/arpd"
	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

// joined are the solicited-node groups of an interface, as the kernel lists them, of
// addresses fd00:65::N:X.
func joined(t *testing.T, name string) (all []string) {
	t.Helper()
	b, err := os.ReadFile("/proc/thread-self/net/igmp6")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == name && strings.HasPrefix(f[2], "ff0200000000000000000001ff65") {
			all = append(all, f[2])
		}
	}
	return all
}

// nth is an address with a group of its own.
func nth(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd00:65::65:%x", n)) }

// startGroups runs Groups in the test's namespace until the test ends.
func (l *lab) startGroups() *Groups {
	l.t.Helper()
	g := NewGroups(nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocks it: the thread ends
		if err := netns.Set(l.host); err != nil {
			done <- err
			return
		}
		done <- g.Run(ctx)
	}()
	l.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			l.t.Error(err)
		}
	})
	return g
}

func (l *lab) awaitJoined(g *Groups, name string, want int) {
	l.t.Helper()
	t := l.t.(*testing.T)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		got, s := joined(t, name), g.Stats()
		if len(got) == want && s.Joined == want && g.Settled() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is in %d groups, want %d; %+v", name, len(got), want, s)
		}
	}
}

// More groups than one socket can have, of which some are shared by two addresses.
func TestGroups(t *testing.T) {
	l := newLab(t)
	s := l.veth("ens1", deviceMAC, true)
	// Where it is the namespace's own, not of all of them, one socket has few.
	_ = os.WriteFile("/proc/thread-self/root/proc/sys/net/core/optmem_max", []byte("8192"), 0)
	g := NewGroups(nil)
	if g.Hold(s.index, nth(0)); g.Settled() {
		t.Error("it is joined, and nobody joins")
	}
	g = l.startGroups()
	const n = 1100
	for i := range n {
		g.Hold(s.index, nth(i))
		g.Hold(s.index, nth(i))
	}
	twin := netip.MustParseAddr("2001:db8::65:0") // in the group of nth(0)
	g.Hold(s.index, twin)
	l.awaitJoined(g, "ens1", n)
	if st := g.Stats(); st.Addresses != n+1 || st.Groups != n || st.Failed != 0 || st.Sockets == 0 {
		t.Errorf("%+v", st)
	} else {
		t.Logf("%d groups on %d sockets", st.Joined, st.Sockets)
	}
	for i := range n {
		g.Release(s.index, nth(i))
		g.Release(s.index, nth(i))
	}
	l.awaitJoined(g, "ens1", 1)
	g.Release(s.index, twin)
	l.awaitJoined(g, "ens1", 0)
}

// IPv6 ends on an interface and begins again; an interface goes, and another one comes.
func TestGroupsJoinedAgain(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s := l.veth("ens1", deviceMAC, true)
	g := l.startGroups()
	g.Hold(s.index, nth(1))
	g.Hold(s.index, nth(2))
	l.awaitJoined(g, "ens1", 2)
	// What is joined stays so while the link is down, and is reported again.
	l.must(l.hostLinks.LinkSetDown(s.host))
	l.must(l.hostLinks.LinkSetUp(s.host))
	l.awaitJoined(g, "ens1", 2)
	// With an MTU that is too small for IPv6 the kernel forgets all.
	l.must(l.hostLinks.LinkSetMTU(s.host, 1000))
	g.Again(s.index)
	for deadline := time.Now().Add(patience); g.Stats().Failed < 2 || !g.Settled(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("joined without IPv6: %+v", g.Stats())
		}
	}
	l.must(l.hostLinks.LinkSetMTU(s.host, 1500))
	l.awaitJoined(g, "ens1", 2) // by itself, after a second

	l.must(l.hostLinks.LinkDel(s.host))
	g.Forget(s.index)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		st := g.Stats()
		if st.Addresses == 0 && st.Groups == 0 && st.Joined == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", st)
		}
	}
	s = l.veth("ens2", deviceMAC, true)
	g.Hold(s.index, nth(1))
	l.awaitJoined(g, "ens2", 1)
}

// Behind a switch that snoops, with a querier, solicitations come for what is joined, and
// for nothing else.
func TestGroupsBehindSwitch(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	host := l.veth("ens1", deviceMAC, true)
	lan := l.veth("lan1", otherMAC, false)
	// The pod's namespace is the switch: the far ends of both are its ports.
	l.inPod(func() {
		for _, args := range []string{"link add br0 type bridge mcast_snooping 1 mcast_querier 1 mcast_query_interval 100 mcast_startup_query_interval 100 mcast_query_response_interval 10",
			"link set br0 up"} {
			if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
				nstest.Skip(t, "needs a bridge that snoops: ip %s: %v, %s", args, err, out)
			}
		}
	})
	bridge, err := l.podLinks.LinkByName("br0")
	l.must(err)
	for _, s := range []*station{host, lan} {
		l.must(l.podLinks.LinkSetMaster(s.link, bridge))
	}

	g := l.startGroups()
	const n = 1000
	for i := range n {
		g.Hold(host.index, nth(i))
	}
	l.awaitJoined(g, "ens1", n)

	r := l.start(Options{RatePerSecond: -1, SenderPerSecond: -1})
	p := uplinkPolicy()
	p.Index, p.Routes, p.Own, p.Answer = host.index, everywhere{}, deviceMAC, deviceMAC
	r.Publish(map[int]*Policy{host.index: p})

	// A station of the network behind lan1 sends by a socket of the host's namespace.
	send := l.sender(lan.host)
	ask := func(target netip.Addr) bool {
		before := r.Stats().ByVerdict[arpd.Answered]
		for range 5 {
			send(who(target).with(func(q *solicit) { q.src, q.options = otherMAC, lladdr(1, otherMAC) }).bytes())
			time.Sleep(20 * time.Millisecond)
			if r.Stats().ByVerdict[arpd.Answered] > before {
				return true
			}
		}
		return false
	}
	// Ports begin to forward; and until the bridge has a querier that was answered,
	// everything is flooded.
	notJoined := nth(n + 1)
	begun := time.Now()
	for !ask(nth(0)) || ask(notJoined) || !ask(nth(n-1)) {
		if time.Since(begun) > 3*patience {
			t.Fatalf("the bridge does not snoop: joined %t, not joined %t", ask(nth(0)), ask(notJoined))
		}
	}
	t.Logf("it snoops after %v", time.Since(begun))
	answered := make(chan netip.Addr, 10*n)
	r.SetTap(func(id uint64, _ int, frame, _ []byte, v Verdict) uint64 {
		var s Solicitation
		if v == arpd.Answered && s.Read(frame) == arpd.NotSpecified {
			answered <- s.Target
		}
		return id
	})
	missing := map[netip.Addr]struct{}{}
	for i := range n {
		missing[nth(i)] = struct{}{}
	}
	for deadline := time.Now().Add(patience); len(missing) > 0; { // a CPU's backlog may lose some
		if time.Now().After(deadline) {
			t.Fatalf("solicitations for %d of %d don't come", len(missing), n)
		}
		for target := range missing {
			send(who(target).with(func(q *solicit) { q.src, q.options = otherMAC, lladdr(1, otherMAC) }).bytes())
			time.Sleep(100 * time.Microsecond)
		}
		for time.Sleep(50 * time.Millisecond); len(answered) > 0; {
			delete(missing, <-answered)
		}
	}
	r.SetTap(nil)
	g.Release(host.index, nth(7))
	if !ask(nth(8)) {
		t.Error("another one was left, too")
	}
	g.Hold(host.index, notJoined)
	for deadline := time.Now().Add(patience); !ask(notJoined); {
		if time.Now().After(deadline) {
			t.Fatal("a solicitation for what was joined later does not come")
		}
	}
}

// everywhere has each target be a workload's.
type everywhere struct{ testRoutes }

func (everywhere) Uplink(netip.Addr, netip.Addr, wire.MAC, int) arpd.UplinkDecision {
	return arpd.UplinkYes
}

// sender gives a function that sends frames out of an interface of the host's namespace.
func (l *lab) sender(link netlink.Link) func([]byte) {
	l.t.Helper()
	conn, err := packet.Listen(&net.Interface{Index: link.Attrs().Index}, packet.Raw, 0, nil)
	l.must(err)
	l.t.Cleanup(func() { _ = conn.Close() })
	return func(b []byte) {
		l.t.Helper()
		_, err := conn.WriteTo(b, &packet.Addr{HardwareAddr: b[:6]})
		l.must(err)
	}
}
