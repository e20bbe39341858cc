package livecapture

import (
	"net/netip"
	"strconv"
	"time"

	"proxyarpd/arpd"
	"proxyarpd/capture"
	"proxyarpd/forward/route"
	"proxyarpd/internal/pktring"
	"proxyarpd/internal/wire"
)

// describe fills v with what is known of an event. It runs on the session's
// goroutine: what the datapath gave are immutable tables, which are asked here.
func (e *event) describe(v *capture.Verdict, frame []byte) {
	*v = capture.Verdict{ID: e.id, Again: e.again}
	if e.source != fromHost && e.received != 0 && e.seen > e.received {
		v.Took = time.Duration(e.seen - e.received)
	}
	if e.arp {
		e.describeARP(v)
		return
	}
	verdict := route.Verdict(e.verdict)
	v.Kind = verdict.Kind().String()
	if v.Kind == capture.Drop || v.Kind == capture.Ignore || v.Kind == capture.Punt && verdict != route.Punt {
		v.Reason = verdict.String()
	}
	if e.source == fromDatapath || e.source == fromPrograms {
		e.describeForward(v, verdict, frame)
	}
}

func (e *event) describeARP(v *capture.Verdict) {
	verdict := arpd.Verdict(e.verdict)
	v.Kind = verdict.Kind().String()
	switch {
	case e.out:
		v.Kind, v.Took = capture.Originate, 0
	case v.Kind == capture.Answer:
		v.IsAt = e.answer[:]
	case v.Kind == capture.Drop || v.Kind == capture.Ignore:
		v.Reason = verdict.String()
	}
}

func (e *event) describeForward(v *capture.Verdict, verdict route.Verdict, frame []byte) {
	k := &e.look
	if e.out {
		if k.From != nil {
			v.In = k.From.Name
		}
		v.Took = 0
		return
	}
	if k.ICMPType != 0 {
		v.ICMP = strconv.Itoa(int(k.ICMPType)) + "/" + strconv.Itoa(int(k.ICMPCode))
	}
	ip := wire.IPv4(frame)
	if e.ethernet && len(frame) >= wire.EthernetLen {
		ip = wire.IPv4(wire.Ethernet(frame).Payload())
		if e.tagged {
			ip = ip[min(pktring.TagLen, len(ip)):]
		}
	}
	if k.To != nil {
		v.Out, v.MTU = k.To.Name, k.To.MTU
		waits := verdict == route.Queue || verdict == route.DropNeighFailed || verdict == route.DropNeighQueueFull
		if k.Next.IsValid() && (waits || !ip.Valid() || k.Next != netip.AddrFrom4(ip.Dst())) {
			v.Via = k.Next
		}
	}
	if r := k.Route; r != nil {
		v.Table, v.Metric = r.Table, r.Metric
		if ip.Valid() {
			v.Route = r.PrefixOf(netip.AddrFrom4(ip.Dst()))
		}
		if r.MTU != 0 {
			v.MTU = r.MTU
		}
	}
	if k.Rule != nil {
		v.Rule = strconv.FormatUint(uint64(k.Rule.Priority), 10)
	}
	if v.Kind != capture.Forward || !ip.Valid() {
		return
	}
	v.TTL = strconv.Itoa(int(ip.TTL())) + ">" + strconv.Itoa(int(ip.TTL())-1)
	if n := k.Neighbour; n != nil {
		v.Neighbour = n.State()
		v.Src, v.Dst = k.To.MAC.String(), n.MAC.String()
	}
}
