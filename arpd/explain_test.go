package arpd

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"proxyarpd/internal/wire"
)

// Each request ends at exactly one rule, the last that is told, whatever it is.
func TestExplain(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(all ...string) netip.Addr { return netip.MustParseAddr(all[random.IntN(len(all))]) }
	own, answer, other := wire.MAC{2, 0, 0, 0, 0, 1}, wire.MAC{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}, wire.MAC{2, 0, 0, 0, 0, 9}
	senders := []wire.MAC{own, answer, other, other, other, {}, wire.Broadcast}
	seen := map[Verdict]int{}
	for range 20000 {
		p := &Policy{Index: 3, Own: own, Answer: answer, Gateways: []netip.Addr{netip.MustParseAddr("169.254.1.1")}}
		if random.IntN(3) > 0 {
			p.Proxy = []netip.Prefix{netip.MustParsePrefix("10.66.0.0/16")}
			p.Routes = decided{ProxyDecision(random.IntN(3)), UplinkDecision(random.IntN(5)), random.IntN(2) == 0}
		}
		if random.IntN(2) > 0 {
			p.Answer, p.Gateways = own, nil
			p.Uplink = &Uplink{Targets: p.Proxy, Others: []wire.MAC{answer}, Unforwarded: random.IntN(4) == 0}
			p.Proxy = nil
		}
		q := NewRequest(senders[random.IntN(len(senders))], pick("10.65.0.2", "10.65.0.2", "0.0.0.0", "127.0.0.1", "224.0.0.1", "10.66.0.3"),
			pick("169.254.1.1", "10.66.0.3", "10.67.0.3", "127.0.0.1", "255.255.255.255", "10.65.0.2"))
		if random.IntN(4) == 0 {
			q.Dst = senders[random.IntN(len(senders))]
		}
		want := p.judge(q)
		got, steps := Explain(q, p)
		if got != want {
			t.Fatalf("%v, judged %v", got, want)
		}
		for i, s := range steps {
			if s.Decides != (i == len(steps)-1) || s.Rule == "" || s.Says == "" {
				t.Fatalf("%v: %+v", want, steps)
			}
		}
		seen[want]++
	}
	for v := range NumVerdicts {
		if reachable := v.Request() && !v.OnlyND() && v != DropRateLimit && v != DropSenderRate && v != DropIfDown && v != DropQdisc && v != DropSend; reachable && seen[v] == 0 {
			t.Errorf("%v was never asked for", v)
		}
	}
}

// decided are routes that say the same of all.
type decided struct {
	proxy  ProxyDecision
	uplink UplinkDecision
	own    bool
}

func (d decided) Proxy(netip.Addr, netip.Addr, int) ProxyDecision { return d.proxy }
func (decided) Routed(netip.Addr, int) bool                       { return true }
func (d decided) Uses(netip.Addr, wire.MAC, int) bool             { return d.own }
func (d decided) Uplink(netip.Addr, netip.Addr, wire.MAC, int) UplinkDecision {
	return d.uplink
}
