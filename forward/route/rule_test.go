package route

import (
	"net/netip"
	"testing"

	"proxyarpd/internal/wire"
)

const ifPod1, ifPod2 = 11, 12

var addrPod1 = netip.MustParseAddr("10.65.0.1")

// lookupHost has several routes to some destinations.
func lookupHost(rules ...Rule) *Table {
	b := NewBuilder(Policy{})
	set := func(table uint32, prefix string, routes ...Route) {
		for i := range routes {
			if routes[i].Type == 0 {
				routes[i].Type = TypeUnicast
			}
		}
		b.SetRoutes(table, netip.MustParsePrefix(prefix), routes)
	}
	by := func(ifindex int32) []Nexthop { return []Nexthop{{Ifindex: ifindex, Weight: 1}} }
	set(TableMain, "10.80.0.0/16", Route{Nexthops: by(1)})
	set(TableMain, "10.80.1.0/24", Route{TOS: 0x50, Nexthops: by(9)}, Route{TOS: 0x10, Metric: 5, Nexthops: by(2)},
		Route{TOS: 0x10, Metric: 9, Nexthops: by(9)}, Route{TOS: 8, Type: TypeThrow}, Route{TOS: 4, Type: TypeProhibit})
	set(TableMain, "10.80.2.0/24", Route{TOS: 0x10, Nexthops: by(2)}, Route{Metric: 3}, Route{Metric: 4, Nexthops: by(3)})
	set(100, "0.0.0.0/0", Route{Nexthops: by(7), Dev: 7})
	set(101, "0.0.0.0/0", Route{Type: TypeBlackhole})
	b.SetGroup(7, 70)
	defaults := []Rule{{Priority: 32766, Action: RuleToTable, Table: TableMain, SuppressPrefixLen: -1}}
	if len(rules) > 0 {
		b.SetRules(IPv4, append(rules, defaults...))
	}
	return b.Publish()
}

// leadsBy is the interface of a route's first nexthop, or its type, negative.
func leadsBy(r *Route) int {
	switch {
	case r == nil:
		return 0
	case r.Type == TypeUnicast:
		return int(r.Nexthops[0].Ifindex)
	}
	return -int(r.Type)
}

// first leaves the rule out.
func first(r *Route, _ *Rule) *Route { return r }

func TestLookupTOS(t *testing.T) {
	for _, table := range []*Table{lookupHost(), lookupHost(Rule{Priority: 1, Action: RuleNop, SuppressPrefixLen: -1})} {
		for _, c := range []struct {
			dst  string
			tos  uint8
			want int
		}{
			{"10.80.1.1", 0, 1},    // no route for this TOS: a shorter prefix
			{"10.80.1.1", 0x10, 2}, // the better metric
			{"10.80.1.1", 0xf3, 2}, // three bits count
			{"10.80.1.1", 0x50, 2},
			{"10.80.1.1", 4, -int(TypeProhibit)},
			{"10.80.1.1", 8, 0}, // throw ends the look-up in main, and there is no other table
			{"10.80.2.1", 0x10, 2},
			{"10.80.2.1", 0, 3}, // the best has no usable nexthop
		} {
			dst := netip.MustParseAddr(c.dst)
			if got := leadsBy(table.Lookup(dst, addrPod1, ifPod1, c.tos)); got != c.want {
				t.Errorf("simple %v: %v tos %#x: %d, not %d", table.v4.simple, dst, c.tos, got, c.want)
			}
		}
	}
}

func TestRules(t *testing.T) {
	to := func(r Rule) Rule {
		if r.Action == 0 {
			r.Action, r.Table = RuleToTable, 100
		}
		if r.SuppressPrefixLen == 0 {
			r.SuppressPrefixLen = -1
		}
		return r
	}
	udp := flow{proto: wire.ProtoUDP, sport: 1000, dport: 2000, tos: 0xb8}
	for _, c := range []struct {
		name string
		rule Rule
		flow flow
		want int
	}{
		{"protocol", Rule{Proto: wire.ProtoUDP}, udp, 7},
		{"another protocol", Rule{Proto: wire.ProtoTCP}, udp, 1},
		{"not another protocol", Rule{Proto: wire.ProtoTCP, Invert: true}, udp, 7},
		{"ports", Rule{SPort: PortMatch{Low: 1000, High: 1000}, DPort: PortMatch{Low: 1, High: 2000}}, udp, 7},
		{"another port", Rule{DPort: PortMatch{Low: 1, High: 1999}}, udp, 1},
		{"no ports", Rule{DPort: PortMatch{Low: 1, High: 1999}}, flow{}, 1},
		{"masked port", Rule{DPort: PortMatch{Low: 0x7d5, High: 0x7d5, Mask: 0xff0}}, udp, 7},
		{"another masked port", Rule{DPort: PortMatch{Low: 0x7e5, High: 0x7e5, Mask: 0xff0}}, udp, 1},
		{"tos", Rule{TOS: 0x18}, udp, 7},
		{"tos of more bits than are compared", Rule{TOS: 0xb8}, udp, 1},
		{"dscp", Rule{DSCP: 0xb8, DSCPMask: 0xfc}, udp, 7},
		{"another dscp", Rule{DSCP: 0x38, DSCPMask: 0xfc}, udp, 1},
		{"masked dscp", Rule{DSCP: 0x38, DSCPMask: 0x3c}, udp, 7},
		{"dscp 0", Rule{DSCPMask: 0xfc}, udp, 1},
		{"group suppressed", Rule{SuppressByGroup: true, SuppressGroup: 70}, udp, 1},
		{"another group suppressed", Rule{SuppressByGroup: true, SuppressGroup: 71}, udp, 7},
		{"length suppressed", Rule{SuppressPrefixLen: 1}, udp, 1},
		{"an error is not suppressed", Rule{Action: RuleToTable, Table: 101, SuppressPrefixLen: 1}, udp, -int(TypeBlackhole)},
		{"never", Rule{Never: true}, udp, 1},
		{"not never", Rule{Never: true, Invert: true}, udp, 7},
		{"source 0", Rule{From: netip.MustParsePrefix("0.0.0.0/8")}, flow{src: anyAddr}, 7},
	} {
		table := lookupHost(to(c.rule))
		if !c.flow.src.IsValid() {
			c.flow.src = addrPod1
		}
		c.flow.dst, c.flow.iif = netip.MustParseAddr("10.80.9.9"), ifPod1
		if got := leadsBy(first(table.lookup(&c.flow))); got != c.want {
			t.Errorf("%s: %d, not %d", c.name, got, c.want)
		}
		if want := (c.rule.Proto != 0 || c.rule.SPort.set() || c.rule.DPort.set()); table.v4.dissect != want {
			t.Errorf("%s: packets are dissected: %v", c.name, table.v4.dissect)
		}
	}
	if lookupHost(to(Rule{IIF: "lo", Proto: 1})).v4.dissect {
		t.Error("packets are dissected for a rule about the host's own")
	}
}

// TestRuleByPort has a packet find its way by a rule that looks at its ports.
func TestRuleByPort(t *testing.T) {
	b := NewBuilder(Policy{})
	b.SetLink(Link{Ifindex: ifPod1, Name: "a", Flags: LinkUp | LinkWorkload, MTU: 1500})
	b.SetLink(Link{Ifindex: ifPod2, Name: "b", Flags: LinkUp | LinkWorkload, MTU: 1500})
	b.SetRoutes(TableMain, netip.MustParsePrefix("10.65.0.2/32"), []Route{{Type: TypeUnicast, Nexthops: []Nexthop{{Ifindex: ifPod2, Weight: 1}}}})
	b.SetRules(IPv4, []Rule{{Priority: 1, Action: RuleProhibit, DPort: PortMatch{Low: 5000, High: 5000}, SuppressPrefixLen: -1},
		{Priority: 32766, Action: RuleToTable, Table: TableMain, SuppressPrefixLen: -1}})
	table := b.Publish()
	for name, c := range map[string]struct {
		frag uint16
		want Verdict
	}{
		"whole":    {0, DropRouteProhibit},
		"fragment": {wire.IPv4MF, Forward},
	} {
		ip := udpPacket("10.65.0.1", "10.65.0.2", 4000, 5000)
		ip.SetFrag(c.frag)
		var d Decision
		if table.Decide(ip, len(ip), table.Link(ifPod1), &d); d.Verdict != c.want {
			t.Errorf("%s: %v, not %v", name, d.Verdict, c.want)
		}
	}
}
