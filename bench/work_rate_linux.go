package bench

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"proxyarpd/internal/lab"
)

const rateHow = "rate: UDP frames of 60 bytes (without FCS), prebuilt by gopacket, from one AF_PACKET socket a sender " +
	"(sendmmsg of 64, QDISC_BYPASS), senders in pods of their own pinned to CPU 0 (and 1), to one pod of the same host; " +
	"flows differ by source port. Counted: datagrams that reached UDP in the receiving pod (/proc/net/snmp: delivered, " +
	"no buffer, no port) over the interval after the warm-up; 'generator alone' counts frames sent, dropped by eBPF at the " +
	"host's tc ingress. LOST is sent minus received while forwarding at full load."

// rate: small packets, pod to pod on one host.
func (r *run) rate() error {
	b, err := r.bed()
	if err != nil {
		return err
	}
	flows := []int{1, 16, 1000}
	if r.Quick {
		flows = []int{1, 16}
	}
	sink := b.pod(0, 2)
	senders := []lab.Pod{b.pod(0, 0), b.pod(0, 1)}
	if runtime.NumCPU() < 2 {
		senders = senders[:1]
		r.report.Notes = append(r.report.Notes, "rate: one CPU, so one sender only")
	}
	if err := r.integrity(b, senders[0], sink); err != nil {
		return err
	}
	for n := 1; n <= len(senders); n++ {
		for _, f := range flows {
			t := turns{
				work: fmt.Sprintf("60 B UDP, %d sender%s, %d flow%s", n, plural(n), f, plural(f)), how: rateHow, hosts: []int{0},
				contestants: []contestant{&kernel{}, &dropper{}, r.proxyarpd()},
			}
			for _, s := range senders[:n] {
				t.pairs = append(t.pairs, [2]lab.Pod{s, sink})
			}
			t.measure = func(c contestant) ([]Value, error) { return r.blast(b, t.work, c, senders[:n], sink, f) }
			if err := r.take(b, t); err != nil {
				return err
			}
		}
	}
	return nil
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// blast sends as fast as it goes and counts what arrives a second.
func (r *run) blast(b *bed, work string, c contestant, senders []lab.Pod, sink lab.Pod, flows int) (_ []Value, err error) {
	warm, measured := time.Second, 2*time.Second
	if r.Quick {
		warm, measured = 400*time.Millisecond, time.Second
	}
	var discard *Discard
	err = b.Do(sink.Node, func() (err error) {
		discard, err = OpenDiscard(sink.Addr.Addr())
		return err
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, discard.Close()) }()
	var gens []*Generator
	sent := func() (n uint64) {
		for _, g := range gens {
			n += g.Sent()
		}
		return n
	}
	for i, s := range senders {
		index, path, err := b.path(s, sink)
		if err != nil {
			return nil, err
		}
		frames, err := UDPFrames(path, flows, smallFrame, false)
		if err != nil {
			return nil, err
		}
		g, err := b.generator(s, index, frames, false)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, g.Close()) }()
		gens = append(gens, g)
		if err := g.Start(i, 0, 0); err != nil {
			return nil, err
		}
	}
	if err := r.interval(warm); err != nil {
		return nil, err
	}
	sent0, began := sent(), time.Now()
	got0, err := discard.Count()
	if err != nil {
		return nil, err
	}
	if err := r.interval(measured); err != nil {
		return nil, err
	}
	got, err := discard.Count()
	if err != nil {
		return nil, err
	}
	took, tried := time.Since(began).Seconds(), sent()-sent0
	if _, alone := c.(*dropper); alone {
		return []Value{{Work: work, Unit: "kpps", X: float64(tried) / took / 1e3}}, nil
	}
	tally := Tally{Sent: tried, Received: got - got0}
	if tried > tally.Received {
		tally.Lost = tried - tally.Received
	}
	return []Value{{Work: work, Unit: "kpps", X: float64(tally.Received) / took / 1e3, Tally: &tally}}, nil
}

const integrityHow = "integrity: numbered datagrams of 60-byte frames, 16 flows, at 20,000 a second, each read by the receiving pod: " +
	"lost, duplicated, reordered (RFC 4737, within a flow) and corrupt ones told apart."

// integrity: what arrives at a rate that everyone must bear.
func (r *run) integrity(b *bed, from, to lab.Pod) error {
	const perSecond, flows = 20000, 16
	count := uint64(2 * perSecond)
	if r.Quick {
		count = perSecond / 2
	}
	t := turns{
		work: "numbered UDP at 20 kpps, 16 flows", how: integrityHow, hosts: []int{0}, rounds: 1,
		contestants: []contestant{&kernel{}, r.proxyarpd()}, pairs: [][2]lab.Pod{{from, to}},
	}
	t.measure = func(contestant) ([]Value, error) {
		tally, took, err := b.numbered(from, to, flows, perSecond, count)
		if err != nil {
			return nil, err
		}
		return []Value{{Work: t.work, Unit: "kpps", X: float64(tally.Received) / took.Seconds() / 1e3, Tally: &tally}}, nil
	}
	return r.take(b, t)
}

// numbered sends count numbered datagrams and tells what became of them.
func (b *bed) numbered(from, to lab.Pod, flows int, perSecond float64, count uint64) (t Tally, took time.Duration, err error) {
	index, path, err := b.path(from, to)
	if err != nil {
		return t, 0, err
	}
	frames, err := UDPFrames(path, flows, smallFrame, true)
	if err != nil {
		return t, 0, err
	}
	g, err := b.generator(from, index, frames, true)
	if err != nil {
		return t, 0, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	var sink *Sink
	err = b.Do(to.Node, func() (err error) {
		sink, err = OpenSink(to.Addr.Addr(), flows)
		return err
	})
	if err != nil {
		return t, 0, err
	}
	began := time.Now()
	err = g.Start(-1, perSecond, count)
	g.Wait()
	took = time.Since(began)
	return sink.Tally(g.Sent()), took, err
}
