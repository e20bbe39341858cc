package arpd

import (
	"fmt"
	"net/netip"
	"slices"

	"proxyarpd/internal/wire"
)

// Step is one rule by which a request was judged, in the order of Answer.
type Step struct {
	Rule string `json:"rule"` // what it asks
	Says string `json:"says"` // what it found
	// Decides says that the request ends here.
	Decides bool `json:"decides"`
}

// Explain judges a request as Answer does and tells the rules one by one, the last
// of which decides. It is for people, and allocates.
func Explain(q *Request, p *Policy) (v Verdict, steps []Step) {
	v = p.judge(q)
	rules := onWorkload
	if p.Uplink != nil {
		rules = onUplink
	}
	for _, r := range rules {
		found, applies := r.says(p, q)
		decides := applies && r.ends(v)
		steps = append(steps, Step{Rule: r.rule, Says: found, Decides: decides})
		if decides {
			return v, steps
		}
	}
	return v, steps
}

// A tellable rule says what it found of a request; applies is whether it is one
// that the rule ends, in one of the verdicts.
type tellable struct {
	rule     string
	says     func(p *Policy, q *Request) (found string, applies bool)
	verdicts []Verdict
}

func (r *tellable) ends(v Verdict) bool { return slices.Contains(r.verdicts, v) }

// onWorkload are the rules of judge and judgeAddresses, onUplink those of judge and
// judgeUplink, in their order.
var (
	onWorkload = append(slices.Clone(ofFrame), ofWorkload...)
	onUplink   = append(slices.Clone(ofFrame), ofUplink...)
)

// ofFrame are the rules that both begin with.
var ofFrame = []*tellable{
	{"destination of the frame", func(p *Policy, q *Request) (string, bool) {
		if q.Dst.IsMulticast() || p.ours(q.Dst) {
			return fmt.Sprintf("%s is broadcast or this interface's", q.Dst), false
		}
		return fmt.Sprintf("%s is another station's", q.Dst), true
	}, []Verdict{IgnoreOtherhost}},
	{"MAC of the sender", func(p *Policy, q *Request) (string, bool) {
		switch sha := q.senderMAC(); {
		case p.isUs(q.Src) || p.isUs(sha):
			return fmt.Sprintf("%s is one of ours: an echo, or a loop", sha), true
		case q.Src.IsMulticast() || q.Src.IsZero() || sha.IsMulticast() || sha.IsZero():
			return fmt.Sprintf("%s is a group's, or zero", sha), true
		default:
			return fmt.Sprintf("%s is a station's", sha), false
		}
	}, []Verdict{IgnoreOwnFrame, DropInvalidMAC}},
	{"addresses", func(_ *Policy, q *Request) (string, bool) {
		switch probe := q.isProbe(); {
		case q.TargetIP.IsLoopback() || q.SenderIP.IsLoopback():
			return "sender or target is in 127/8", true
		case neverUnicast(q.TargetIP):
			return fmt.Sprintf("target %s is no unicast address", q.TargetIP), true
		case !probe && neverUnicast(q.SenderIP):
			return fmt.Sprintf("sender %s is no unicast address", q.SenderIP), true
		case q.SenderIP == q.TargetIP:
			return "asks for the sender's own address: an announcement (RFC 5227)", true
		case probe:
			return fmt.Sprintf("an address probe for %s (RFC 5227)", q.TargetIP), false
		default:
			return fmt.Sprintf("%s asks for %s", q.SenderIP, q.TargetIP), false
		}
	}, []Verdict{DropLocalnet, DropInvalidTarget, DropInvalidSource, IgnoreGratuitous}},
}

var ofWorkload = []*tellable{
	{"--gateway", func(p *Policy, q *Request) (string, bool) {
		if p.isGateway(q.TargetIP) {
			return fmt.Sprintf("%s is one: answered with %s", q.TargetIP, p.Answer), true
		}
		return fmt.Sprintf("%s is none of %v", q.TargetIP, p.Gateways), false
	}, []Verdict{Answered}},
	{"address of this host", func(p *Policy, q *Request) (string, bool) {
		if p.route(q.TargetIP, q.SenderIP) == ProxyLocal {
			return fmt.Sprintf("%s is one: the kernel answers", q.TargetIP), true
		}
		return fmt.Sprintf("%s is none", q.TargetIP), false
	}, []Verdict{Local}},
	{"probe", func(_ *Policy, q *Request) (string, bool) {
		if q.isProbe() {
			return "an answer would tell the prober that its address is taken", true
		}
		return "no", false
	}, []Verdict{IgnoreProbe}},
	{"--proxy", func(p *Policy, q *Request) (string, bool) {
		switch {
		case len(p.Proxy) == 0:
			return "not given: nothing but gateways is answered", true
		case !p.inProxy(q.TargetIP):
			return fmt.Sprintf("%s is in none of %v", q.TargetIP, p.Proxy), true
		default:
			return fmt.Sprintf("%s is in one of %v", q.TargetIP, p.Proxy), false
		}
	}, []Verdict{IgnoreNotProxied}},
	{"route of the target", func(p *Policy, q *Request) (string, bool) {
		if p.route(q.TargetIP, q.SenderIP) == ProxyYes {
			return "leads over another interface, and the sender may ask", false
		}
		return "there is none over another interface, or rp_filter refuses the sender", true
	}, []Verdict{IgnoreNotProxied}},
	{"who has the target", func(p *Policy, q *Request) (string, bool) {
		if p.uses(q) {
			return fmt.Sprintf("%s itself, as the neighbour table says: the route leads elsewhere yet, or already", q.senderMAC()), true
		}
		return fmt.Sprintf("another station: answered with %s", p.Answer), true
	}, []Verdict{IgnoreOwnAddress, Answered}},
}

var ofUplink = []*tellable{
	{"address of this host", func(p *Policy, q *Request) (string, bool) {
		if p.uplink(q) == UplinkLocal {
			return fmt.Sprintf("%s is one: the kernel answers", q.TargetIP), true
		}
		return fmt.Sprintf("%s is none", q.TargetIP), false
	}, []Verdict{Local}},
	{"--answer-uplink", func(p *Policy, q *Request) (string, bool) {
		if !within(p.Uplink.Targets, q.TargetIP) {
			return fmt.Sprintf("%s is in none of %v", q.TargetIP, p.Uplink.Targets), true
		}
		return fmt.Sprintf("%s is in one of %v", q.TargetIP, p.Uplink.Targets), false
	}, []Verdict{IgnoreNotProxied}},
	{"forwarding", func(p *Policy, _ *Request) (string, bool) {
		if p.Uplink.Unforwarded {
			return "neither proxyarpd nor the kernel forwards what comes in here", true
		}
		return "what comes in here is forwarded", false
	}, []Verdict{IgnoreUnforwarded}},
	{"route of the target", func(p *Policy, q *Request) (string, bool) {
		if p.uplink(q) == UplinkNo {
			return "none of type unicast leads over a workload interface", true
		}
		return "leads over a workload interface", false
	}, []Verdict{IgnoreNoWorkload}},
	{"who has the target", func(p *Policy, q *Request) (string, bool) {
		if p.uplink(q) == UplinkOwn {
			return fmt.Sprintf("%s itself, as the neighbour table says", q.senderMAC()), true
		}
		return "another station", false
	}, []Verdict{IgnoreOwnAddress}},
	{"way back", func(p *Policy, q *Request) (string, bool) {
		here := p.uplink(q) == UplinkYes
		switch {
		case q.isProbe() && here:
			return fmt.Sprintf("without the workloads' routes %s would be sought here: the probe is answered with %s", q.TargetIP, p.Answer), true
		case q.isProbe():
			return fmt.Sprintf("without the workloads' routes %s would be sought by another interface, which answers", q.TargetIP), true
		case here:
			return fmt.Sprintf("to %s it is this interface: answered with %s", q.SenderIP, p.Answer), true
		}
		return fmt.Sprintf("to %s it is another interface, or rp_filter refuses it", q.SenderIP), true
	}, []Verdict{IgnoreWayBack, Answered}},
}

// NewRequest makes the request that a station would broadcast: who has target,
// tell from. A from of 0.0.0.0 makes it a probe.
func NewRequest(sender wire.MAC, from, target netip.Addr) *Request {
	frame := make(wire.Ethernet, wire.EthernetLen+wire.ARPLen)
	frame.SetDst(wire.Broadcast)
	frame.SetSrc(sender)
	frame.SetType(wire.EtherTypeARP)
	wire.PutARP(frame.Payload(), wire.ARPRequest, sender, from, wire.MAC{}, target)
	q := new(Request)
	q.Read(frame)
	return q
}
