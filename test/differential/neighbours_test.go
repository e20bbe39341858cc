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
	"proxyarpd/internal/wire"
)

// dynamic has next hops that the hosts have to ask for, on interfaces with other
// settings each: up1 has the kernel's defaults, up0 is quick and holds little,
// cali1 asks nobody.
var dynamic = world{name: "dynamic", rpFilter: 0, dynamic: true, sysctls: []string{
	"net/ipv4/neigh/up1/mcast_solicit=3", "net/ipv4/neigh/up1/retrans_time_ms=1000",
	"net/ipv4/neigh/up0/mcast_solicit=2", "net/ipv4/neigh/up0/retrans_time_ms=300",
	"net/ipv4/neigh/up0/delay_first_probe_time=1", "net/ipv4/neigh/up0/ucast_solicit=2",
	"net/ipv4/neigh/up0/unres_qlen_bytes=30000", "net/ipv4/neigh/up0/locktime=0",
	"net/ipv4/neigh/cali0/mcast_solicit=2", "net/ipv4/neigh/cali0/retrans_time_ms=300",
	"net/ipv4/neigh/cali1/mcast_solicit=0", "net/ipv4/neigh/cali1/app_solicit=0",
}, lines: []string{"route add 10.65.0.22 dev cali1", "route add 10.65.0.23 dev cali0"}}

// sight is a frame that left a host.
type sight struct {
	at    time.Duration
	port  int
	frame []byte
}

// watcher sends to both hosts of a pair and notes what leaves them.
type watcher struct {
	t     *testing.T
	p     *pair
	began time.Time
	id    uint16
	buf   []byte
	seen  map[*host][]sight
	// waited is for how long the daemon had waited for a CPU when the account began.
	waited time.Duration
	// holders answers ARP at a port: the MAC of an address, none if zero.
	holders map[addr][6]byte
}

func watch(t *testing.T, p *pair) *watcher {
	w := &watcher{t: t, p: p, id: 4096, buf: make([]byte, 1<<18), seen: map[*host][]sight{}, holders: map[addr][6]byte{}}
	w.begin()
	return w
}

// begin starts a new account.
func (w *watcher) begin() {
	w.until(grace)
	w.seen, w.began, w.waited = map[*host][]sight{}, time.Now(), w.p.daemon.WaitedForCPU(w.t)
}

func (w *watcher) hosts() []*host { return []*host{w.p.kernel, w.p.ours} }

// send gives both hosts a datagram of size bytes and tells its IP ID.
func (w *watcher) send(port int, src, dst addr, size int, opts ...byte) uint16 {
	w.id++
	p := packet{port: port, src: src, dst: dst, ttl: 64, opts: opts, proto: wire.ProtoUDP, l4: udp(1000, 2000, make([]byte, size-28)), l4sum: 6}
	f := p.frame("neighbours", int(w.id))
	f.mark(uint32(w.id))
	for _, h := range w.hosts() {
		if err := h.stations[port].send(append(f.Vnet[:], f.Bytes...)); err != nil {
			w.t.Fatal(err)
		}
	}
	return w.id
}

// until takes what leaves both hosts, for a time.
func (w *watcher) until(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		await(slices.Concat(w.p.kernel.stations, w.p.ours.stations), time.Until(end))
		for _, h := range w.hosts() {
			w.collect(h)
		}
	}
}

func (w *watcher) collect(h *host) {
	for i, s := range h.stations {
		err := s.receive(w.buf, func(buf []byte) {
			onWire(buf, func(frame []byte) {
				w.seen[h] = append(w.seen[h], sight{time.Since(w.began), i, frame})
				w.answer(h, i, frame)
			})
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// arpOf gives an ARP request, nil if a frame is none.
func arpOf(frame []byte) wire.ARP {
	eth := wire.Ethernet(frame)
	if a := wire.ARP(eth.Payload()); eth.Type() == wire.EtherTypeARP && a.Valid() && a.Op() == wire.ARPRequest {
		return a
	}
	return nil
}

func (w *watcher) answer(h *host, port int, frame []byte) {
	if a := arpOf(frame); a != nil {
		if mac, ok := w.holders[a.TargetIP().As4()]; ok {
			w.tell(h, port, a.TargetIP().As4(), mac, a.SenderMAC(), a.SenderIP().As4())
		}
	}
}

// tell sends an ARP reply: dst may be everybody.
func (w *watcher) tell(h *host, port int, owner addr, mac, dst [6]byte, to addr) {
	w.t.Helper()
	w.arp(h, port, wire.ARPReply, owner, mac, dst, to)
}

func (w *watcher) arp(h *host, port int, op wire.ARPOp, owner addr, mac, dst [6]byte, to addr) {
	b := make([]byte, vnetLen+wire.EthernetLen+wire.ARPLen)
	eth := wire.Ethernet(b[vnetLen:])
	eth.SetDst(dst)
	eth.SetSrc(mac)
	eth.SetType(wire.EtherTypeARP)
	a := eth.Payload()
	copy(a, []byte{0, 1, 8, 0, 6, 4, 0, byte(op)})
	copy(a[8:], mac[:])
	copy(a[14:], owner[:])
	copy(a[18:], dst[:])
	copy(a[24:], to[:])
	if err := h.stations[port].send(b); err != nil {
		w.t.Fatal(err)
	}
}

// requests are the ARP requests of a host for an address: when they left.
func (w *watcher) requests(h *host, target addr) (at []time.Duration) {
	for _, s := range w.seen[h] {
		if a := arpOf(s.frame); a != nil && a.TargetIP().As4() == target {
			at = append(at, s.at)
		}
	}
	return at
}

// marked are the packets or errors about packets that left a host.
func (w *watcher) marked(h *host, want kind) (ids []uint16, at []time.Duration) {
	for _, s := range w.seen[h] {
		if k, id := classify(s.frame, w.p.own); k == want {
			ids, at = append(ids, uint16(id)), append(at, s.at)
		}
	}
	return ids, at
}

// asked waits until both hosts have asked for an address.
func (w *watcher) asked(target addr) {
	w.t.Helper()
	for _, h := range w.hosts() {
		for end := time.Now().Add(patience); len(w.requests(h, target)) == 0; {
			if time.Now().After(end) {
				w.t.Fatalf("%s does not ask for %v", h.name, netip.AddrFrom4(target))
			}
			w.until(time.Millisecond)
		}
	}
}

// slack is by how much the times of two hosts on one machine may differ, beside the time for which the daemon has waited
// for a CPU.
const slack = 250 * time.Millisecond

// starved is how long the daemon has waited for a CPU since the account began.
func (w *watcher) starved() time.Duration { return w.p.daemon.WaitedForCPU(w.t) - w.waited }

// await waits until the packets that both hosts have forwarded are as they should be.
func (w *watcher) await(what string, ok func(ids []uint16) bool) {
	w.t.Helper()
	for _, h := range w.hosts() {
		for end := time.Now().Add(patience); ; w.until(time.Millisecond) {
			if ids, _ := w.marked(h, forwarded); ok(ids) {
				break
			}
			if time.Now().After(end) {
				w.t.Fatalf("%s: %s: not within %v", h.name, what, patience)
			}
		}
	}
}

// same demands that both hosts asked alike, and reported and forwarded the same.
func (w *watcher) same(what string, target addr) {
	w.t.Helper()
	k, o := w.p.kernel, w.p.ours
	// On a busy machine one is behind the other. When it was is compared, too.
	counts := func(h *host) [3]int {
		reports, _ := w.marked(h, report)
		sent, _ := w.marked(h, forwarded)
		return [...]int{len(w.requests(h, target)), len(reports), len(sent)}
	}
	for end := time.Now().Add(patience); counts(k) != counts(o) && time.Now().Before(end); {
		w.until(time.Millisecond)
	}
	starved := w.starved()
	near := func(what string, a, b []time.Duration) {
		w.t.Helper()
		if len(a) != len(b) {
			w.t.Errorf("%s: %d by the kernel, %d by proxyarpd: %v, %v", what, len(a), len(b), a, b)
			return
		}
		for i := range a {
			if d := (a[i] - b[i]).Abs(); d > slack+starved {
				w.t.Errorf("%s: number %d after %v by the kernel, %v by proxyarpd, which waited %v for a CPU", what, i, a[i], b[i], starved)
				return
			}
		}
	}
	near(what+": requests", w.requests(k, target), w.requests(o, target))
	for name, want := range map[string]kind{"errors": report, "forwarded": forwarded} {
		ki, ka := w.marked(k, want)
		oi, oa := w.marked(o, want)
		if !labtest.OneWorker() {
			slices.Sort(ki)
			slices.Sort(oi)
		}
		if !slices.Equal(ki, oi) {
			w.t.Errorf("%s: %s: about %v by the kernel, %v by proxyarpd", what, name, ki, oi)
			continue
		}
		near(what+": "+name, ka, oa)
		w.t.Logf("%s: %d %s, %v", what, len(ki), name, ka)
	}
}

// TestNeighboursLimited: errors about failed next hops meet the kernel's limits.
func TestNeighboursLimited(t *testing.T) {
	settings := dynamic
	settings.sysctls = slices.Concat(dynamic.sysctls, limited.sysctls)
	p := setUp(t, &settings)
	w := watch(t, p)
	for range 10 {
		w.send(pod0, sender(1), ip("10.1.15.101"), 60)
	}
	for i := range 5 {
		w.send(pod0, sender(2+i), ip("10.1.15.101"), 60)
	}
	w.until(time.Second)
	w.same("", ip("10.1.15.101"))
}

func sender(n int) addr { return addr{10, 72, 3, byte(n)} }

func TestNeighbours(t *testing.T) {
	p := setUp(t, &dynamic)
	if err := newExchange(p).begin(); err != nil {
		t.Fatal(err)
	}
	t.Run("unanswered", func(t *testing.T) { testUnanswered(t, p) })
	t.Run("settings", func(t *testing.T) { testSettings(t, p) })
	t.Run("not asked for", func(t *testing.T) { testNotAsked(t, p) })
	t.Run("options", func(t *testing.T) { testOptions(t, p) })
	t.Run("queue", func(t *testing.T) { testQueueLength(t, p) })
	t.Run("stale", func(t *testing.T) { testStale(t, p) })
	t.Run("MAC changes", func(t *testing.T) { testMACChange(t, p) })
	t.Run("address moves", func(t *testing.T) { testAddressMoves(t, p) })
}

// testUnanswered: three requests, a second apart, then one error for each
// packet that waited.
func testUnanswered(t *testing.T, p *pair) {
	w := watch(t, p)
	dead := ip("10.2.5.101")
	for i := range 4 {
		w.send(pod0, sender(i), dead, 60)
	}
	w.until(1200 * time.Millisecond)
	w.send(pod0, sender(9), dead, 400)
	w.until(2200 * time.Millisecond)
	w.same("", dead)
}

// testSettings: how often and how long is asked are settings of the interface;
// and all begins anew for a packet that comes when a next hop has failed.
func testSettings(t *testing.T, p *pair) {
	w := watch(t, p)
	for range 3 {
		w.begin()
		for range 2 {
			w.send(pod0, sender(1), ip("10.1.15.101"), 60)
			w.send(up1, ip("10.67.1.1"), ip("10.65.0.23"), 60)
		}
		w.until(time.Second)
		w.same("up0", ip("10.1.15.101"))
		w.same("cali0", ip("10.65.0.23"))
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
func testNotAsked(t *testing.T, p *pair) {
	w := watch(t, p)
	before := p.counted(t, "NEIGH_FAILED")
	for range 2 {
		w.send(pod0, sender(1), ip("10.65.0.22"), 60)
		w.until(grace)
	}
	w.same("", ip("10.65.0.22"))
	if n := p.counted(t, "NEIGH_FAILED") - before; n != 2 {
		t.Errorf("%d packets have failed, want 2", n)
	}
}

// testOptions: errors about packets with options bear these, too.
func testOptions(t *testing.T, p *pair) {
	w := watch(t, p)
	for i, opts := range [][]byte{
		{7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		{7, 39, 4, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36},
		{68, 20, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		{1, 148, 4, 0, 0, 0, 0, 0},
	} {
		w.send(pod0, sender(i), ip("10.1.15.102"), 100, opts...)
	}
	w.until(time.Second)
	w.same("", ip("10.1.15.102"))
	frames := func(h *host) (all [][]byte) {
		for _, s := range w.seen[h] {
			if k, _ := classify(s.frame, p.own); k == report {
				f := normalise(s.frame, k)
				clear(f[14+int(f[14]&15)*4+2:][:2])    // the ICMP checksum, and
				clear(f[14+int(f[14]&15)*4+8+10:][:2]) // that of the packet: with the time of its first stamp
				all = append(all, f)
			}
		}
		return all
	}
	k, o := frames(p.kernel), frames(p.ours)
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
func testQueueLength(t *testing.T, p *pair) {
	w := watch(t, p)
	// What waits fails after mcast_solicit questions: not before the answer, however busy the machine is.
	p.set(t, "net/ipv4/neigh/up0/mcast_solicit", "100")
	defer p.set(t, "net/ipv4/neigh/up0/mcast_solicit", "2")
	for n, size := range []int{28, 100, 300, 600, 1000, 1400} {
		w.begin()
		hop := ip("10.1.15.110")
		hop[3] += byte(n)
		queued := p.counted(t, "queue")
		for range 100 {
			w.send(pod0, sender(1), hop, size)
		}
		w.asked(hop)
		for end := time.Now().Add(patience); p.counted(t, "queue") < queued+100 && time.Now().Before(end); {
			w.until(10 * time.Millisecond)
		}
		mac := stationMAC(up0, hop)
		for _, h := range w.hosts() {
			w.tell(h, up0, hop, mac, ports[up0].mac, ip("10.1.0.1"))
		}
		// What leaves behind those that waited; sent before it would wait, too, and put another one out.
		w.await("something comes out", func(ids []uint16) bool { return len(ids) > 0 })
		last := w.send(pod0, sender(1), hop, size)
		w.await("the last comes out", func(ids []uint16) bool { return slices.Contains(ids, last) })
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
func testStale(t *testing.T, p *pair) {
	w := watch(t, p)
	hop := ip("10.1.15.120")
	w.neigh("replace %s lladdr %s dev up0 nud stale", netip.AddrFrom4(hop), macString(stationMAC(up0, hop)))
	w.begin()
	for range 45 {
		w.send(pod0, sender(1), hop, 60)
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
		ipBatch(w.t, l, "neigh "+fmt.Sprintf(format, args...)+"\n")
	}
}

// testMACChange: a flow follows its next hop to another MAC without loss.
func testMACChange(t *testing.T, p *pair) {
	w := watch(t, p)
	hop := ip("10.1.15.130")
	macs := [][6]byte{stationMAC(up0, hop), {2, 9, 9, 9, 9, 1}, {2, 9, 9, 9, 9, 2}, {2, 9, 9, 9, 9, 3}}
	w.holders[hop] = macs[0]
	w.send(pod0, sender(1), hop, 60)
	w.until(grace)
	w.begin()
	const each = 300
	first := w.id + 1
	// While a next hop is not known, 36 of these may wait: no more are under way.
	const underWay, step = 16, 8
	flow := func(n int) {
		for i := range n {
			w.send(pod0, sender(1), hop, 60)
			w.until(100 * time.Microsecond)
			if i%step == 0 {
				w.await("the flow", func(ids []uint16) bool { return len(ids) >= int(w.id-first)+1-underWay })
			}
		}
	}
	flow(each)
	for _, h := range w.hosts() { // gratuitous
		w.tell(h, up0, hop, macs[1], wire.Broadcast, hop)
	}
	w.holders[hop] = macs[1]
	flow(each)
	for _, h := range w.hosts() { // a new station asks for its gateway, as a new pod does
		w.arp(h, up0, wire.ARPRequest, hop, macs[2], wire.Broadcast, ip("169.254.1.1"))
	}
	w.holders[hop] = macs[2]
	flow(each)
	w.neigh("replace %s lladdr %s dev up0 nud reachable", netip.AddrFrom4(hop), macString(macs[3]))
	w.holders[hop] = macs[3]
	flow(each)
	w.neigh("del %s dev up0", netip.AddrFrom4(hop))
	flow(each)
	w.until(grace)
	for _, h := range w.hosts() {
		ids, _ := w.marked(h, forwarded)
		if len(ids) != 5*each {
			t.Errorf("%s: %d of %d came out", h.name, len(ids), 5*each)
		}
		count, at := [4]int{}, 0
		last, then := [4]uint16{}, [4]time.Duration{} // the last packet to each MAC, and when it left
		left := map[uint16]time.Duration{}
		for _, s := range w.seen[h] {
			if k, id := classify(s.frame, p.own); k == forwarded {
				at = slices.Index(macs, [6]byte(s.frame[:6]))
				if at < 0 {
					t.Fatalf("%s: to % x", h.name, s.frame[:6])
				}
				count[at]++
				last[at], then[at] = uint16(id)-first, s.at
				left[uint16(id)-first] = s.at
			}
		}
		t.Logf("%s: to each MAC %v, the last of each %v", h.name, count, last)
		for i, n := range []uint16{each, 2 * each, 3 * each, 5 * each} {
			if late := then[i] - left[n]; last[i] > n+each && late > slack+w.starved() {
				t.Errorf("%s: MAC %d is used for packet %d of %d, %v too late", h.name, i, last[i], n, late)
			}
		}
	}
}

// testAddressMoves: an address that moves to another interface takes its
// packets with it, whatever is remembered of it on the first.
func testAddressMoves(t *testing.T, p *pair) {
	w := watch(t, p)
	pod := ip("10.65.0.24")
	for round, dev := range []string{"cali0", "up0", "cali0", "up0"} {
		port := pod0
		if dev == "up0" {
			port = up0
		}
		mac := [6]byte{2, 8, 8, 8, 8, byte(round)}
		w.holders[pod] = mac
		for _, l := range p.labs {
			ipBatch(t, l, fmt.Sprintf("route replace %s dev %s\n", netip.AddrFrom4(pod), dev))
			if round >= 2 { // the pod's interface was made anew, or the operator says so
				ipBatch(t, l, fmt.Sprintf("neigh flush dev %s to %s\n", dev, netip.AddrFrom4(pod)))
			}
		}
		w.begin()
		for range 20 {
			w.send(up1, ip("10.67.1.1"), pod, 60)
		}
		w.await(fmt.Sprintf("round %d: 20 packets", round), func(ids []uint16) bool { return len(ids) >= 20 })
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
