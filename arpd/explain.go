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

// Rule is one rule, for people: Says what it found of a request, and whether the request
// is one that the rule ends, in one of the Verdicts or their like of neighbour discovery.
type Rule struct {
	Rule     string
	Says     func() (found string, applies bool)
	Verdicts []Verdict
}

func (r *Rule) ends(v Verdict) bool {
	return slices.ContainsFunc(r.Verdicts, func(own Verdict) bool { return own == v || own.ForND() == v })
}

// Tell tells rules one by one up to that which has decided, with verdict v.
func Tell(v Verdict, rules []Rule) (steps []Step) {
	for i := range rules {
		r := &rules[i]
		found, applies := r.Says()
		decides := applies && r.ends(v)
		steps = append(steps, Step{Rule: r.Rule, Says: found, Decides: decides})
		if decides {
			break
		}
	}
	return steps
}

// Explain judges a request as Answer does and tells the rules one by one, the last
// of which decides. It is for people, and allocates.
func Explain(q *Request, p *Policy) (v Verdict, steps []Step) {
	v = p.judge(q)
	rules := append(p.StationRules(q.Dst, q.Src, q.senderMAC()), Rule{"addresses", func() (string, bool) {
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
	}, []Verdict{DropLocalnet, DropInvalidTarget, DropInvalidSource, IgnoreGratuitous}})
	return v, Tell(v, append(rules, p.Rules(q.asker(p))...))
}

// StationRules are the rules of JudgeStations.
func (p *Policy) StationRules(dst, src, asker wire.MAC) []Rule {
	return []Rule{
		{"destination of the frame", func() (string, bool) {
			if dst.IsMulticast() || p.ours(dst) {
				return fmt.Sprintf("%s is broadcast, a group's or this interface's", dst), false
			}
			return fmt.Sprintf("%s is another station's", dst), true
		}, []Verdict{IgnoreOtherhost}},
		{"MAC of the sender", func() (string, bool) {
			switch {
			case p.isUs(src) || p.isUs(asker):
				return fmt.Sprintf("%s is one of ours: an echo, or a loop", asker), true
			case src.IsMulticast() || src.IsZero() || asker.IsMulticast() || asker.IsZero():
				return fmt.Sprintf("%s is a group's, or zero", asker), true
			default:
				return fmt.Sprintf("%s is a station's", asker), false
			}
		}, []Verdict{IgnoreOwnFrame, DropInvalidMAC}},
	}
}

// Rules are the rules of Judge.
func (p *Policy) Rules(a Asker) []Rule {
	if p.Uplink != nil {
		return p.uplinkRules(a)
	}
	return p.workloadRules(a)
}

func (p *Policy) workloadRules(a Asker) []Rule {
	return []Rule{
		{"--gateway", func() (string, bool) {
			if p.IsGateway(a.Target) {
				return fmt.Sprintf("%s is one: answered with %s", a.Target, p.Answer), true
			}
			return fmt.Sprintf("%s is none of %v", a.Target, p.Gateways), false
		}, []Verdict{Answered}},
		{"address of this host", func() (string, bool) {
			if p.route(a) == ProxyLocal {
				return fmt.Sprintf("%s is one: the kernel answers", a.Target), true
			}
			return fmt.Sprintf("%s is none", a.Target), false
		}, []Verdict{Local}},
		{"probe", func() (string, bool) {
			if a.IsProbe() {
				return "an answer would tell the prober that its address is taken", true
			}
			return "no", false
		}, []Verdict{IgnoreProbe}},
		{"--proxy", func() (string, bool) {
			switch {
			case len(p.Proxy) == 0:
				return "not given: nothing but gateways is answered", true
			case !p.inProxy(a.Target):
				return fmt.Sprintf("%s is in none of %v", a.Target, p.Proxy), true
			default:
				return fmt.Sprintf("%s is in one of %v", a.Target, p.Proxy), false
			}
		}, []Verdict{IgnoreNotProxied}},
		{"route of the target", func() (string, bool) {
			if p.route(a) == ProxyYes {
				return "leads over another interface, and the sender may ask", false
			}
			return "there is none over another interface, or rp_filter refuses the sender", true
		}, []Verdict{IgnoreNotProxied}},
		{"who has the target", func() (string, bool) {
			if p.uses(a) {
				return fmt.Sprintf("%s itself, as the neighbour table says: the route leads elsewhere yet, or already", a.MAC), true
			}
			return fmt.Sprintf("another station: answered with %s", p.Answer), true
		}, []Verdict{IgnoreOwnAddress, Answered}},
	}
}

func (p *Policy) uplinkRules(a Asker) []Rule {
	return []Rule{
		{"address of this host", func() (string, bool) {
			if p.uplink(a) == UplinkLocal {
				return fmt.Sprintf("%s is one: the kernel answers", a.Target), true
			}
			return fmt.Sprintf("%s is none", a.Target), false
		}, []Verdict{Local}},
		{"--answer-uplink", func() (string, bool) {
			if !within(p.Uplink.Targets, a.Target) {
				return fmt.Sprintf("%s is in none of %v", a.Target, p.Uplink.Targets), true
			}
			return fmt.Sprintf("%s is in one of %v", a.Target, p.Uplink.Targets), false
		}, []Verdict{IgnoreNotProxied}},
		{"forwarding", func() (string, bool) {
			if p.Uplink.Unforwarded {
				return "neither proxyarpd nor the kernel forwards what comes in here", true
			}
			return "what comes in here is forwarded", false
		}, []Verdict{IgnoreUnforwarded}},
		{"route of the target", func() (string, bool) {
			if p.uplink(a) == UplinkNo {
				return "none of type unicast leads over a workload interface", true
			}
			return "leads over a workload interface", false
		}, []Verdict{IgnoreNoWorkload}},
		{"who has the target", func() (string, bool) {
			if p.uplink(a) == UplinkOwn {
				return fmt.Sprintf("%s itself, as the neighbour table says", a.MAC), true
			}
			return "another station", false
		}, []Verdict{IgnoreOwnAddress}},
		{"way back", func() (string, bool) {
			here := p.uplink(a) == UplinkYes
			switch {
			case a.IsProbe() && here:
				return fmt.Sprintf("without the workloads' routes %s would be sought here: the probe is answered with %s", a.Target, p.Answer), true
			case a.IsProbe():
				return fmt.Sprintf("without the workloads' routes %s would be sought by another interface, which answers", a.Target), true
			case HasNoRoute(a.IP) && here:
				return fmt.Sprintf("without the workloads' routes %s would be sought here: answered with %s", a.Target, p.Answer), true
			case HasNoRoute(a.IP):
				return fmt.Sprintf("without the workloads' routes %s would be sought by another interface, which answers", a.Target), true
			case here:
				return fmt.Sprintf("to %s it is this interface: answered with %s", a.IP, p.Answer), true
			}
			return fmt.Sprintf("to %s it is another interface, or rp_filter refuses it", a.IP), true
		}, []Verdict{IgnoreWayBack, Answered}},
	}
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
