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
	packet := frame
	if e.ethernet && len(frame) >= wire.EthernetLen {
		packet = wire.Ethernet(frame).Payload()
		if e.tagged {
			packet = packet[min(pktring.TagLen, len(packet)):]
		}
	}
	dst, hops, six := destination(packet)
	if k.To != nil {
		if v.Out, v.MTU = k.To.Name, k.To.MTU; six {
			v.MTU = k.To.MTU6
		}
		waits := verdict == route.Queue || verdict == route.DropNeighFailed || verdict == route.DropNeighQueueFull
		if k.Next.IsValid() && (waits || k.Next != dst) {
			v.Via = k.Next
		}
	}
	if r := k.Route; r != nil {
		v.Table, v.Metric = r.Table, r.Metric
		if dst.IsValid() {
			v.Route = r.PrefixOf(dst)
		}
		if r.MTU != 0 {
			v.MTU = r.MTU
		}
	}
	if k.Rule != nil {
		v.Rule = strconv.FormatUint(uint64(k.Rule.Priority), 10)
	}
	if v.Kind != capture.Forward || !dst.IsValid() {
		return
	}
	v.TTL = strconv.Itoa(int(hops)) + ">" + strconv.Itoa(int(hops)-1)
	if n := k.Neighbour; n != nil {
		v.Neighbour = n.State()
		v.Src, v.Dst = k.To.MAC.String(), n.MAC.String()
	}
}

// destination reads where a packet goes, the zero Addr if it has no whole header, and
// its TTL or hop limit.
func destination(packet []byte) (dst netip.Addr, hops uint8, six bool) {
	if len(packet) > 0 && packet[0]>>4 == 6 {
		if ip := wire.IPv6(packet); ip.Valid() {
			return ip.DstAddr(), ip.HopLimit(), true
		}
		return dst, 0, true
	}
	if ip := wire.IPv4(packet); ip.Valid() {
		return ip.DstAddr(), ip.TTL(), false
	}
	return dst, 0, false
}
