package livecapture

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/capture"
	"proxyarpd/forward"
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// TestDescribe: what is told of a packet, by what the datapath or the responder
// knew when its verdict fell.
func TestDescribe(t *testing.T) {
	pod := &route.Link{Ifindex: testPod, Name: "cali1", MAC: wire.MAC{2, 0, 0, 0, 0, 1}, MTU: 1500}
	up := &route.Link{Ifindex: testHost, Name: "ens192", MAC: wire.MAC{2, 0, 0, 0, 0, 2}, MTU: 1400}
	router := &route.Neighbour{MAC: wire.MAC{2, 0, 0, 0, 0, 3}, Valid: true}
	r := &route.Route{Table: 254, Bits: 16, Metric: 100}
	far, via, dst := netip.MustParsePrefix("10.65.0.0/16"), netip.MustParseAddr("192.168.1.16"), netip.MustParseAddr("10.65.1.2")
	data := frame("10.65.1.2")
	tagged := make([]byte, len(data)+4)
	copy(tagged, data[:12])
	retag(tagged, data, &sight{tci: 5})
	datapath := func(v route.Verdict, k forward.Look) event {
		return event{sight: sight{source: fromDatapath, ethernet: true, id: 7, verdict: uint8(v), received: 100, known: true}, seen: 400, look: k}
	}
	with := func(e event, edit func(*event)) event {
		edit(&e)
		return e
	}
	took := 300 * time.Nanosecond
	mac := func(m wire.MAC) string { return m.String() }
	all := forward.Look{From: pod, To: up, Next: via, Neighbour: router, Route: r}
	forwarded := capture.Verdict{Kind: capture.Forward, ID: 7, Out: "ens192", MTU: 1400, Via: via, Route: far, Table: 254, Metric: 100, Neighbour: "REACHABLE",
		Src: mac(up.MAC), Dst: mac(router.MAC), TTL: "64>63", Took: took}
	but := func(edit func(*capture.Verdict)) capture.Verdict {
		v := forwarded
		edit(&v)
		return v
	}
	for name, c := range map[string]struct {
		e    event
		data []byte
		want capture.Verdict
	}{
		"forwarded":         {datapath(route.Forward, all), data, forwarded},
		"again":             {with(datapath(route.Forward, all), func(e *event) { e.again = true }), data, but(func(v *capture.Verdict) { v.Again = true })},
		"tagged":            {with(datapath(route.Forward, all), func(e *event) { e.tagged = true }), tagged, forwarded},
		"no Ethernet":       {with(datapath(route.Forward, all), func(e *event) { e.ethernet = false }), data[14:], forwarded},
		"directly":          {datapath(route.Forward, looking(all, func(k *forward.Look) { k.Next = dst })), data, but(func(v *capture.Verdict) { v.Via = netip.Addr{} })},
		"cut off":           {datapath(route.Forward, all), data[:20], but(func(v *capture.Verdict) { v.Route, v.TTL, v.Neighbour, v.Src, v.Dst = netip.Prefix{}, "", "", "", "" })},
		"a route's MTU":     {datapath(route.Forward, looking(all, func(k *forward.Look) { k.Route = &route.Route{Table: 254, Bits: 16, Metric: 100, MTU: 1300} })), data, but(func(v *capture.Verdict) { v.MTU = 1300 })},
		"a rule, an error":  {datapath(route.Forward, looking(all, func(k *forward.Look) { k.Rule, k.ICMPType, k.ICMPCode = &route.Rule{Priority: 100}, 5, 1 })), data, but(func(v *capture.Verdict) { v.Rule, v.ICMP = "100", "5/1" })},
		"at once":           {with(datapath(route.Forward, all), func(e *event) { e.seen = 100 }), data, but(func(v *capture.Verdict) { v.Took = 0 })},
		"nobody knows when": {with(datapath(route.Forward, all), func(e *event) { e.received = 0 }), data, but(func(v *capture.Verdict) { v.Took = 0 })},
		"as it left":        {with(datapath(route.Forward, all), func(e *event) { e.out = true }), data, capture.Verdict{Kind: capture.Forward, ID: 7, In: "cali1"}},
		"made here":         {with(datapath(route.Originate, forward.Look{}), func(e *event) { e.out = true }), data, capture.Verdict{Kind: capture.Originate, ID: 7}},
		"waits": {datapath(route.Queue, forward.Look{To: up, Next: dst}), data,
			capture.Verdict{Kind: capture.Queue, ID: 7, Out: "ens192", MTU: 1400, Via: dst, Took: took}},
		"no neighbour": {datapath(route.DropNeighFailed, forward.Look{To: up, Next: dst}), data,
			capture.Verdict{Kind: capture.Drop, Reason: "NEIGH_FAILED", ID: 7, Out: "ens192", MTU: 1400, Via: dst, Took: took}},
		"no room": {datapath(route.DropNeighQueueFull, forward.Look{To: up, Next: dst}), data,
			capture.Verdict{Kind: capture.Drop, Reason: route.DropNeighQueueFull.String(), ID: 7, Out: "ens192", MTU: 1400, Via: dst, Took: took}},
		"dropped": {datapath(route.DropTTLExpired, forward.Look{To: up, Next: dst}), data,
			capture.Verdict{Kind: capture.Drop, Reason: "PARP_TTL_EXPIRED", ID: 7, Out: "ens192", MTU: 1400, Took: took}},
		"for the host": {datapath(route.Local, forward.Look{}), data, capture.Verdict{Kind: capture.Local, ID: 7, Took: took}},
		"to --punt":    {datapath(route.Punt, forward.Look{}), data, capture.Verdict{Kind: capture.Punt, ID: 7, Took: took}},
		"in transit":   {datapath(route.PuntTransit, forward.Look{}), data, capture.Verdict{Kind: capture.Punt, Reason: route.PuntTransit.String(), ID: 7, Took: took}},
		"of a VLAN": {event{sight: sight{source: fromHost, id: 7, verdict: uint8(route.IgnoreTagged), received: 100}, seen: 400, look: all}, data,
			capture.Verdict{Kind: capture.Ignore, Reason: route.IgnoreTagged.String(), ID: 7}},
		"answered": {event{sight: sight{source: fromResponder, arp: true, id: 7, verdict: uint8(arpd.Answered), answer: router.MAC}, seen: 400}, data,
			capture.Verdict{Kind: capture.Answer, ID: 7, IsAt: router.MAC[:]}},
		"the reply": {event{sight: sight{source: fromResponder, arp: true, out: true, id: 7, verdict: uint8(arpd.Answered), answer: router.MAC, received: 100}, seen: 400}, data,
			capture.Verdict{Kind: capture.Originate, ID: 7}},
		"an ARP drop": {event{sight: sight{source: fromResponder, arp: true, id: 7, verdict: uint8(arpd.DropRateLimit)}, seen: 400}, data,
			capture.Verdict{Kind: capture.Drop, Reason: arpd.DropRateLimit.String(), ID: 7}},
		"ARP to others": {event{sight: sight{source: fromHost, arp: true, id: 7, verdict: uint8(arpd.IgnoreOtherhost), pktType: unix.PACKET_OTHERHOST}, seen: 400}, data,
			capture.Verdict{Kind: capture.Ignore, Reason: arpd.IgnoreOtherhost.String(), ID: 7}},
	} {
		got := capture.Verdict{Kind: "what was there"}
		c.e.describe(&got, c.data)
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n%+v, want\n%+v", name, got, c.want)
		}
	}
}

func looking(k forward.Look, edit func(*forward.Look)) forward.Look {
	edit(&k)
	return k
}
