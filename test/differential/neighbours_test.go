package differential

import (
	"bytes"
	"fmt"
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
