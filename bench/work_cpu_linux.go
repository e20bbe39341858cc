package bench

import (
	"fmt"
)

const cpuHow = "CPU time of all CPUs a packet, at a rate that everyone can bear: UDP in 64-byte frames at 50,000 a second, one sender. " +
	"'all CPUs' is what is neither idle (/proc/stat) nor taken by other processes, so the generator, the receiving kernel and the idle machine's own doings are in it: " +
	"the row 'generator', whose frames are dropped at once, is what to subtract. Softirq time is sampled by the kernel's clock tick, " +
	"unless it has CONFIG_IRQ_TIME_ACCOUNTING. The generator's threads are told by their CPU clocks, and hold what the kernel " +
	"forwards in their system calls; the forwarder's processes by schedstat. There is no sink: a socket filter counts in softirq."

// cpuRate is what is offered where the cost of a packet is measured, frames a second.
const cpuRate = 50000

// cpu: CPU time per packet, by flows.
func (r *run) cpu() (steps []*step) {
	flows := []int{1, 16, 1000}
	if r.Quick {
		flows = []int{16}
	}
	for _, n := range flows {
		params := map[string]float64{"flows": float64(n), "frame": float64(r.small())}
		steps = append(steps, &step{
			figures: cpuFigures(fmt.Sprintf("CPU a packet, %s", count(n, "flow")), params), contestants: r.measured(), hosts: oneHost,
			turn: warmUp(r.Trial) + r.Trial, pairs: pairs(1, oneHost),
			measure: func(b *bed, c contestant) ([]Value, error) {
				l := load{senders: b.senders(1), receiver: b.receiver(oneHost), flows: n, sizes: []int{r.small()}, rate: cpuRate, duration: r.Trial}
				o, err := r.trial(b, c, l)
				if err != nil {
					return nil, err
				}
				return o.costs(c, l, 0), nil
			},
		})
	}
	return steps
}

func cpuFigures(work string, params map[string]float64) (figures []Figure) {
	for _, f := range []struct{ what, kind string }{
		{"all CPUs", "cpu"}, {"softirq", "cpu-softirq"}, {"generator's threads", "cpu-generator"}, {"forwarder's processes", "cpu-forwarder"},
	} {
		figures = append(figures, Figure{Work: work + ", " + f.what, Kind: f.kind, Unit: "ns", Params: params})
	}
	return figures
}

// othersTookAll says why a trial has no figure of all CPUs.
const othersTookAll = "other processes took all CPU time there was, as far as the clock's ticks can tell"

// costs are a trial's figures, those of cpuFigures from the first-th on.
func (o outcome) costs(c contestant, l load, first int) []Value {
	v := Value{Figure: first, X: o.cpu.perPacket(o.cpu.busy), Note: o.note(l), Offered: o.offered / 1e3}
	if _, alone := c.(*dropper); !alone {
		v.Tally = &o.tally
	}
	if o.cpu.busy == 0 {
		v = Value{Figure: first, Skip: othersTookAll}
	}
	return []Value{v,
		{Figure: first + 1, X: o.cpu.perPacket(o.cpu.softirq)},
		{Figure: first + 2, X: float64(o.cpu.generator.Nanoseconds())},
		{Figure: first + 3, X: o.cpu.perPacket(o.cpu.forwarder)}}
}

const workloadsHow = "A host with 1, 100 and 1000 workload interfaces besides the sender's and a few idle ones: UDP in 64-byte frames to " +
	"as many pods, one flow each, round robin. Maximum rate as in rate, CPU time as in cpu."

// workloads: rate and cost by the number of workloads.
func (r *run) workloads() (steps []*step) {
	counts := []int{1, 100, 1000}
	if r.Quick {
		counts = counts[:2]
	}
	for _, n := range counts {
		params := map[string]float64{"workloads": float64(n), "frame": float64(r.small())}
		to := count(n, "workload")
		figures := append([]Figure{{Work: fmt.Sprintf("rate, %d B, 1 sender, to %s", r.small(), to), Kind: "rate", Unit: "kpps", Params: params}},
			cpuFigures("CPU a packet, to "+to, params)...)
		steps = append(steps, &step{
			figures: figures, contestants: r.measured(), hosts: oneHost, turn: 2 * (warmUp(r.Trial) + r.Trial), pairs: pairs(1, oneHost),
			prepare: func(b *bed) error { return b.bulk.grow(r.ctx, n) },
			measure: func(b *bed, c contestant) ([]Value, error) {
				if err := r.reachAll(b, c); err != nil {
					return nil, err
				}
				l := load{senders: b.senders(1), receiver: b.bulk.pod, to: b.bulk.addresses(), flows: n, sizes: []int{r.small()}, duration: r.Trial}
				fast, err := r.trial(b, c, l)
				if err != nil {
					return nil, err
				}
				v := fast.rate(c, l)
				l.rate = cpuRate
				slow, err := r.trial(b, c, l)
				return append([]Value{v}, slow.costs(c, l, 1)...), err
			},
		})
	}
	return steps
}

// reachAll sends to each workload until something has come from each, so that the host knows them all.
func (r *run) reachAll(b *bed, c contestant) error {
	if _, alone := c.(*dropper); alone {
		return nil
	}
	return b.bulk.reach(r.ctx, b, c)
}
