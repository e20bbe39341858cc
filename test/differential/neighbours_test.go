package differential

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"proxyarpd/internal/lab/labtest"
)

// eachPlan runs a test in both families at a time: it waits for the kernel's clocks.
func eachPlan(t *testing.T, world func(c *plan) world, test func(t *testing.T, p *pair, c *plan)) {
	for i := range plans {
		c := &plans[i]
		w := world(c)
		name := "IPv4"
		if w.ipv6 {
			name = "IPv6"
		}
		t.Run(name, func(t *testing.T) {
			if w.ipv6 {
				labtest.NeedIPv6(t)
			}
			t.Parallel()
			test(t, setUp(t, &w), c)
		})
	}
}

// TestNeighboursLimited: errors about failed next hops meet the kernel's limits.
func TestNeighboursLimited(t *testing.T) {
	limits := func(c *plan) world {
		w := c.world
		w.sysctls = slices.Concat(w.sysctls, c.limited.sysctls)
		return w
	}
	eachPlan(t, limits, func(t *testing.T, p *pair, c *plan) {
		w := watch(t, p)
		for range 10 {
			w.send(pod0, c.sender(1), c.hop(101), 32)
		}
		for i := range 5 {
			w.send(pod0, c.sender(2+i), c.hop(101), 32)
		}
		w.until(time.Second)
		w.same("", c.hop(101))
	})
}

func TestNeighbours(t *testing.T) {
	eachPlan(t, func(c *plan) world { return c.world }, func(t *testing.T, p *pair, c *plan) {
		if err := newExchange(p).begin(); err != nil {
			t.Fatal(err)
		}
		t.Run("unanswered", func(t *testing.T) { testUnanswered(t, p, c) })
		t.Run("settings", func(t *testing.T) { testSettings(t, p, c) })
		t.Run("not asked for", func(t *testing.T) { testNotAsked(t, p, c) })
		t.Run("options", func(t *testing.T) { testOptions(t, p, c) })
		t.Run("queue", func(t *testing.T) { testQueueLength(t, p, c) })
		t.Run("stale", func(t *testing.T) { testStale(t, p, c) })
		t.Run("MAC changes", func(t *testing.T) { testMACChange(t, p, c) })
		t.Run("address moves", func(t *testing.T) { testAddressMoves(t, p, c) })
		if !p.w.ipv6 {
			t.Run("IPv6 gateway", func(t *testing.T) { testIPv6Gateway(t, p, c) })
		}
	})
}

// testUnanswered: three requests, a second apart, then one error for each
// packet that waited.
func testUnanswered(t *testing.T, p *pair, c *plan) {
	w := watch(t, p)
	for i := range 4 {
		w.send(pod0, c.sender(i), c.dead, 32)
	}
	w.until(1200 * time.Millisecond)
	w.send(pod0, c.sender(9), c.dead, 372)
	w.until(2200 * time.Millisecond)
	w.same("", c.dead)
}

// testSettings: how often and how long is asked are settings of the interface;
// and all begins anew for a packet that comes when a next hop has failed.
func testSettings(t *testing.T, p *pair, c *plan) {
	w := watch(t, p)
	for range 3 {
		w.begin()
		for range 2 {
			w.send(pod0, c.sender(1), c.hop(101), 32)
			w.send(up1, c.far, c.pod, 32)
		}
		w.until(time.Second)
		w.same("up0", c.hop(101))
		w.same("cali0", c.pod)
	}
}

// counted is how often proxyarpd has come to a verdict.
func (p *pair) counted(t *testing.T, verdict string) (n int) {
	t.Helper()
	_, after, _ := strings.Cut(p.daemon.Status(t), " "+verdict+" ")
	fmt.Sscan(after, &n)
	return n
}

// testNotAsked: where no request is to be sent, a packet fails at once, and
// without an error.
func testNotAsked(t *testing.T, p *pair, c *plan) {
	w := watch(t, p)
	before := p.counted(t, "NEIGH_FAILED")
	for range 2 {
		w.send(pod0, c.sender(1), c.silent, 32)
		w.until(grace)
	}
	w.same("", c.silent)
	if n := p.counted(t, "NEIGH_FAILED") - before; n != 2 {
		t.Errorf("%d packets have failed, want 2", n)
	}
}

// testOptions: errors about packets with options bear these, too.
func testOptions(t *testing.T, p *pair, c *plan) {
	w := watch(t, p)
	for i, opts := range c.options {
		w.send(pod0, c.sender(i), c.hop(102), 72, opts...)
	}
	w.until(time.Second)
	w.same("", c.hop(102))
	frames := func(h *host) (all [][]byte) {
		for _, s := range w.seen[h] {
			if k, _ := classify(s.frame, p.own); k == report {
				f := normalise(s.frame, k)
				if ipv6Of(f) == nil {
					clear(f[14+int(f[14]&15)*4+2:][:2])    // the ICMP checksum, and
					clear(f[14+int(f[14]&15)*4+8+10:][:2]) // that of the packet: with the time of its first stamp
				}
				all = append(all, f)
			}
		}
		return all
	}
	k, o := frames(p.kernel), frames(p.ours)
	if len(k) == 0 {
		t.Error("the kernel reports nothing")
	}
	if !labtest.OneWorker() {
		slices.SortFunc(k, bytes.Compare)
		slices.SortFunc(o, bytes.Compare)
	}
	for i := range min(len(k), len(o)) {
		if string(k[i]) != string(o[i]) {
			t.Errorf("kernel: %s\n% x\nours:   %s\n% x", describe(k[i]), k[i], describe(o[i]), o[i])
		}
	}
}

// set sets a sysctl of both hosts.
func (p *pair) set(t *testing.T, key, value string) {
	t.Helper()
	for _, l := range p.labs {
		if err := l.SetSysctl(node, key, value); err != nil {
			t.Fatal(err)
		}
	}
}

// testQueueLength: as many wait as unres_qlen_bytes allows, the last ones, and
// leave in order when the answer comes.
func testQueueLength(t *testing.T, p *pair, c *plan) {
	w := watch(t, p)
	// What waits fails after mcast_solicit questions: not before the answer, however busy the machine is.
	p.set(t, c.sysctls+"up0/mcast_solicit", "100")
	defer p.set(t, c.sysctls+"up0/mcast_solicit", "2")
	for n, size := range c.data {
		w.begin()
		hop := c.hop(110 + n)
		queued := p.counted(t, "queue")
		for range 100 {
			w.send(pod0, c.sender(1), hop, size)
		}
		w.asked(hop)
		for end := time.Now().Add(patience); p.counted(t, "queue") < queued+100 && time.Now().Before(end); {
			w.until(10 * time.Millisecond)
		}
		for _, h := range w.hosts() {
			w.tell(h, up0, toldTo(hop, macOf(hop), ports[up0].mac, c.own))
		}
		// What leaves behind those that waited; sent before it would wait, too, and put another one out.
		w.await("something comes out", func(ids []uint32) bool { return len(ids) > 0 })
		last := w.send(pod0, c.sender(1), hop, size)
		w.await("the last comes out", func(ids []uint32) bool { return slices.Contains(ids, last) })
		w.until(grace)
		k, _ := w.marked(p.kernel, forwarded)
		o, _ := w.marked(p.ours, forwarded)
		t.Logf("%d bytes: the kernel held %d, proxyarpd %d", size, len(k), len(o))
		if len(k) <= 1 || len(k) >= 101 || !slices.Equal(k, o) {
			t.Errorf("%d bytes: %v came out of the kernel, %v of proxyarpd", size, k, o)
		}
	}
}

// testStale: an old entry is used while the kernel asks whether it is right; when
// nobody says so packets wait, and fail.
func testStale(t *testing.T, p *pair, c *plan) {
	w := watch(t, p)
	hop := c.hop(120)
	w.neigh("replace %s lladdr %s dev up0 nud stale", hop, macString(macOf(hop)))
	w.begin()
	for range 45 {
		w.send(pod0, c.sender(1), hop, 32)
		w.until(50 * time.Millisecond)
	}
	w.until(2 * grace)
	k, _ := w.marked(p.kernel, forwarded)
	o, _ := w.marked(p.ours, forwarded)
	ke, ka := w.marked(p.kernel, report)
	oe, oa := w.marked(p.ours, report)
	t.Logf("kernel: %d forwarded, requests %v, errors about %v %v", len(k), w.requests(p.kernel, hop), ke, ka)
	t.Logf("ours:   %d forwarded, requests %v, errors about %v %v", len(o), w.requests(p.ours, hop), oe, oa)
	few := int((slack + w.starved()) / (50 * time.Millisecond))
	if d := len(k) - len(o); d > few || d < -few {
		t.Errorf("%d forwarded by the kernel, %d by proxyarpd", len(k), len(o))
	}
	if d := len(ke) - len(oe); d > few || d < -few || len(ke) == 0 {
		t.Errorf("%d errors by the kernel, %d by proxyarpd", len(ke), len(oe))
	}
}

func (w *watcher) neigh(format string, args ...any) {
	w.t.Helper()
	for _, l := range w.p.labs {
		w.p.w.ip(w.t, l, "neigh "+fmt.Sprintf(format, args...)+"\n")
	}
}

// testMACChange: a flow follows its next hop to another MAC without loss.
func testMACChange(t *testing.T, p *pair, c *plan) {
	w := watch(t, p)
	hop := c.hop(130)
	macs := [][6]byte{macOf(hop), {2, 9, 9, 9, 9, 1}, {2, 9, 9, 9, 9, 2}, {2, 9, 9, 9, 9, 3}}
	w.holders[hop] = macs[0]
	w.send(pod0, c.sender(1), hop, 32)
	w.until(grace)
	w.begin()
	const each = 300
	first := w.id + 1
	// While a next hop is not known, 36 of these may wait: no more are under way.
	const underWay, step = 16, 8
	flow := func(n int) {
		for i := range n {
			w.send(pod0, c.sender(1), hop, 32)
			w.until(100 * time.Microsecond)
			if i%step == 0 {
				w.await("the flow", func(ids []uint32) bool { return len(ids) >= int(w.id-first)+1-underWay })
			}
		}
	}
	// last is where a host sent the last packet to.
	last := func(h *host) [6]byte {
		for _, s := range slices.Backward(w.seen[h]) {
			if k, _ := classify(s.frame, p.own); k == forwarded {
				return [6]byte(s.frame[:6])
			}
		}
		return [6]byte{}
	}
	var ends []uint32 // by when each MAC should be used no more, had the daemon all the CPU it wants
	follow := func(n int) {
		w.holders[hop] = macs[n]
		ends = append(ends, w.id+each)
		flow(each)
		for end := time.Now().Add(patience); last(p.kernel) != macs[n] || last(p.ours) != macs[n]; flow(step) {
			if time.Now().After(end) {
				t.Fatalf("to % x by the kernel, % x by proxyarpd, want % x", last(p.kernel), last(p.ours), macs[n])
			}
		}
	}
	flow(each)
	for _, h := range w.hosts() {
		w.tell(h, up0, announced(hop, macs[1]))
	}
	follow(1)
	for _, h := range w.hosts() { // a new station asks for its gateway, as a new pod does
		w.tell(h, up0, askedBy(c.asked, hop, macs[2]))
	}
	follow(2)
	w.neigh("replace %s lladdr %s dev up0 nud reachable", hop, macString(macs[3]))
	follow(3)
	w.neigh("del %s dev up0", hop)
	flow(each)
	w.until(grace)
	sent, starved := int(w.id-first)+1, w.starved()
	for _, h := range w.hosts() {
		ids, _ := w.marked(h, forwarded)
		if len(ids) != sent {
			t.Errorf("%s: %d of %d came out", h.name, len(ids), sent)
		}
		count, used := [4]int{}, [4]uint32{}
		for _, s := range w.seen[h] {
			if k, id := classify(s.frame, p.own); k == forwarded {
				at := slices.Index(macs, [6]byte(s.frame[:6]))
				if at < 0 {
					t.Fatalf("%s: to % x", h.name, s.frame[:6])
				}
				count[at]++
				used[at] = id
			}
		}
		t.Logf("%s: to each MAC %v, the last of each %v of %v, the daemon waited %v for a CPU", h.name, count, used, ends, starved)
		for i, end := range ends {
			if used[i] > end && (h == p.kernel || starved < slack) {
				t.Errorf("%s: MAC %d is used for packet %d, want at most %d", h.name, i, used[i], end)
			}
		}
	}
}

// testAddressMoves: an address that moves to another interface takes its
// packets with it, whatever is remembered of it on the first.
func testAddressMoves(t *testing.T, p *pair, c *plan) {
	w := watch(t, p)
	pod := c.moves
	for round, dev := range []string{"cali0", "up0", "cali0", "up0"} {
		port := pod0
		if dev == "up0" {
			port = up0
		}
		mac := [6]byte{2, 8, 8, 8, 8, byte(round)}
		w.holders[pod] = mac
		for _, l := range p.labs {
			p.w.ip(t, l, fmt.Sprintf("route replace %s dev %s\n", pod, dev))
			if round >= 2 { // the pod's interface was made anew, or the operator says so
				p.w.ip(t, l, fmt.Sprintf("neigh flush dev %s to %s\n", dev, pod))
			}
		}
		w.begin()
		for range 20 {
			w.send(up1, c.far, pod, 32)
		}
		w.await(fmt.Sprintf("round %d: 20 packets", round), func(ids []uint32) bool { return len(ids) >= 20 })
		w.until(grace)
		for _, h := range w.hosts() {
			n := 0
			for _, s := range w.seen[h] {
				if k, _ := classify(s.frame, p.own); k != forwarded {
					continue
				}
				n++
				if s.port != port || net.HardwareAddr(s.frame[:6]).String() != macString(mac) {
					t.Errorf("%s: round %d: out of %s to % x", h.name, round, ports[s.port].name, s.frame[:6])
				}
			}
			if n != 20 {
				t.Errorf("%s: round %d: %d of 20", h.name, round, n)
			}
		}
	}
}

// testIPv6Gateway: an IPv4 route's next hop with an IPv6 address (RFC 8950) is solicited as IPv6's are; senders
// are told of its failure by ICMP.
func testIPv6Gateway(t *testing.T, p *pair, c *plan) {
	labtest.NeedIPv6(t)
	for _, l := range p.labs {
		setAll(t, l, []string{"net/ipv6/conf/up0/accept_dad=0", "net/ipv6/conf/up0/disable_ipv6=0",
			"net/ipv6/neigh/up0/mcast_solicit=2", "net/ipv6/neigh/up0/app_solicit=0", "net/ipv6/neigh/up0/retrans_time_ms=300"})
		ipBatch(t, l, "route add 10.90.0.0/24 via inet6 fe80::f:1 dev up0\nroute add 10.90.1.0/24 via inet6 fe80::f:2 dev up0\n")
	}
	dead, alive := netip.MustParseAddr("fe80::f:1"), netip.MustParseAddr("fe80::f:2")
	w := watch(t, p)
	w.holders[alive] = macOf(alive)
	// A moment passes until the interface's own address is there, from which is asked.
	ready := func(h *host) bool {
		return !strings.Contains(labtest.Run(t, h.lab, node, "ip", "-6", "addr", "show", "dev", "up0", "tentative"), "inet6") &&
			strings.Contains(labtest.Run(t, h.lab, node, "ip", "-6", "addr", "show", "dev", "up0"), "inet6 fe80:")
	}
	labtest.Await(t, "link-local addresses", func() bool { return ready(p.kernel) && ready(p.ours) })
	for i, dst := range []string{"10.90.0.1", "10.90.0.2", "10.90.1.1", "10.90.1.2"} {
		w.send(pod0, c.sender(i), netip.MustParseAddr(dst), 32)
	}
	w.until(time.Second)
	w.same("", dead)
	for _, h := range w.hosts() {
		errors, _ := w.marked(h, report)
		sent, _ := w.marked(h, forwarded)
		if len(errors) != 2 || len(sent) != 2 {
			t.Errorf("%s: %d errors, %d forwarded, want two of each", h.name, len(errors), len(sent))
		}
	}
}
