package forward_test

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"proxyarpd/forward"
	"proxyarpd/forward/memconn"
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// workers are loops that share their limits.
type workers struct {
	t      *testing.T
	loops  []*forward.Loop
	conns  []*memconn.Conn
	shared *forward.Shared
	table  *route.Builder
	asked  []asked
	told   []bool
}

func newWorkers(t *testing.T, n int) *workers {
	w := &workers{t: t, shared: forward.NewShared(), table: forward.TestBuilder(route.Policy{})}
	for i := range n {
		c := memconn.New()
		w.conns = append(w.conns, c)
		w.loops = append(w.loops, forward.NewLoop(c, forward.Options{Shared: w.shared, Worker: i,
			Resolve: func(i int32, a netip.Addr) { w.asked = append(w.asked, asked{i, a}) },
			Waiting: func(are bool) { w.told = append(w.told, are) }}))
	}
	w.publish()
	return w
}

func (w *workers) publish() {
	t := w.table.Publish()
	for _, l := range w.loops {
		l.Publish(t)
	}
}

// each puts a packet to each worker in turn.
func (w *workers) each(n int, from int32, packet func(i int) []byte) {
	w.t.Helper()
	for i := range n {
		w.conns[i%len(w.conns)].Inject(from, packet(i))
		once(w.t, w.loops[i%len(w.loops)])
	}
}

func (w *workers) count(v route.Verdict) (n int) {
	for _, l := range w.loops {
		n += int(counts(l, v))
	}
	return n
}

func (w *workers) sent() (n int) {
	for _, c := range w.conns {
		n += len(c.Sent())
	}
	return n
}

// What one loop may do, several may do together.
func TestLimitsAreShared(t *testing.T) { synctest.Test(t, testLimitsAreShared) }

func testLimitsAreShared(t *testing.T) {
	subnet := netip.MustParsePrefix("10.90.0.0/16")
	scan := func(i int) []byte {
		return forward.Packet("10.65.0.1", fmt.Sprintf("10.90.%d.%d", i>>8&255, i&255), 1000)
	}
	for name, measure := range map[string]func(w *workers) int{
		"ICMP errors to one sender": func(w *workers) int {
			w.each(200, forward.IfPod1, func(int) []byte { return forward.Packet("10.65.0.1", "10.71.0.1", 18) })
			return w.sent()
		},
		"ICMP errors in all": func(w *workers) int {
			w.each(2000, forward.IfPod1, func(i int) []byte {
				return forward.Packet(fmt.Sprintf("10.65.%d.%d", 1+i>>8, i&255), "10.65.0.2", 18, forward.TTL(1))
			})
			return w.count(route.Originate)
		},
		"packets that wait for a next hop": func(w *workers) int {
			w.each(1000, forward.IfPod1, func(int) []byte { return forward.Packet("10.65.0.1", "10.67.0.2", 1000) })
			return w.count(route.Queue) - w.count(route.DropNeighQueueFull)
		},
		"next hops of an interface": func(w *workers) int {
			w.each(2000, forward.IfPod1, scan)
			return w.count(route.Queue) - w.count(route.DropNeighQueueFull)
		},
		"next hops in all": func(w *workers) int {
			for _, in := range []int32{forward.IfPod1, forward.IfPod2} {
				w.each(600, in, func(i int) []byte { return scan(int(in)*600 + i) })
			}
			return len(w.asked)
		},
		"packets that wait for a route": func(w *workers) int {
			w.each(300, forward.IfPod1, func(int) []byte { return forward.Packet("10.65.0.1", "172.16.0.1", 18) })
			return w.count(route.Queue)
		},
	} {
		results := map[int]int{}
		for _, n := range []int{1, 2, 4} {
			w := newWorkers(t, n)
			w.table.SetRoutes(route.TableMain, subnet, []route.Route{{Table: route.TableMain, Type: route.TypeUnicast,
				Nexthops: []route.Nexthop{{Ifindex: forward.IfUplink, Weight: 1}}}})
			w.publish()
			results[n] = measure(w)
		}
		if results[1] == 0 || results[2] != results[1] || results[4] != results[1] {
			t.Errorf("%s, by loops: %v", name, results)
		}
	}
}

// The kernel is asked once for a next hop for which several loops have packets, and
// it is told once that packets wait, and that none does any more.
func TestWaitIsShared(t *testing.T) { synctest.Test(t, testWaitIsShared) }

func testWaitIsShared(t *testing.T) {
	w := newWorkers(t, 3)
	hop := netip.MustParseAddr("192.168.1.77")
	w.each(6, forward.IfPod1, func(i int) []byte { return forward.Packet("10.65.0.1", "10.67.0.2", 18+i) })
	if want := []asked{{forward.IfUplink, hop}}; !slices.Equal(w.asked, want) {
		t.Errorf("asked for %v", w.asked)
	}
	for _, l := range w.loops {
		l.Age(1100 * time.Millisecond)
	}
	for _, l := range w.loops {
		l.Conn().Wake()
		once(t, l)
	}
	if len(w.asked) != 2 {
		t.Errorf("after a second: asked for %v", w.asked)
	}
	w.table.SetNeighbour(forward.IfUplink, hop, &route.Neighbour{MAC: wire.MAC{2, 7, 7, 7, 7, 7}, Valid: true})
	w.publish()
	for i, l := range w.loops {
		if want := []bool{true}; !slices.Equal(w.told, want) {
			t.Errorf("%d loops have sent what waited: told %v", i, w.told)
		}
		once(t, l)
		if sent := w.conns[i].Sent(); len(sent) != 2 || len(ip(sent[0])) != 46+i || len(ip(sent[1])) != 49+i {
			t.Errorf("loop %d sent %d packets, or in another order", i, len(sent))
		}
	}
	if want := []bool{true, false}; !slices.Equal(w.told, want) {
		t.Errorf("told %v", w.told)
	}
	before := len(w.asked)
	w.each(3, forward.IfPod1, func(int) []byte { return forward.Packet("10.65.0.1", "10.90.0.1", 18) })
	if w.each(1, forward.IfPod1, func(int) []byte { return forward.Packet("10.65.0.1", "10.67.0.2", 18) }); w.sent() != 1 || len(w.asked) != before {
		t.Error("what waited once waits again")
	}
}

// What only forwards waits for no other loop.
func TestForwardsWithoutLocks(t *testing.T) {
	w := newWorkers(t, 2)
	w.table = forward.Builder6(route.Policy{})
	w.publish()
	defer w.shared.LockAll()()
	w.each(100, forward.IfPod1, func(i int) []byte {
		if i%2 == 0 {
			return forward.Packet6(pod1, pod2, 18)
		}
		return forward.Packet("10.65.0.1", "10.65.0.2", 18)
	})
	if n := w.sent(); n != 100 {
		t.Errorf("%d of 100 sent", n)
	}
}

// Loops at work together count right, and are done when all is: the race detector
// looks on.
func TestSharedConcurrently(t *testing.T) {
	const n, packets = 4, 2000
	shared := forward.NewShared()
	hop := netip.MustParseAddr("192.168.1.77")
	b := forward.TestBuilder(route.Policy{})
	without := b.Publish()
	b.SetNeighbour(forward.IfUplink, hop, &route.Neighbour{MAC: wire.MAC{2, 7, 7, 7, 7, 7}, Valid: true})
	with := b.Publish()
	var waiting []bool
	var all sync.WaitGroup
	loops := make([]*forward.Loop, n)
	for i := range n {
		c := memconn.New()
		l := forward.NewLoop(c, forward.Options{Shared: shared, Worker: i, Waiting: func(are bool) { waiting = append(waiting, are) }})
		loops[i] = l
		all.Go(func() {
			for k := range packets {
				l.Publish(without)
				c.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.67.0.2", 18))
				c.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "172.16.0.1", 18))
				c.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.65.0.2", 18, forward.TTL(1)))
				_ = l.Once()
				if k%3 == 0 {
					l.Publish(with)
					_ = l.Once()
				}
			}
			l.Publish(with)
			_ = l.Once()
			l.Age(time.Second)
			c.Wake()
			_ = l.Once()
		})
	}
	all.Wait()
	if held := shared.Held(); held != (forward.Held{}) {
		t.Errorf("when all is done: %+v", held)
	}
	for i, are := range waiting {
		if are != (i%2 == 0) {
			t.Fatalf("told %v of turn %d", are, i)
		}
	}
	for i, l := range loops {
		s := l.Counters().Read()
		ended := s.ByVerdict[route.Forward] + s.ByVerdict[route.DropNeighQueueFull] + s.ByVerdict[route.DropIPInNoRoutes] + s.ByVerdict[route.DropTTLExpired]
		if ended != 3*packets || s.PacketsIn != 3*packets {
			t.Errorf("loop %d: %d packets in, %d ended: %v", i, s.PacketsIn, ended, s.ByVerdict)
		}
	}
}
