package differential

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/wire"
)

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
	id    uint32
	buf   []byte
	seen  map[*host][]sight
	// waited is for how long the daemon had waited for a CPU when the account began.
	waited time.Duration
	to     map[uint32]netip.Addr // where packets go, by their mark
	// holders are addresses that answer who asks for them, with a MAC each.
	holders map[netip.Addr][6]byte
}

func watch(t *testing.T, p *pair) *watcher {
	w := &watcher{t: t, p: p, id: 4096, buf: make([]byte, 1<<18), seen: map[*host][]sight{}, to: map[uint32]netip.Addr{}, holders: map[netip.Addr][6]byte{}}
	w.begin()
	return w
}

// begin starts a new account.
func (w *watcher) begin() {
	w.until(grace)
	w.seen, w.began, w.waited = map[*host][]sight{}, time.Now(), w.p.daemon.WaitedForCPU(w.t)
}

func (w *watcher) hosts() []*host { return []*host{w.p.kernel, w.p.ours} }

// send gives both hosts a datagram with so many bytes of data and tells its mark. opts are IP
// options, or those of a hop-by-hop header.
func (w *watcher) send(port int, src, dst netip.Addr, data int, opts ...byte) uint32 {
	w.t.Helper()
	w.id++
	w.to[w.id] = dst
	f := datagram(port, src, dst, data, opts)
	f.mark(w.id)
	for _, h := range w.hosts() {
		if err := h.stations[port].send(append(f.Vnet[:], f.Bytes...)); err != nil {
			w.t.Fatal(err)
		}
	}
	return w.id
}

func datagram(port int, src, dst netip.Addr, data int, opts []byte) *Frame {
	l4 := udp(1000, 2000, make([]byte, data))
	if dst.Is4() {
		p := packet{port: port, src: src.As4(), dst: dst.As4(), ttl: 64, opts: opts, proto: wire.ProtoUDP, l4: l4, l4sum: 6}
		return p.frame("neighbours", 0)
	}
	p := packet6{port: port, src: src.As16(), dst: dst.As16(), hops: 64, proto: wire.ProtoUDP, l4: l4, l4sum: 6}
	if len(opts) > 0 {
		p.hop(opts)
	}
	return p.frame("neighbours", 0)
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

// ask is an ARP request, or a neighbour solicitation.
type ask struct {
	target, by netip.Addr
	mac        [6]byte // of who asks
}

// askOf reads one; ok is false if a frame is none.
func askOf(frame []byte) (q ask, ok bool) {
	eth := wire.Ethernet(frame)
	if h := ipv6Of(frame); h != nil {
		m := wire.ND(h.Payload())
		if h.NextHeader() != wire.ProtoICMPv6 || !m.Valid() || m[0] != wire.ICMPv6NeighSolicit {
			return q, false
		}
		return ask{m.Target(), h.SrcAddr(), eth.Src()}, true
	}
	a := wire.ARP(eth.Payload())
	if eth.Type() != wire.EtherTypeARP || !a.Valid() || a.Op() != wire.ARPRequest {
		return q, false
	}
	return ask{a.TargetIP(), a.SenderIP(), a.SenderMAC()}, true
}

func (w *watcher) answer(h *host, port int, frame []byte) {
	if q, ok := askOf(frame); ok {
		if mac, ok := w.holders[q.target]; ok {
			w.tell(h, port, toldTo(q.target, mac, q.mac, q.by))
		}
	}
}

func (w *watcher) tell(h *host, port int, frame []byte) {
	w.t.Helper()
	if err := h.stations[port].send(append(make([]byte, vnetLen), frame...)); err != nil {
		w.t.Fatal(err)
	}
}

// toldTo is the answer to who asked for an address.
func toldTo(owner netip.Addr, mac, dst [6]byte, to netip.Addr) []byte {
	if owner.Is4() {
		return arpFrame(wire.ARPReply, owner, mac, dst, to)
	}
	b := make([]byte, wire.AdvertisementLen)
	wire.PutAdvertisement(b, mac, owner.As16(), owner.As16(), wire.NDSolicited|wire.NDOverride, dst, to.As16())
	return b
}

// announced is what a station that has an address tells everybody.
func announced(owner netip.Addr, mac [6]byte) []byte {
	if owner.Is4() {
		return arpFrame(wire.ARPReply, owner, mac, wire.Broadcast, owner)
	}
	b := make([]byte, wire.AdvertisementLen)
	wire.PutAdvertisement(b, mac, owner.As16(), owner.As16(), wire.NDOverride, wire.MulticastMAC(wire.AllNodes), wire.AllNodes)
	return b
}

// askedBy is the question of a station for an address.
func askedBy(target, owner netip.Addr, mac [6]byte) []byte {
	if owner.Is4() {
		return arpFrame(wire.ARPRequest, owner, mac, wire.Broadcast, target)
	}
	p := solicitation6(owner.As16(), target.As16(), mac)
	return p.frame("", 0).Bytes
}

// solicitation6 asks for an address, as a station does that has none of it yet.
func solicitation6(src, target addr6, mac [6]byte) packet6 {
	group := wire.SolicitedNode(target)
	dst := wire.MulticastMAC(group)
	option := append([]byte{wire.NDOptSourceLinkLayer, 1}, mac[:]...)
	return packet6{src: src, dst: group, srcMAC: &mac, dstMAC: (*[6]byte)(&dst), hops: wire.NDHopLimit,
		proto: wire.ProtoICMPv6, l4: icmp6(wire.ICMPv6NeighSolicit, 0, 0, append(target[:], option...)), l4sum: 2}
}

func arpFrame(op wire.ARPOp, owner netip.Addr, mac, dst [6]byte, to netip.Addr) []byte {
	b := make([]byte, wire.EthernetLen+wire.ARPLen)
	eth := wire.Ethernet(b)
	eth.SetDst(dst)
	eth.SetSrc(mac)
	eth.SetType(wire.EtherTypeARP)
	wire.PutARP(eth.Payload(), op, mac, owner, dst, to)
	return b
}

// requests are a host's questions for an address: when they left.
func (w *watcher) requests(h *host, target netip.Addr) (at []time.Duration) {
	for _, s := range w.seen[h] {
		if q, ok := askOf(s.frame); ok && q.target == target {
			at = append(at, s.at)
		}
	}
	return at
}

// marked are the packets or errors about packets that left a host.
func (w *watcher) marked(h *host, want kind) (ids []uint32, at []time.Duration) {
	for _, s := range w.seen[h] {
		if k, id := classify(s.frame, w.p.own); k == want {
			ids, at = append(ids, id), append(at, s.at)
		}
	}
	return ids, at
}

// asked waits until both hosts have asked for an address.
func (w *watcher) asked(target netip.Addr) {
	w.t.Helper()
	for _, h := range w.hosts() {
		for end := time.Now().Add(patience); len(w.requests(h, target)) == 0; {
			if time.Now().After(end) {
				w.t.Fatalf("%s does not ask for %v", h.name, target)
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
func (w *watcher) await(what string, ok func(ids []uint32) bool) {
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
func (w *watcher) same(what string, target netip.Addr) {
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
		for _, ids := range [][]uint32{ki, oi} { // those of several next hops that fail at a time have no order
			slices.SortStableFunc(ids, func(a, b uint32) int { return w.to[a].Compare(w.to[b]) })
			if !labtest.OneWorker() {
				slices.Sort(ids)
			}
		}
		if !slices.Equal(ki, oi) {
			w.t.Errorf("%s: %s: about %v by the kernel, %v by proxyarpd", what, name, ki, oi)
			continue
		}
		near(what+": "+name, ka, oa)
		w.t.Logf("%s: %d %s, %v", what, len(ki), name, ka)
	}
}
