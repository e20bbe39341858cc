package failure

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"proxyarpd/internal/daemon"
	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// undisturbed fails the test if a pair of pods that nothing was done to has
// lost packets.
func undisturbed(t testing.TB, what string, p pings) {
	t.Helper()
	t.Logf("%s: %v", what, p)
	if p.unexplained > 0 || p.doubled > 0 || p.sent == 0 {
		t.Errorf("%s: %d of %d pings between two other pods are lost, %d doubled", what, p.lost, p.sent, p.doubled)
	}
}

// TestVanishMidPacket deletes the interfaces on both sides of a flood while it
// runs, and has new ones take their places.
func TestVanishMidPacket(t *testing.T) {
	t.Parallel()
	l := hosts(t, 1, 2)
	stable := pods(l, 0)
	p := serve(t, l)[0]
	ping := startPing(t, l, stable[0], ip(stable[1]), 5*time.Millisecond)
	for round := range 8 {
		pair, err := l.AddPods(t.Context(), 0, 2, lab.PodOptions{})
		if err != nil {
			t.Fatal(err)
		}
		// Each new interface has the ring slot of one that vanished with its
		// quota in use. It must get through nevertheless.
		if out, err := labtest.Output(t, l, pair[0].Node, "ping", "-n", "-c1", "-W2", ip(pair[1])); err != nil {
			s := status(t, p)
			t.Fatalf("round %d: a new pod is not heard: %v\n%s\n%+v\n%+v", round, err, out, s.Forward, s.Workloads)
		}
		f := startFlood(t, l, pair[0], datagram(t, pair[0], ip(pair[1])))
		await(t, "a flood", func() bool { return f.sent.Load() > 20000 })
		gone := []string{pair[round%2].Name, pair[1-round%2].Name} // source or sink first
		for _, name := range gone {
			if err := l.DelPod(name); err != nil {
				t.Fatal(err)
			}
		}
		f.stop()
	}
	undisturbed(t, "8 pairs of interfaces deleted in a flood", ping.stop(t))
	s := alive(t, p)
	if len(s.Workloads) != 2 {
		t.Errorf("%d workloads, want the 2 that are left", len(s.Workloads))
	}
	balanced(t, p)
}

// balanced checks that each packet that the ring got has ended in one verdict.
func balanced(t testing.TB, p *labtest.Process) {
	t.Helper()
	var in, ends uint64
	ok := func() bool {
		s := status(t, p)
		in, ends = s.Forward.PacketsIn, endsOf(s)
		return in == ends
	}
	if !labtest.Within(patience, ok) {
		t.Errorf("%d packets in, %d verdicts: %+v", in, ends, status(t, p).Forward)
	}
}

// endsOf sums the verdicts of packets that came out of the ring.
func endsOf(s *daemon.Status) uint64 { return labtest.Ends(&s.Forward) }

// TestManyInterfaces has 300 interfaces come and go in random order while two
// other pods talk.
func TestManyInterfaces(t *testing.T) {
	t.Parallel()
	const before, total, atOnce = 100, 300, 60
	l := hosts(t, 1, 2)
	stable := pods(l, 0)
	p := serve(t, l)[0]
	churn := func(n int) {
		t.Helper()
		if err := l.Do("host0", func() error { return comeAndGo(n, atOnce) }); err != nil {
			t.Fatal(err)
		}
		await(t, "all interfaces are gone", func() bool { return len(status(t, p).Workloads) == 2 })
	}
	ping := startPing(t, l, stable[0], ip(stable[1]), 5*time.Millisecond)
	churn(before)
	fds, mb, began := files(t, p), rss(t, p), time.Now()
	churn(total - before)
	took, after := time.Since(began), rss(t, p)
	seen := ping.stop(t)
	t.Logf("memory %.1f MB after %d interfaces, %.1f MB after %d more in %v", mb, before, after, total-before, took.Round(time.Millisecond))
	undisturbed(t, fmt.Sprintf("%d interfaces", total), seen)
	if after > mb+10 {
		t.Errorf("memory grew from %.1f to %.1f MB", mb, after)
	}
	if n := files(t, p); n > fds+2 {
		t.Errorf("%d open files, %d before", n, fds)
	}
	if s := alive(t, p); s.Kernel.Malformed > 0 {
		t.Errorf("%d messages of the kernel were not understood", s.Kernel.Malformed)
	}
	balanced(t, p)
}

// comeAndGo makes veths that match --workload, up and with a route, and deletes
// them, at most so many at a time, in random order; half of them at either end.
func comeAndGo(total, atOnce int) error {
	random := rand.New(rand.NewPCG(3, 4))
	var there []*netlink.Veth
	for made := 0; made < total || len(there) > 0; {
		if made < total && len(there) < atOnce && (len(there) == 0 || random.IntN(2) == 0) {
			v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("vethx%d", made)}, PeerName: fmt.Sprintf("px%d", made)}
			if err := netlink.LinkAdd(v); err != nil {
				return err
			}
			for _, name := range []string{v.Name, v.PeerName} {
				link, err := netlink.LinkByName(name)
				if err != nil {
					return err
				}
				if err := netlink.LinkSetUp(link); err != nil {
					return err
				}
				v.Index = link.Attrs().Index
			}
			there = append(there, v)
			made++
			continue
		}
		i := random.IntN(len(there))
		if err := netlink.LinkDel(there[i]); err != nil {
			return err
		}
		there = append(there[:i], there[i+1:]...)
	}
	return nil
}
