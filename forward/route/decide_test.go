package route_test

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"proxyarpd/forward/route"
	"proxyarpd/forward/route/routetest"
	"proxyarpd/internal/wire"
)

// TestDecideMovesNothing: over random hosts and packets, a decision is the same
// each time, leaves the packet as it was, takes no memory, and does not contradict
// itself. That it is the kernel's is forward's TestStepModel to show.
func TestDecideMovesNothing(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	counts := map[route.Verdict]int{}
	for i := range 600 {
		w := newWorld(rng, i)
		table := w.Build()
		for range 40 {
			data := make([]byte, 48)
			for i := range data {
				data[i] = byte(rng.Uint32())
			}
			c := routetest.Choices(data)
			in, ip, dst := draw(w, table, &c)
			if in == nil || dst.Is4() && !wire.IPv4(ip).HeaderValid() || dst.Is6() && in.MTU6 == 0 {
				continue
			}
			came := bytes.Clone(ip)
			var d, again route.Decision
			decide(table, ip, in, &d)
			if decide(table, ip, in, &again); d != again || !bytes.Equal(ip, came) {
				t.Fatalf("%+v, then %+v\nof % x, now % x\n%v", d, again, came, ip, w)
			}
			if wrong := contradiction(table, ip, dst, &d); wrong != "" {
				t.Fatalf("%s: %+v\n% x\n%v", wrong, d, ip, w)
			}
			counts[d.Verdict]++
		}
	}
	t.Log(counts)
}

func decide(t *route.Table, ip []byte, in *route.Link, d *route.Decision) {
	if ip[0]>>4 == 6 {
		t.Decide6(ip, len(ip), in, d)
	} else {
		t.Decide(ip, len(ip), in, d)
	}
}

// contradiction says in what a decision can't be.
func contradiction(t *route.Table, ip []byte, dst netip.Addr, d *route.Decision) string {
	on := d.Verdict == route.Forward || d.Verdict == route.Queue
	switch kind := d.Verdict.Kind(); {
	case d.Verdict == route.NotSpecified:
		return "no verdict"
	case d.ICMP.Type != 0 && kind != route.KindDrop:
		return "an ICMP error about what was not dropped"
	case on && (!d.Routed || d.Looped || d.Out == nil || d.Route == nil || d.Nexthop == nil || !d.Next.IsValid() || d.MTU == 0):
		return "on its way, and no way"
	case d.Route != nil && d.Rule == nil:
		return "a route that no rule led to"
	case d.Verdict == route.Forward && d.Out.Ethernet() && (d.Neighbour == nil || !d.Neighbour.Valid):
		return "sent to nobody"
	case dst.Is4() && on && (d.Fragment != (len(ip) > d.MTU) || d.Fragment && wire.IPv4(ip).DontFragment()), dst.Is6() && on && (d.Fragment || len(ip) > d.MTU):
		return "pieces"
	case (kind == route.KindLocal || kind == route.KindPunt) && route.Forwardable(dst) && t.Owner(ip, d.In) != d.Verdict:
		return "the owner is another: " + t.Owner(ip, d.In).String()
	}
	return ""
}

// TestDecideNoAllocations: nor where a rule asks for ports, and a route has
// several next hops.
func TestDecideNoAllocations(t *testing.T) {
	b := routetest.Host(route.Policy{})
	b.SetRoutes(route.TableMain, netip.MustParsePrefix("10.90.0.0/16"), []route.Route{{Table: route.TableMain, Type: route.TypeUnicast, Nexthops: []route.Nexthop{
		{Ifindex: routetest.IfPod2, Weight: 1}, {Ifindex: routetest.IfUplink, Weight: 1}}}})
	b.SetRules(route.IPv4, []route.Rule{{Priority: 1, Action: route.RuleProhibit, DPort: route.PortMatch{Low: 1, High: 2}, SuppressPrefixLen: -1},
		{Priority: 2, Action: route.RuleToTable, Table: route.TableMain, SuppressPrefixLen: -1}})
	conf := route.DefaultHostConf
	conf.HashPolicy = 1
	b.SetHost(conf)
	table := b.Publish()
	ip := make(wire.IPv4, wire.IPv4MinLen+8)
	wire.PutIPv4(ip, 0, len(ip), 1, 0, 64, wire.ProtoUDP, routetest.AddrPod1.As4(), [4]byte{10, 90, 0, 1})
	ip[23] = 99
	var d route.Decision
	if n := testing.AllocsPerRun(100, func() {
		d = route.Decision{}
		table.Decide(ip, len(ip), table.Link(routetest.IfPod1), &d)
	}); n != 0 || d.Verdict != route.Queue || len(d.Route.Nexthops) != 2 {
		t.Errorf("%v allocations: %+v", n, d)
	}
}
