package route

import (
	"net/netip"
	"testing"

	"proxyarpd/internal/wire"
)

func TestErrorWay(t *testing.T) {
	const subnet = "192.168.1.0/24"
	own, pod, gateway := netip.MustParseAddr("192.168.1.32"), netip.MustParseAddr("10.65.0.1"), netip.MustParseAddr("192.168.1.16")
	expired := ICMPError{Type: wire.ICMPTimeExceeded, Code: 1}
	toPod := Route{Type: TypeUnicast, Nexthops: []Nexthop{{Ifindex: ifPod1, Weight: 1}}}
	byType := func(r Rule) []Rule {
		r.Priority, r.Action, r.SuppressPrefixLen = 1, RuleProhibit, -1
		return []Rule{r, {Priority: 2, Action: RuleToTable, Table: TableMain, SuppressPrefixLen: -1}}
	}
	for _, c := range []struct {
		name  string
		route Route
		flags LinkFlags // of the workload's interface
		edit  func(*Builder)
		in    int32
		want  ErrorWay
		none  bool
	}{
		{name: "to a workload", want: ErrorWay{Next: pod, Source: own, MTU: 1400, TTL: 64}},
		{name: "by a gateway", route: Route{Type: TypeUnicast, Nexthops: []Nexthop{{Ifindex: ifPod1, Gateway: gateway, Weight: 1}}},
			want: ErrorWay{Next: gateway, Source: own, MTU: 1400, TTL: 64}},
		{name: "a route's MTU", route: Route{Type: TypeUnicast, MTU: 600, Nexthops: toPod.Nexthops}, want: ErrorWay{Next: pod, Source: own, MTU: 600, TTL: 64}},
		{name: "a route's source", route: Route{Type: TypeUnicast, Source: gateway, Nexthops: toPod.Nexthops},
			want: ErrorWay{Next: pod, Source: gateway, MTU: 1400, TTL: 64}},
		{name: "the way in lends its address", in: ifUplink, edit: func(b *Builder) {
			b.SetAddresses(IPv4, ifUplink, []Address{{Local: own, Prefix: netip.MustParsePrefix(subnet)}, {Local: gateway, Prefix: netip.MustParsePrefix("10.0.0.0/8")}})
			conf := DefaultHostConf
			conf.ICMPFromInbound, conf.DefaultTTL = true, 9
			b.SetHost(conf)
		}, want: ErrorWay{Next: pod, Source: gateway, MTU: 1400, TTL: 9}},
		{name: "it does so only if asked to", in: ifUplink, edit: func(b *Builder) {
			b.SetAddresses(IPv4, ifUplink, []Address{{Local: own, Prefix: netip.MustParsePrefix(subnet)}, {Local: gateway, Prefix: netip.MustParsePrefix("10.0.0.0/8")}})
		}, want: ErrorWay{Next: pod, Source: own, MTU: 1400, TTL: 64}},
		{name: "another ICMP type is forbidden", edit: func(b *Builder) {
			b.SetRules(IPv4, byType(Rule{Proto: wire.ProtoICMP, DPort: PortMatch{Low: 1 << 8, High: 11<<8 - 1}}))
		},
			want: ErrorWay{Next: pod, Source: own, MTU: 1400, TTL: 64}},
		{name: "this ICMP type is forbidden", edit: func(b *Builder) {
			b.SetRules(IPv4, byType(Rule{Proto: wire.ProtoICMP, DPort: PortMatch{Low: 11<<8 | 1, High: 11<<8 | 1}}))
		}, none: true},
		{name: "no route", route: Route{Type: TypeBlackhole}, none: true},
		{name: "encapsulated", route: Route{Type: TypeUnicast, Nexthops: []Nexthop{{Ifindex: ifPod1, Encap: true}}}, none: true},
		{name: "down", flags: LinkWorkload, none: true},
		{name: "not served", route: Route{Type: TypeUnicast, Nexthops: []Nexthop{{Ifindex: 99}}}, none: true},
	} {
		b := NewBuilder(Policy{})
		if c.flags == 0 {
			c.flags = LinkUp | LinkWorkload
		}
		b.SetLink(Link{Ifindex: ifPod1, Name: "pod", Flags: c.flags, MTU: 1400})
		b.SetLink(Link{Ifindex: ifUplink, Name: "up", Flags: LinkUp | LinkUplink, MTU: 1500})
		b.SetAddresses(IPv4, ifUplink, []Address{{Local: own, Prefix: netip.MustParsePrefix(subnet)}})
		if c.route.Type == 0 {
			c.route = toPod
		}
		b.SetRoutes(TableMain, netip.PrefixFrom(pod, 32), []Route{c.route})
		if c.edit != nil {
			c.edit(b)
		}
		table := b.Publish()
		got, ok := table.ErrorWay(udpPacket("10.65.0.1", "10.66.0.9", 1, 2), table.Link(c.in), expired, pod)
		if c.none {
			if ok {
				t.Errorf("%s: %+v", c.name, got)
			}
			continue
		}
		if c.want.Out = table.Link(ifPod1); !ok || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", c.name, got, ok, c.want)
		}
	}
}

// TestTouch: the kernel is told of the use of a neighbour once in an interval.
func TestTouch(t *testing.T) {
	b := NewBuilder(Policy{})
	b.SetLink(Link{Ifindex: ifPod1, Flags: LinkUp | LinkWorkload})
	b.SetNeighbour(ifPod1, addrPod1, &Neighbour{Valid: true, Stale: true})
	at := func() *Neighbour { return b.Publish().Link(ifPod1).Neighbour(addrPod1) }
	n := at()
	if !n.Touch(100, 50) || n.Touch(149, 50) || !n.Touch(150, 50) {
		t.Error("not once in 50")
	}
	b.SetNeighbour(ifPod1, addrPod1, &Neighbour{Valid: true, Stale: true, MAC: wire.MAC{2, 1}})
	if n = at(); n.MAC == (wire.MAC{}) || n.Touch(160, 50) || !n.Touch(200, 50) {
		t.Error("what is known of it anew has forgotten when that was")
	}
}
