package bench

import (
	"net/netip"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/nstest"
)

// Each of many workloads gets its flow, and all are gone with the lab.
func TestWorkloadsReached(t *testing.T) {
	if missing := lab.MissingCaps(); len(missing) > 0 {
		nstest.Skip(t, "the lab needs %v", missing)
	}
	const n = 30
	r := &run{ctx: t.Context(), Options: Options{Trial: 200 * time.Millisecond}, report: &Report{}}
	b, err := r.bulkBedWithSenders()
	must(t, err)
	defer func() { must(t, b.Close()) }()
	must(t, b.bulk.grow(r.ctx, n/2))
	must(t, b.bulk.grow(r.ctx, n))
	k := &kernel{}
	must(t, k.start(r.ctx, b, 0))
	defer func() { must(t, k.stop()) }()
	must(t, b.settle(r.ctx, k, pairs(1, oneHost)(b)))
	must(t, b.bulk.reach(r.ctx, b, k))

	l := load{senders: b.senders(1), receiver: b.bulk.pod, to: b.bulk.addresses(), flows: n, sizes: []int{64}, rate: 5000, duration: r.Trial}
	o, err := r.trial(b, k, l)
	must(t, err)
	if o.tally.Sent < 500 || o.tally.Lost+o.tally.Duplicated+o.tally.Corrupt > 0 {
		t.Errorf("%+v", o.tally)
	}
	// A workload that is not there: the others' datagrams don't stand in for its.
	stray := l
	stray.to = append([]netip.Addr{netip.MustParseAddr("10.66.77.77")}, l.to[1:]...)
	o, err = r.trial(b, k, stray)
	must(t, err)
	if want := o.tally.Sent / n; o.tally.Lost < want || o.tally.Lost > want+2 {
		t.Errorf("%d lost of %d to %d workloads, of which one is not there", o.tally.Lost, o.tally.Sent, n)
	}
}

// However long a trial is, the sink has room for what the generators may send.
func TestPerFlowFits(t *testing.T) {
	for _, l := range []load{
		{senders: make([]lab.Pod, 1), flows: 1, duration: 100 * time.Millisecond}, {senders: make([]lab.Pod, 16), flows: 1000, duration: 10 * time.Minute},
		{senders: make([]lab.Pod, 1), flows: 1, duration: 10 * time.Minute}, {senders: make([]lab.Pod, 16), flows: 1, rate: 1e6, duration: time.Minute},
	} {
		n := l.perFlow()
		if words := (n/64 + 1) * uint64(l.flows*len(l.senders)); words > mostNumbered/64 || n < batch {
			t.Errorf("%d senders, %d flows, %v: %d datagrams a flow", len(l.senders), l.flows, l.duration, n)
		}
	}
}
