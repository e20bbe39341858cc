package bench

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"proxyarpd/internal/lab"
)

// load is what a trial offers.
type load struct {
	senders  []lab.Pod
	receiver lab.Pod
	to       []netip.Addr // flow n goes to address n; empty: to the receiver's own
	flows    int          // of each sender
	sizes    []int        // with FCS
	rate     float64      // frames a second, all senders together; 0: as fast as they go
	duration time.Duration
}

// outcome is what came of a trial.
type outcome struct {
	offered  float64 // frames a second that the generators sent
	received float64 // datagrams a second that the receiver got
	tally    Tally   // of the whole trial, its warm-up too
	latency  Histogram
	cpu      cpuUse // over the measured time
	refused  uint64 // frames that the sending kernel would not take
}

// mostPerSecond is more than one generator can send.
const mostPerSecond = 4e6

func warmUp(trial time.Duration) time.Duration {
	return min(max(trial/4, 100*time.Millisecond), time.Second)
}

// perFlow is how many datagrams of each flow the sink must be able to tell apart. A generator stops there.
func (l load) perFlow() uint64 {
	perSender := l.rate / float64(len(l.senders))
	if perSender == 0 {
		perSender = mostPerSecond
	}
	all := perSender * (warmUp(l.duration) + l.duration).Seconds() * 1.2
	return min(uint64(all)/uint64(l.flows)+batch, mostNumbered/uint64(l.flows*len(l.senders))-batch)
}

// rig is a sink with its generators, for one trial.
type rig struct {
	sink       *Sink
	generators generators
}

func (b *bed) openRig(l load) (_ *rig, err error) {
	r := &rig{}
	err = b.Do(l.receiver.Node, func() (err error) {
		at := l.to[0]
		if len(l.to) > 1 {
			at = unspecified(at)
		}
		r.sink, err = OpenSink(at, l.flows*len(l.senders), l.perFlow())
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := openGenerators(b, l, r.sink.Port(), &r.generators); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *rig) close() error { return errors.Join(r.generators.close(), r.sink.Close()) }

// look is what has gone and come by a moment.
type look struct {
	sent, got uint64
	at        time.Time
}

func (r *rig) look() (look, error) {
	got, err := r.sink.Received()
	return look{r.generators.sent(), got, time.Now()}, err
}

// trial sends for a while and tells what arrived. Rates are of the time after the warm-up; what was lost, doubled or
// came late is told of every datagram, and counted when nothing comes any more.
func (r *run) trial(b *bed, c contestant, l load) (out outcome, err error) {
	if len(l.to) == 0 {
		l.to = []netip.Addr{l.receiver.Addr.Addr()}
	}
	rig, err := b.openRig(l)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, rig.close()) }()
	if err := rig.generators.start(l.rate/float64(len(l.senders)), l.perFlow()*uint64(l.flows)); err != nil {
		return out, err
	}
	if err := r.measure(rig, c, l, &out); err != nil {
		return out, err
	}
	if _, alone := c.(*dropper); alone {
		out.cpu.perSecond = out.offered
		return out, nil
	}
	sent := rig.generators.sent()
	if err := rig.sink.Drain(sent); err != nil {
		return out, err
	}
	if out.tally, err = rig.sink.Tally(sent); err != nil {
		return out, err
	}
	out.latency, err = rig.sink.Latency()
	return out, err
}

// measure looks twice, and stops the generators.
func (r *run) measure(rig *rig, c contestant, l load, out *outcome) error {
	if err := r.interval(warmUp(l.duration)); err != nil {
		return err
	}
	cpu := cpuTimes(c) // which takes a while, so outside of the time that is measured
	first, err := rig.look()
	if err != nil {
		return err
	}
	if err := r.interval(l.duration); err != nil {
		return err
	}
	last, err := rig.look()
	if err != nil {
		return err
	}
	out.cpu = cpuTimes(c).since(cpu)
	rig.generators.stop()
	if rig.generators.sent()+rig.generators.failed() >= l.perFlow()*uint64(l.flows*len(l.senders)) {
		return fmt.Errorf("bench: more than %d datagrams in a trial cannot be told apart: give a shorter --trial", mostNumbered)
	}
	took := last.at.Sub(first.at).Seconds()
	out.offered, out.received = float64(last.sent-first.sent)/took, float64(last.got-first.got)/took
	out.refused, out.cpu.generator, out.cpu.perSecond = rig.generators.failed(), rig.generators.cpuTime(), out.received
	return nil
}

// generators send side by side, each pinned to a CPU of its own.
type generators struct{ all []*Generator }

func openGenerators(b *bed, l load, port uint16, g *generators) error {
	for i, s := range l.senders {
		// All addresses by the same next hop: one look is enough.
		index, first, err := b.path(s, l.to[0])
		if err != nil {
			return err
		}
		paths := make([]Path, len(l.to))
		for j, to := range l.to {
			paths[j] = first
			paths[j].To = to
		}
		frames, err := Frames{Paths: paths, Port: port, First: i * l.flows, Flows: l.flows, Sizes: l.sizes}.Build()
		if err != nil {
			return err
		}
		err = b.Do(s.Node, func() error {
			one, err := OpenGenerator(index, frames, l.flows, true)
			if err == nil {
				g.all = append(g.all, one)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (g *generators) start(perSecond float64, most uint64) error {
	cpus := usableCPUs()
	for i, one := range g.all {
		if err := one.Start(cpus[i%len(cpus)], perSecond, most); err != nil {
			return err
		}
	}
	return nil
}

func (g *generators) sum(of func(*Generator) uint64) (n uint64) {
	for _, one := range g.all {
		n += of(one)
	}
	return n
}

func (g *generators) sent() uint64   { return g.sum((*Generator).Sent) }
func (g *generators) failed() uint64 { return g.sum((*Generator).Failed) }

func (g *generators) stop() {
	for _, one := range g.all {
		one.Stop()
	}
}

// cpuTime is what the threads took for each frame that they sent.
func (g *generators) cpuTime() time.Duration {
	var all time.Duration
	for _, one := range g.all {
		all += one.CPUTime()
	}
	if n := g.sent(); n > 0 {
		return all / time.Duration(n)
	}
	return 0
}

func (g *generators) close() error {
	var errs []error
	for _, one := range g.all {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}

// note says what of a trial is to be known beside its figures.
func (o outcome) note(l load) string {
	switch {
	case o.refused > 0:
		return "the sender's kernel refused frames, which are not counted as sent"
	case l.rate > 0 && o.offered < reached*l.rate:
		return "less was offered than asked for: the generator is held up"
	}
	return ""
}
