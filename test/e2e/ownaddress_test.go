package e2e

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/wire"
)

// TestOwnAddress: a workload is not told that somebody else has its own address, also
// while that is routed to another host: when it probes for it, announces it, or asks from
// its second address.
func TestOwnAddress(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"af_packet", "ebpf"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			labtest.NeedIPv6(t)
			for _, source := range []string{"0", "1"} {
				l := labtest.New(t, lab.Spec{Form: lab.FormCalico, PodsPerHost: 1})
				d := labtest.Daemon(t, l, "host0", "--proxy", "10.65.0.0/16", "--proxy", "fd00:10:65::/48", "--engine", engine, "--rp-filter", source)
				for _, c := range []ownAddress{
					{p: pods(l, 0)[0], far: pods(l, 1)[0], host: host0IP, other: host1IP, second: "10.65.9.9", listen: unix.ETH_P_ARP, answers: (*station).answersARP},
					{p: pods6(t, l, 0)[0], far: pods6(t, l, 1)[0], host: host0IP6, other: host1IP6, second: "fd00:10:65::99", listen: unix.ETH_P_IPV6, answers: (*station).answersND},
				} {
					c.test(t, l, d, "engine "+engine+", rp-filter "+source)
				}
			}
		})
	}
}

// ownAddress is a pod as one family has it.
type ownAddress struct {
	p, far              lab.Pod
	host, other, second string
	listen              int
	answers             func(s *station, target, tell string) bool
}

func (c *ownAddress) test(t *testing.T, l *lab.Lab, d *labtest.Process, name string) {
	t.Helper()
	wantTTL(t, l, c.p.Node, c.host, 64) // the host knows it
	run(t, l, c.p.Node, "ip addr add "+c.second+" dev eth0")
	run(t, l, "host0", "ip route add "+c.second+" dev "+c.p.Iface)
	pod := listen(t, l, c.p.Node, "eth0", c.listen)
	await(t, "--proxy answers", func() bool { return c.answers(pod, ip(c.far), ip(c.p)) })
	ask := func(when string) {
		t.Helper()
		for what, tell := range map[string]string{"a probe": "", "an announcement": ip(c.p), "its second address": c.second} {
			if c.answers(pod, ip(c.p), tell) {
				t.Errorf("%s, %s: %s for %s is answered", name, when, what, ip(c.p))
			}
		}
	}
	ask("routed here")
	run(t, l, "host0", "ip route replace "+ip(c.p)+" via "+c.other)
	await(t, "the route is known", func() bool {
		out := run(t, l, "host0", labtest.Binary(t)+" explain "+ip(c.p)+" --iif "+c.p.Iface+" --from "+c.second+" --control "+d.Control)
		return strings.Contains(out, "next hop                  "+c.other)
	})
	ask("routed elsewhere")
}

// answersARP reports whether a request for target is answered; without tell it is a
// probe. A probe for the gateway, which is answered always, follows it.
func (s *station) answersARP(target, tell string) bool {
	s.t.Helper()
	const nobody = "0.0.0.0"
	if tell == "" {
		tell = nobody
	}
	return s.answered(s.whoHas(target, tell).frame(), s.whoHas(gateway, nobody).frame(), func(f wire.Ethernet) (answer, last bool) {
		a := wire.ARP(f.Payload())
		return a.Op() == wire.ARPReply, a.TargetIP().String() == nobody && a.SenderIP().String() == gateway
	})
}

// answersND is answersARP for a solicitation, and for other targets than the gateway.
func (s *station) answersND(target, tell string) bool {
	s.t.Helper()
	return s.answersBefore(s.whoHas6(target, tell), s.whoHas6(gateway6, ""))
}

// answersBefore reports whether a solicitation is answered before another one, for another
// target, is.
func (s *station) answersBefore(ask, fence solicit) bool {
	s.t.Helper()
	return s.answered(ask.frame(), fence.frame(), func(f wire.Ethernet) (answer, last bool) {
		last = fence.isAnswer(f)
		msg := discovery(f, wire.ICMPv6NeighAdvert)
		return last || msg != nil && msg.Target().String() == ask.target, last
	})
}

// answered sends a frame and a fence, and reports whether there is an answer before the
// last, which is that to the fence.
func (s *station) answered(ask, fence []byte, is func(wire.Ethernet) (answer, last bool)) (yes bool) {
	s.t.Helper()
	s.send(ask)
	s.send(fence)
	for {
		f := s.next(patience, func(f wire.Ethernet) bool { answer, _ := is(f); return answer })
		if f == nil {
			s.t.Fatal("not even the request behind it is answered")
		}
		if _, last := is(f); last {
			return yes
		}
		yes = true
	}
}
