package differential

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"proxyarpd/internal/wire"
)

// result is what both hosts made of a frame.
type result struct {
	frame        *Frame
	kernel, ours []output
	// limited: the sender has had as many errors, or a redirect, that when it
	// gets the next one is a matter of milliseconds.
	limited bool
}

// equal compares outputs port by port; the order at a port counts.
func (r *result) equal() bool { return slices.EqualFunc(sorted(r.kernel), sorted(r.ours), sameOutput) }

// errorBurst is how many errors a station gets at once (net.ipv4.route.error_burst
// by error_cost); of redirects it is one.
const errorBurst = 2 * 5 // of both hosts

// markLimited says which frames come from a station that has used up its burst.
func markLimited(results []*result) {
	markLimited6(results)
	type had struct{ redirects, errors int }
	stations := map[addr]had{}
	for _, r := range results {
		if r.frame.IPv6 || len(r.frame.Bytes) < 34 {
			continue
		}
		src := wire.IPv4(r.frame.Bytes[14:]).Src()
		h := stations[src]
		r.limited = h.redirects > 0 || h.errors >= errorBurst
		for _, o := range append(slices.Clone(r.kernel), r.ours...) {
			switch typ, ok := errorType(o.frame); {
			case ok && typ == wire.ICMPRedirect:
				h.redirects++
			case ok:
				h.errors++
			}
		}
		stations[src] = h
	}
}

// errorType gives the type of a frame that is an ICMP error.
func errorType(frame []byte) (typ uint8, ok bool) {
	typ, _, ok = errorOf(frame)
	return typ, ok
}

func errorOf(frame []byte) (typ, code uint8, ok bool) {
	if h := ipv6Of(frame); h != nil {
		return errorOf6(h)
	}
	if len(frame) < 34 {
		return 0, 0, false
	}
	h := wire.IPv4(frame[14:])
	if !h.HeaderValid() || h.Protocol() != wire.ProtoICMP || len(h.Payload()) < 8 {
		return 0, 0, false
	}
	return h.Payload()[0], h.Payload()[1], wire.ICMPIsError(h.Payload()[0])
}

// withoutErrors leaves the ICMP errors out.
func withoutErrors(all []output) (rest []output) {
	for _, o := range all {
		if _, ok := errorType(o.frame); !ok {
			rest = append(rest, o)
		}
	}
	return rest
}

func sorted(all []output) []output {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b output) int { return a.port - b.port })
	return all
}

func sameOutput(a, b output) bool { return a.port == b.port && bytes.Equal(a.frame, b.frame) }

// Fences are datagrams that any router forwards: when they have come out, so
// has all that went in before them.
const (
	fencePort = 65014
	firstID   = 16 // marks below are those of fences
	batchSize = 256
	patience  = 10 * time.Second
	grace     = 200 * time.Millisecond // what proxyarpd holds back for the news of a route
)

// exchange sends frames into both hosts of a pair.
type exchange struct {
	p       *pair
	next    uint32             // mark, counting on
	byID    map[uint32]*result // of this batch and the one before
	old     []uint32
	strays  []string
	buf     []byte
	answers map[string]int
	begun   bool
}

func newExchange(p *pair) *exchange {
	return &exchange{p: p, next: firstID, byID: map[uint32]*result{}, buf: make([]byte, 1<<18), answers: map[string]int{}}
}

// begin waits until the kernel of our host leaves all ports' frames alone: where
// it does not forward, proxyarpd begins before that. A bad option tells, about
// which a host complains before it asks whether it forwards.
func (x *exchange) begin() error {
	for end := time.Now().Add(patience); ; {
		var probes []*result
		for i := range ports {
			if x.p.w.mute(i) {
				continue
			}
			f := x.probeOptions(i)
			f.mark(uint32(5 + i))
			x.byID[f.ID] = &result{frame: f}
			probes = append(probes, x.byID[f.ID])
		}
		if err := x.through(x.p.ours, probes, func(r *result, o output) { r.ours = append(r.ours, o) }); err != nil {
			return err
		}
		if !slices.ContainsFunc(probes, func(r *result) bool { return len(r.ours) > 1 }) {
			return nil
		}
		if time.Sleep(time.Millisecond); time.Now().After(end) {
			return fmt.Errorf("the kernel of %s handles frames too: %s", x.p.ours.name, show(probes[0], false))
		}
	}
}

// probeOptions has options about which a host complains at once.
func (x *exchange) probeOptions(i int) *Frame {
	if x.p.w.ipv6 {
		return probeOptions6(i)
	}
	from := [...]addr{ip("10.72.255.1"), ip("10.73.255.1"), ip("10.66.255.1"), ip("10.67.255.1")}[i]
	p := packet{port: i, src: from, dst: podAddrs[(i+1)%2][0], opts: []byte{7, 3, 0, 0}, ttl: 64, proto: wire.ProtoUDP, l4: udp(9, 9, nil), l4sum: 6}
	return p.frame("probe", i)
}

// run gives what both hosts made of the frames.
func (x *exchange) run(frames []*Frame) ([]*result, error) {
	if !x.begun {
		if err := x.begin(); err != nil {
			return nil, err
		}
		x.begun = true
	}
	var all []*result
	for batch := range slices.Chunk(frames, batchSize) {
		results, err := x.batch(batch)
		if err != nil {
			return all, err
		}
		all = append(all, results...)
	}
	return all, x.settle()
}

// marks gives the first of n marks that follow each other.
func (x *exchange) marks(n int) uint32 {
	most := uint32(0xffff)
	if x.p.w.ipv6 {
		most = 0xfffff
	}
	if x.next+uint32(n) > most {
		x.next = firstID
	}
	first := x.next
	x.next += uint32(n)
	return first
}

func (x *exchange) batch(frames []*Frame) ([]*result, error) {
	var results []*result
	var used []uint32
	for _, f := range frames {
		id := x.marks(f.Span)
		f.mark(id)
		r := &result{frame: f}
		for n := range uint32(f.Span) {
			x.byID[id+n] = r
			used = append(used, id+n)
		}
		results = append(results, r)
	}
	if err := x.through(x.p.kernel, results, func(r *result, o output) { r.kernel = append(r.kernel, o) }); err != nil {
		return nil, err
	}
	waited := x.p.starved()
	toOurs := func(r *result, o output) { r.ours = append(r.ours, o) }
	if err := x.through(x.p.ours, results, toOurs); err != nil {
		return nil, err
	}
	late := func() bool {
		return slices.ContainsFunc(results, func(r *result) bool { return len(r.ours) < len(r.kernel) })
	}
	for end := time.Now().Add(grace); late(); {
		left := time.Until(end)
		if left <= 0 {
			left += x.p.starved() - waited
		}
		if left <= 0 {
			break
		}
		await(x.p.ours.stations, min(left, grace))
		if _, err := x.collect(x.p.ours, toOurs); err != nil {
			return nil, err
		}
	}
	for _, id := range x.old {
		if r := x.byID[id]; !slices.Contains(results, r) {
			delete(x.byID, id)
		}
	}
	x.old = used
	return results, nil
}

// settle waits for what comes when nothing was expected any more.
func (x *exchange) settle() error {
	time.Sleep(grace)
	stray := func(h *host) error {
		_, err := x.collect(h, func(r *result, o output) {
			x.strays = append(x.strays, fmt.Sprintf("%s, late, for %s:%d: %s", h.name, r.frame.Class, r.frame.Index, describe(o.frame)))
		})
		return err
	}
	if err := stray(x.p.kernel); err != nil {
		return err
	}
	if err := stray(x.p.ours); err != nil {
		return err
	}
	for _, h := range []*host{x.p.kernel, x.p.ours} {
		for i, s := range h.stations {
			if n := s.drops(); n != 0 {
				return fmt.Errorf("station %s of %s lost %d frames", ports[i].name, h.name, n)
			}
		}
	}
	return nil
}

// through sends the frames into one host and takes what comes out.
func (x *exchange) through(h *host, results []*result, got func(*result, output)) error {
	for _, r := range results {
		frame := append(r.frame.Vnet[:], r.frame.Bytes...)
		if err := h.stations[r.frame.Port].send(frame); err != nil {
			got(r, output{port: -1, frame: []byte(err.Error())}) // the generator made what no device sends
		}
	}
	want := 0
	for i := range ports {
		if x.p.w.mute(i) {
			continue
		}
		want++
		if err := h.stations[i].send(x.fence(i)); err != nil {
			return err
		}
	}
	seen := 0
	for end := time.Now().Add(patience); seen < want; {
		if time.Now().After(end) {
			return fmt.Errorf("of %d fences %d came through %s", want, seen, h.name)
		}
		await(h.stations, time.Second)
		n, err := x.collect(h, got)
		if err != nil {
			return err
		}
		seen += n
	}
	_, err := x.collect(h, got)
	return err
}

// collect takes what waits at the stations and gives how many fences were among it.
func (x *exchange) collect(h *host, got func(*result, output)) (fences int, err error) {
	for i, s := range h.stations {
		err := s.receive(x.buf, func(buf []byte) {
			onWire(buf, func(frame []byte) {
				k, id := classify(frame, x.p.own)
				switch {
				case k == foreign:
				case isFence(frame):
					fences++
				case k == answer:
					sign := 1
					if h == x.p.ours {
						sign = -1
					}
					x.answers[fmt.Sprintf("%s %x", ports[i].name, normalise(frame, k))] += sign
				case x.byID[id] == nil:
					x.strays = append(x.strays, fmt.Sprintf("%s at %s: %s", h.name, ports[i].name, describe(frame)))
				default:
					got(x.byID[id], output{i, normalise(frame, k)})
				}
			})
		})
		if err != nil {
			return fences, err
		}
	}
	return fences, nil
}

// fence is the datagram that goes in last at a port.
func (x *exchange) fence(i int) []byte {
	if x.p.w.ipv6 {
		return fence6(i)
	}
	from := [...]addr{podAddrs[pod0][0], podAddrs[pod1][0], ip("10.66.0.254"), ip("10.67.0.254")}
	to := [...]addr{podAddrs[pod1][0], podAddrs[pod0][0], podAddrs[pod0][0], podAddrs[pod1][0]}
	p := packet{port: i, src: from[i], dst: to[i], ttl: 64, proto: wire.ProtoUDP, l4: udp(fencePort, fencePort, make([]byte, 16)), l4sum: 6}
	f := p.frame("fence", i)
	f.mark(uint32(1 + i))
	return append(f.Vnet[:], f.Bytes...)
}

func isFence(frame []byte) bool {
	if h := ipv6Of(frame); h != nil {
		return isFence6(h)
	}
	h := wire.IPv4(frame[14:])
	return h.ID() < firstID && h.Protocol() == wire.ProtoUDP && h[0] == 0x45 && len(h) >= 24 && binary.BigEndian.Uint16(h[20:]) == fencePort
}

// schedule deals frames out to the classes by weight, in an order of the seed's.
func schedule(seed uint64, w *world, n int) []*Frame {
	classes := w.classes()
	total := 0
	for _, c := range classes {
		total += c.weight
	}
	var all []*Frame
	for _, c := range classes {
		for i := range max(1, n*c.weight/total) {
			if f := generate(seed, w, c, i); !w.dead(f.Port) {
				all = append(all, f)
			}
		}
	}
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}
