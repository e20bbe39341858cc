package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

// working starts a host whose daemon has some workers, with some pods.
func working(t *testing.T, workers, pods int, args ...string) *world {
	return start(t, lab.Spec{Hosts: 1, Form: lab.FormCalico, PodsPerHost: pods}, append(args, "--workers", strconv.Itoa(workers))...)
}

// flows are UDP flows from one pod to another, each numbered for itself.
type flows struct {
	t    *testing.T
	out  []*net.UDPConn
	in   *net.UDPConn
	sent []uint32
	all  atomic.Int64 // have been sent
	over atomic.Bool  // no more will be

	got       []uint32 // datagrams that have arrived, by flow
	last      []int64
	reordered int // or more than once
}

const flowHeader = 6

func newFlows(t *testing.T, l *lab.Lab, from, to lab.Pod, n int) *flows {
	at := netip.AddrPortFrom(to.Addr.Addr(), 9)
	f := &flows{t: t, in: labtest.ListenUDP(t, l, to.Node, at), sent: make([]uint32, n), got: make([]uint32, n), last: make([]int64, n)}
	for i := range n {
		f.out = append(f.out, labtest.DialUDP(t, l, from.Node, at))
		f.last[i] = -1
	}
	return f
}

// send sends rounds of one datagram of each flow, from two threads, each with half of
// the flows and a CPU of its own. size gives the length of a datagram.
func (f *flows) send(rounds int, pause time.Duration, size func(flow, round int) int) {
	var all sync.WaitGroup
	for half := range 2 {
		all.Go(func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			var cpu unix.CPUSet
			cpu.Set(half % runtime.NumCPU())
			_ = unix.SchedSetaffinity(0, &cpu)
			b := make([]byte, 1<<14)
			for round := range rounds {
				for i := half; i < len(f.out); i += 2 {
					binary.BigEndian.PutUint16(b, uint16(i))
					binary.BigEndian.PutUint32(b[2:], f.sent[i])
					f.sent[i]++
					f.all.Add(1)
					if _, err := f.out[i].Write(b[:max(size(i, round), flowHeader)]); err != nil {
						f.t.Error(err)
						return
					}
				}
				time.Sleep(pause)
			}
		})
	}
	all.Wait()
}

// receive reads what arrives until all is sent and nothing has come for a while; for longer if some are missing, for a
// worker may get no CPU. A reader that gets none finds its time over although something is there, so it asks several times.
func (f *flows) receive(idle time.Duration) {
	const times, timesMissing = 2, 6
	b := make([]byte, 1<<14)
	for quiet, got := 0, int64(0); ; {
		_ = f.in.SetReadDeadline(time.Now().Add(idle / times))
		n, err := f.in.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			switch quiet++; {
			case !f.over.Load():
				quiet = 0
			case quiet >= timesMissing, quiet >= times && got >= f.all.Load():
				return
			}
			continue
		}
		quiet = 0
		got++
		if err != nil || n < flowHeader {
			f.t.Errorf("%d bytes, %v", n, err)
			return
		}
		flow, number := binary.BigEndian.Uint16(b), int64(binary.BigEndian.Uint32(b[2:]))
		if number <= f.last[flow] {
			f.reordered++
		}
		f.last[flow] = number
		f.got[flow]++
	}
}

func (f *flows) totals() (sent, got int) {
	for i := range f.sent {
		sent, got = sent+int(f.sent[i]), got+int(f.got[i])
	}
	return sent, got
}

// balanced wants all workers to have had a share.
func balanced(t *testing.T, s *status, workers int, least uint64) {
	t.Helper()
	if s.Workers != workers || len(s.Forward.ByWorker) != workers {
		t.Fatalf("%d workers, %v", s.Workers, s.Forward.ByWorker)
	}
	for i, n := range s.Forward.ByWorker {
		if n < least {
			t.Errorf("worker %d has had %d packets, want at least %d: %v", i, n, least, s.Forward.ByWorker)
		}
	}
}

func total(c counts) (n uint64) {
	for _, v := range c {
		n += v
	}
	return n
}

// TestWorkersOrder: with several workers each flow arrives in order and no datagram
// twice, fragments among whole datagrams included; what came in went out, was dropped
// for a reason, or waits; and what was not forwarded was counted.
func TestWorkersOrder(t *testing.T) {
	for _, workers := range []int{2, 4} {
		for _, engine := range []string{"af_packet", "ebpf"} {
			t.Run(fmt.Sprintf("%d/%s", workers, engine), func(t *testing.T) { testWorkersOrder(t, workers, engine) })
		}
	}
}

func testWorkersOrder(t *testing.T, workers int, engine string) {
	w := working(t, workers, 3, "--engine", engine)
	p := pods(w.Lab, 0)
	small := func(int, int) int { return 64 }
	mixed := func(flow, round int) int { // larger than the MTU now and then
		if (flow+round)%5 == 0 {
			return 4000
		}
		return 64
	}
	for name, c := range map[string]struct {
		to     lab.Pod
		size   func(flow, round int) int
		rounds int
		pause  time.Duration
		frames int // of a datagram, at most
	}{
		"small": {p[1], small, 400, time.Millisecond, 1}, "with fragments": {p[2], mixed, 200, time.Millisecond, 3}, "at load": {p[1], small, 1600, 0, 1},
	} {
		labtest.Warm(t, w.Lab, p[0].Node, ip(c.to))
		if c.frames > 1 { // the pair of addresses is known to send fragments
			run(t, w.Lab, p[0].Node, "ping -c 1 -W 1 -s 4000 "+ip(c.to))
		}
		before, overflowed := statusOf(t, w.d[0]), nstest.BacklogDrops(t)
		f := newFlows(t, w.Lab, p[0], c.to, 24)
		var reading sync.WaitGroup
		reading.Go(func() { f.receive(700 * time.Millisecond) })
		f.send(c.rounds, c.pause, c.size)
		f.over.Store(true)
		reading.Wait()
		f.in.Close()
		sent, got := f.totals()
		s := statusOf(t, w.d[0])
		sumUp(t, &s, 0)
		dropped := total(s.Forward.Drops) - total(before.Forward.Drops) + nstest.BacklogDrops(t) - overflowed
		if f.reordered > 0 {
			t.Errorf("%s: of %d datagrams %d came in another order, or twice", name, got, f.reordered)
		}
		if got > sent || got+int(dropped) < sent || c.pause > 0 && got < sent*9/10 {
			t.Errorf("%s: %d of %d arrived, %d packets dropped: %v", name, got, sent, dropped, s.Forward.Drops)
		}
		t.Logf("%s: %d of %d arrived, %d dropped, by worker %v", name, got, sent, dropped, s.Forward.ByWorker)
	}
	s := statusOf(t, w.d[0])
	if engine == "af_packet" {
		balanced(t, &s, workers, 500)
	}
}

// TestWorkersWait: of flows whose next hop is forgotten again and again nothing
// overtakes what waits.
func TestWorkersWait(t *testing.T) {
	w := working(t, 2, 2)
	a, b := pods(w.Lab, 0)[0], pods(w.Lab, 0)[1]
	labtest.Warm(t, w.Lab, a.Node, ip(b))
	f := newFlows(t, w.Lab, a, b, 24)
	var reading sync.WaitGroup
	reading.Go(func() { f.receive(700 * time.Millisecond) })
	for range 30 {
		run(t, w.Lab, "host0", "ip neigh flush dev "+b.Iface)
		f.send(20, 50*time.Microsecond, func(int, int) int { return 64 })
	}
	f.over.Store(true)
	reading.Wait()
	sent, got := f.totals()
	s := statusOf(t, w.d[0])
	t.Logf("%d of %d arrived, %d waited", got, sent, s.Forward.Verdicts["queue"])
	if f.reordered > 0 || got < sent*9/10 || s.Forward.Verdicts["queue"] == 0 {
		t.Errorf("%d of %d arrived, %d in another order or twice; %+v", got, sent, f.reordered, s.Forward)
	}
	sumUp(t, &s, 0)
	if engine() == "af_packet" { // else programs carry most
		balanced(t, &s, 2, 500)
	}
}

// TestWorkersLimits: a host with several workers sends no more ICMP errors to one
// sender than with one, and no more packets wait for a next hop.
func TestWorkersLimits(t *testing.T) {
	for _, workers := range []int{1, 4} {
		w := working(t, workers, 2)
		a, b := pods(w.Lab, 0)[0], pods(w.Lab, 0)[1]
		labtest.Warm(t, w.Lab, a.Node, ip(b))
		run(t, w.Lab, "host0", "ip route add unreachable 10.99.0.0/24")
		run(t, w.Lab, "host0", "ip route add 10.98.0.9/32 dev "+b.Iface) // where nobody answers
		before := statusOf(t, w.d[0])
		began := time.Now()
		flood := func(to string, size int) {
			for range 64 {
				out := labtest.DialUDP(t, w.Lab, a.Node, netip.AddrPortFrom(netip.MustParseAddr(to), 9))
				for range 16 {
					_, _ = out.Write(make([]byte, size)) // an ICMP error comes back by it
				}
				out.Close()
			}
		}
		flood("10.99.0.1", 64)
		await(t, "all dropped", func() bool {
			s := statusOf(t, w.d[0])
			return total(s.Forward.Drops)-total(before.Forward.Drops) >= 64*14
		})
		s := statusOf(t, w.d[0])
		// net/ipv4/route.c: five at once and one a second; of those to come time is said.
		most := uint64(6 + time.Since(began)/time.Second)
		if n := s.Forward.Verdicts["originate"] - before.Forward.Verdicts["originate"]; n == 0 || n > most {
			t.Errorf("%d workers: %d ICMP errors, want up to %d", workers, n, most)
		}
		flood("10.98.0.9", 1000)
		await(t, "all come", func() bool {
			s = statusOf(t, w.d[0])
			return s.Forward.Verdicts["queue"]-before.Forward.Verdicts["queue"] >= 64*14
		})
		// 1024 packets of 1000 bytes; the default of unres_qlen_bytes, 212992 bytes of memory, has room for 92.
		full := s.Forward.Drops["NEIGH_QUEUEFULL"]
		if waits := s.Forward.Verdicts["queue"] - before.Forward.Verdicts["queue"] - full; waits > 100 {
			t.Errorf("%d workers: %d packets wait for one next hop", workers, waits)
		}
		if workers > 1 {
			balanced(t, &s, workers, 50)
		}
		w.d[0].Stop(t)
	}
}

// TestWorkersReloaded: threads come and go under flows that are paced: no datagram is
// lost, and next to none comes in another order; what a thread that ends holds for a
// next hop is sent. What was counted stays.
func TestWorkersReloaded(t *testing.T) {
	if !labtest.OneWorker() {
		nstest.Excused(t, nstest.NotAsked, "PROXYARPD_WORKERS has the command line say how many workers there are")
	}
	for _, engine := range []string{"af_packet", "ebpf"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			labtest.Need(t, "ip")
			l := labtest.New(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 2})
			base := "engine: " + engine + "\nnice: -20\n"
			c := startConfigured(t, l, "host0", base+"workers: 1\n")
			a, b := pods(l, 0)[0], pods(l, 0)[1]
			labtest.Warm(t, l, a.Node, ip(b))
			f := newFlows(t, l, a, b, 24)
			var reading, sending sync.WaitGroup
			reading.Go(func() { f.receive(2 * time.Second) })
			stop := make(chan struct{})
			end := sync.OnceFunc(func() {
				close(stop)
				sending.Wait()
				f.over.Store(true)
				reading.Wait()
				f.in.Close()
			})
			defer end()
			sending.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						f.send(50, time.Millisecond, func(int, int) int { return 64 })
					}
				}
			})
			before := statusOf(t, c.Process)
			overflowed := nstest.BacklogDrops(t)
			for _, n := range []int{2, 4, 1, 3, 2, 1, 4, 1} {
				run(t, l, "host0", "ip neigh flush dev "+b.Iface) // packets wait
				if out, errw, code := c.reload(fmt.Sprintf("%sworkers: %d\n", base, n)); code != 0 {
					t.Fatalf("%d: exit %d: %s%s", n, code, out, errw)
				}
				s := statusOf(t, c.Process)
				if s.Workers != n || len(s.Forward.ByWorker) != n {
					t.Errorf("%d workers, %v; want %d", s.Workers, s.Forward.ByWorker, n)
				}
				if s.Forward.PacketsIn < before.Forward.PacketsIn || s.Forward.Verdicts["forward"] < before.Forward.Verdicts["forward"] {
					t.Errorf("%d workers: counters went back: %+v, and before %+v", n, s.Forward, before.Forward)
				}
				if got := len(c.ThreadsOfNice(t, -20)); got != n+2 { // and those that answer ARP and neighbour discovery
					t.Errorf("%d workers: %d threads have their nice value", n, got)
				}
				before = s
			}
			end()
			sent, got := f.totals()
			s := statusOf(t, c.Process)
			sumUp(t, &s, 0)
			// What leaves by another thread lies in another CPU's backlog, before the receiver: where ksoftirqd is
			// late with the one, the other is first.
			if most := len(f.out); f.reordered > most && !strings.Contains(c.Stderr(), "packets of a flow may change places") {
				t.Errorf("of %d datagrams %d came in another order, or twice", got, f.reordered)
			}
			if excuse := total(s.Forward.Drops) + nstest.BacklogDrops(t) - overflowed; sent-got > int(excuse) {
				t.Errorf("%d of %d arrived; %+v", got, sent, s.Forward)
			}
			t.Logf("%d of %d arrived", got, sent)
			for text, says := range map[string]string{"workers: 16\n": "there is room for", "workers: 17\n": "from 1 to 16"} {
				if out, errw, code := c.reload(base + text); code != 1 || !strings.Contains(errw, says) {
					t.Errorf("%q: exit %d: %s%s; want %q", text, code, out, errw, says)
				}
			}
		})
	}
}
