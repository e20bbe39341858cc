package bench

import (
	"fmt"
	"math"
	"slices"
	"time"
)

const throughputHow = "RFC 2544 throughput (26.1): the highest rate at which no frame is lost, one sender, 16 flows (the RFC: one), by " +
	"binary search to 2 % of the rate: a trial as fast as the generator goes, trials of a quarter of the time on the way, a whole one " +
	"that decides. A rate that loses frames gets one more chance, for a stall of the machine loses some at any rate. Where not even " +
	"the fastest trial loses any, the generator is what limits (the kernel forwards on the sender's CPU and so slows the sender). " +
	"IMIX is 7:4:1 frames of 64, 594 and 1518 bytes. Sizes are with FCS (the RFC's), which a veth has not. Latency at throughput " +
	"(26.2): of every datagram of the deciding trial, from the generator's stamp before its sendmmsg to the receiving socket's filter."

// frameSizes are RFC 2544's for Ethernet (9.1).
var frameSizes = []int{64, 128, 256, 512, 1024, 1280, 1518}

// imix is the simple Internet mix, spread out.
var imix = []int{64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 64, 594}

type mix struct {
	name  string
	sizes []int
}

func (m mix) params() map[string]float64 {
	sum := 0
	for _, s := range m.sizes {
		sum += s
	}
	p := map[string]float64{"frame": float64(sum) / float64(len(m.sizes))}
	if len(m.sizes) > 1 {
		p["imix"] = 1
	}
	return p
}

const (
	searchFlows      = 16
	searchResolution = 0.02
	searchTrials     = 3.5 // of the full length, that a search takes about
)

var latencyPercentiles = []float64{50, 99, 99.9}

// sizes are frame sizes, none smaller than the least of the run's family.
func (r *run) sizes(all []int) []int {
	all = slices.Clone(all)
	for i := range all {
		all[i] = max(all[i], r.small())
	}
	return all
}

func (r *run) mixes() (all []mix) {
	for _, s := range r.sizes(frameSizes) {
		all = append(all, mix{fmt.Sprintf("%d B", s), []int{s}})
	}
	all = append(all, mix{"IMIX", r.sizes(imix)})
	if r.Quick {
		all = all[:1]
	}
	return all
}

// throughput: RFC 2544's throughput, and the latency at it.
func (r *run) throughput() (steps []*step) {
	for _, m := range r.mixes() {
		figures := []Figure{{Work: "throughput, " + m.name, Kind: "throughput", Unit: "kpps", Params: m.params()}}
		for _, p := range latencyPercentiles {
			params := m.params()
			params["percentile"] = p
			figures = append(figures, Figure{Work: fmt.Sprintf("latency at throughput, %s, p%v", m.name, p), Kind: "latency", Unit: "µs", Params: params})
		}
		hints := map[contestant]float64{}
		rounds := 0
		if r.Quick {
			rounds = 1
		}
		steps = append(steps, &step{
			figures: figures, contestants: r.measured(), hosts: oneHost, rounds: rounds, pairs: pairs(1, oneHost),
			turn: time.Duration(searchTrials * float64(warmUp(r.Trial)+r.Trial)), alone: warmUp(r.Trial) + r.Trial,
			measure: func(b *bed, c contestant) ([]Value, error) {
				return r.search(b, c, m, hints)
			},
		})
	}
	return steps
}

func (r *run) search(b *bed, c contestant, m mix, hints map[contestant]float64) ([]Value, error) {
	l := load{senders: b.senders(1), receiver: b.receiver(oneHost), flows: searchFlows, sizes: m.sizes}
	var all Tally
	offer := func(rate float64, d time.Duration) (Offer, error) {
		l.rate, l.duration = rate, d
		o, err := r.trial(b, c, l)
		all = all.Plus(o.tally)
		return Offer{Rate: o.offered, Received: o.received, Tally: o.tally, Latency: o.latency}, err
	}
	if _, alone := c.(*dropper); alone {
		o, err := offer(0, r.Trial)
		return []Value{{X: o.Rate / 1e3}}, err
	}
	f, err := Search{Trial: offer, Full: r.Trial, Resolution: searchResolution, Again: 1, Hint: hints[c]}.Run()
	if err != nil {
		return nil, err
	}
	hints[c] = f.Rate
	// What was lost on the way is the search's own doing; what came twice, late or corrupt at any rate is not.
	tally := f.Tally
	tally.Duplicated, tally.Reordered, tally.Corrupt = all.Duplicated, all.Reordered, all.Corrupt
	values := []Value{{X: f.Rate / 1e3, Note: f.note(), Tally: &tally}}
	for i, p := range latencyPercentiles {
		v := Value{Figure: i + 1, X: f.Latency.Percentile(p), Tally: &f.Tally}
		switch {
		case f.Rate == 0:
			v = Value{Figure: i + 1, Skip: "no rate without loss was found"}
		case math.IsInf(v.X, 0):
			v = Value{Figure: i + 1, Skip: fmt.Sprintf("longer than %v", longestTimed.Truncate(time.Millisecond))}
		}
		values = append(values, v)
	}
	return values, nil
}

const lossHow = "RFC 2544 frame loss rate (26.3): UDP in 64-byte frames, one sender, 16 flows, offered at 100 %, 90 %, ... of the " +
	"generator's ceiling, until two trials in a row lose nothing. Where the forwarder slows the sender down, what was offered stands in the note."

// lossShares are percents of the ceiling.
var lossShares = []float64{100, 90, 80, 70, 60, 50, 40, 30, 20, 10}

// loss: the frame loss rate by offered load.
func (r *run) loss() []*step {
	m := mix{fmt.Sprintf("%d B", r.small()), []int{r.small()}}
	var figures []Figure
	for _, share := range lossShares {
		params := m.params()
		params["offered_percent"] = share
		figures = append(figures, Figure{Work: fmt.Sprintf("loss, %s at %v %% of the ceiling", m.name, share), Kind: "loss", Unit: "%", Params: params})
	}
	var top float64
	return []*step{{
		figures: figures, contestants: r.forwarders(), hosts: oneHost, rounds: 1, pairs: pairs(1, oneHost),
		turn: time.Duration(0.7 * float64(len(lossShares)) * float64(warmUp(r.Trial)+r.Trial+drained)),
		prepare: func(b *bed) (err error) {
			top, err = r.ceiling(b, m)
			return err
		},
		measure: func(b *bed, c contestant) ([]Value, error) { return r.lossCurve(b, c, m, top) },
	}}
}

// ceiling is the highest rate that can be offered: the generator's alone, or, where nothing can be dropped on purpose,
// what it reaches as it is.
func (r *run) ceiling(b *bed, m mix) (float64, error) {
	l := load{senders: b.senders(1), receiver: b.receiver(oneHost), flows: searchFlows, sizes: m.sizes, duration: r.Trial}
	var first contestant = asFound{}
	if b.found == nil {
		first = &kernel{}
	}
	if err := first.start(r.ctx, b, 0); err != nil {
		return 0, err
	}
	err := b.settle(r.ctx, first, pairs(1, oneHost)(b))
	if stopErr := first.stop(); err == nil {
		err = stopErr
	}
	if err != nil {
		return 0, err
	}
	who := first
	if b.found == nil {
		who = &dropper{}
		if err := who.start(r.ctx, b, 0); err != nil {
			return 0, err
		}
	}
	o, err := r.trial(b, who, l)
	if stopErr := who.stop(); err == nil {
		err = stopErr
	}
	return o.offered, err
}

func (r *run) lossCurve(b *bed, c contestant, m mix, top float64) (values []Value, err error) {
	clean := 0
	for i, share := range lossShares {
		if clean == 2 {
			values = append(values, Value{Figure: i, Skip: "not tried: two trials above lost nothing"})
			continue
		}
		l := load{senders: b.senders(1), receiver: b.receiver(oneHost), flows: searchFlows, sizes: m.sizes,
			rate: share / 100 * top, duration: r.Trial}
		o, err := r.trial(b, c, l)
		if err != nil {
			return nil, err
		}
		if clean++; o.tally.Lost > 0 {
			clean = 0
		}
		values = append(values, Value{Figure: i, X: o.tally.LossPercent(), Tally: &o.tally, Note: o.note(l), Offered: o.offered / 1e3})
	}
	return values, nil
}
