package route

import (
	"net/netip"
	"testing"

	"proxyarpd/internal/wire"
)

const ifSmall, ifOther = 40, 41

// host6 is a host with two workloads and two uplinks, one of which has a small MTU. Workloads' sources are
// validated.
func host6() *Builder {
	b := NewBuilder(Policy{IPv6: true})
	link := func(index int32, name string, flags LinkFlags, mtu6 int, addrs ...string) {
		l := Link{Ifindex: index, Name: name, Flags: flags | LinkUp | LinkEthernet, MTU: 1500, MTU6: mtu6}
		if flags&LinkWorkload != 0 {
			l.Conf6.RPFilter = 1
		}
		b.SetLink(l)
		var all []Address
		for _, a := range addrs {
			p := netip.MustParsePrefix(a)
			all = append(all, Address{Local: p.Addr(), Prefix: p.Masked()})
			b.SetRoutes(TableLocal, netip.PrefixFrom(p.Addr(), 128), []Route{{Table: TableLocal, Type: TypeLocal, Dev: index}})
		}
		b.SetAddresses(IPv6, index, all)
	}
	link(ifPod1, "cali1", LinkWorkload, 1500, "fe80::1/64")
	link(ifPod2, "cali2", LinkWorkload, 1500, "fe80::1/64")
	link(ifUplink, "ens1", LinkUplink, 1500, "fe80::20/64", "2001:db8::1/64")
	link(ifSmall, "ens2", LinkUplink, 1300, "fe80::21/64", "2001:db8:1::1/64")
	link(ifOther, "tun0", LinkUplink, 0)
	b.SetGroup(ifOther, 1)
	via := func(prefix string, index int32, gateway string) {
		nh := Nexthop{Ifindex: index, Weight: 1}
		if gateway != "" {
			nh.Gateway = netip.MustParseAddr(gateway)
		}
		b.SetRoutes(TableMain, netip.MustParsePrefix(prefix), []Route{{Table: TableMain, Type: TypeUnicast, Dev: index, Nexthops: []Nexthop{nh}}})
	}
	via("fd00:65::1/128", ifPod1, "")
	via("fd00:65::2/128", ifPod2, "")
	via("2001:db8::/64", ifUplink, "")
	via("2001:db8:1::/64", ifSmall, "")
	via("2001:db8:2::/48", ifSmall, "fe80::99")
	via("2001:db8:3::/48", ifOther, "")
	via("2001:db8:4::/48", 77, "")
	via("fd00:65:1::/64", ifPod1, "fe80::5")
	for prefix, typ := range map[string]Type{"fd00:70::/32": TypeBlackhole, "fd00:71::/32": TypeUnreachable, "fd00:72::/32": TypeProhibit, "fd00:73::/32": TypeThrow} {
		b.SetRoutes(TableMain, netip.MustParsePrefix(prefix), []Route{{Table: TableMain, Type: typ, Dev: 1}})
	}
	b.SetRoutes(TableLocal, netip.MustParsePrefix("2001:db8::/128"), []Route{{Table: TableLocal, Type: TypeAnycast, Dev: ifUplink}})
	b.SetNeighbour(ifPod1, netip.MustParseAddr("fd00:65::1"), &Neighbour{MAC: wire.MAC{2}, Valid: true})
	b.SetNeighbour(ifPod2, netip.MustParseAddr("fd00:65::2"), &Neighbour{MAC: wire.MAC{2}, Valid: true})
	b.SetNeighbour(ifSmall, netip.MustParseAddr("fe80::99"), &Neighbour{MAC: wire.MAC{2}, Valid: true})
	return b
}

func packet6(src, dst string, hopLimit uint8) wire.IPv6 {
	b := make([]byte, wire.IPv6Len+8)
	wire.PutIPv6(b, 0, 0, 8, wire.ProtoUDP, hopLimit, netip.MustParseAddr(src).As16(), netip.MustParseAddr(dst).As16())
	return b
}

// TestDecide6 has a packet for each thing that can happen to one. The errors are those of
// net/ipv6: ip6_output.c, ip6_forward, and route.c, ip6_pkt_drop.
func TestDecide6(t *testing.T) {
	const pod1, pod2, outside = "fd00:65::1", "fd00:65::2", "2001:db8::77"
	for _, c := range []struct {
		src, dst string
		in       int32
		hops     uint8
		length   int
		verdict  Verdict
		icmp     ICMPError
		redirect bool
	}{
		{src: pod1, dst: pod2, in: ifPod1, verdict: Forward},
		{src: pod2, dst: pod1, in: ifPod2, hops: 2, verdict: Forward},
		{src: pod1, dst: outside, in: ifPod1, verdict: Queue},
		{src: outside, dst: pod1, in: ifUplink, verdict: Forward},
		{src: outside, dst: "2001:db8:2::9", in: ifUplink, verdict: DropTransit},
		{src: pod1, dst: pod2, in: ifPod1, hops: 1, verdict: DropTTLExpired, icmp: ICMPError{Type: 3}},
		{src: pod1, dst: pod2, in: ifPod1, hops: 255, length: 1501, verdict: DropPktTooBig, icmp: ICMPError{Type: 2, Rest: 1500}},
		{src: pod1, dst: pod2, in: ifPod1, length: -1, verdict: DropGSO},
		{src: pod1, dst: "2001:db8:2::9", in: ifPod1, length: 1300, verdict: Forward},
		{src: pod1, dst: "2001:db8:2::9", in: ifPod1, length: 1301, verdict: DropPktTooBig, icmp: ICMPError{Type: 2, Rest: 1300}},
		{src: pod1, dst: "2001:db8:3::9", in: ifPod1, verdict: DropIfUnknown},
		{src: pod1, dst: "2001:db8:4::9", in: ifPod1, verdict: DropIfUnknown},
		{src: pod1, dst: "2001:db8::1", in: ifPod1, verdict: Local},
		{src: pod1, dst: "2001:db8::", in: ifPod1, verdict: Local}, // anycast
		{src: pod1, dst: "fe80::9", in: ifPod1, verdict: Local},
		{src: pod1, dst: "::", in: ifPod1, verdict: Local},
		{src: pod1, dst: "::1", in: ifPod1, verdict: DropIPInHdr},
		{src: "::1", dst: pod2, in: ifPod1, verdict: DropIPInHdr},
		{src: "ff02::1", dst: pod2, in: ifPod1, verdict: DropIPInHdr},
		{src: pod1, dst: "ff02::1", in: ifPod1, verdict: IgnoreType},
		{src: pod1, dst: "fd00:70::9", in: ifPod1, verdict: DropRouteBlackhole},
		{src: pod1, dst: "fd00:71::9", in: ifPod1, verdict: DropRouteUnreachable, icmp: ICMPError{Type: 1}},
		{src: pod1, dst: "fd00:72::9", in: ifPod1, verdict: DropRouteProhibit, icmp: ICMPError{Type: 1, Code: 1}},
		{src: pod1, dst: "fd00:73::9", in: ifPod1, verdict: DropIPInNoRoutes, icmp: ICMPError{Type: 1}},
		{src: pod1, dst: "4000::9", in: ifPod1, verdict: DropIPInNoRoutes, icmp: ICMPError{Type: 1}},
		// Sources.
		{src: pod1, dst: pod1, in: ifPod2, verdict: DropIPRPFilter},
		{src: "4000::1", dst: pod2, in: ifPod1, verdict: DropIPRPFilter},
		{src: "2001:db8::1", dst: pod2, in: ifPod1, verdict: DropIPLocalSource},
		{src: "2001:db8::1", dst: pod2, in: ifUplink, verdict: Forward}, // the kernel does not look
		{src: "::", dst: pod2, in: ifPod1, verdict: DropIPRPFilter},
		{src: "::", dst: pod2, in: ifUplink, verdict: DropIPInAddrErrors},
		{src: "fe80::5", dst: pod2, in: ifPod1, verdict: DropIPInAddrErrors, icmp: ICMPError{Type: 1, Code: 2}},
		{src: "fe80::5", dst: pod2, in: ifPod1, hops: 1, verdict: DropTTLExpired, icmp: ICMPError{Type: 3}},
		// Back by the link that it came by: who sends is told of the neighbour.
		{src: "fe80::5", dst: pod1, in: ifPod1, verdict: Forward, redirect: true},
		{src: "fd00:65:1::7", dst: pod1, in: ifPod1, verdict: Forward}, // behind a router
		{src: pod1, dst: "fd00:65:1::7", in: ifPod1, verdict: Queue, redirect: true},
	} {
		b := host6()
		table := b.Publish()
		if c.hops == 0 {
			c.hops = 64
		}
		if c.length == 0 {
			c.length = wire.IPv6Len + 8
		}
		var d Decision
		table.Decide6(packet6(c.src, c.dst, c.hops), c.length, table.Link(c.in), &d)
		if d.Verdict != c.verdict || d.ICMP != c.icmp || d.Redirect != c.redirect || d.Fragment {
			t.Errorf("%s > %s on %d: %+v", c.src, c.dst, c.in, d)
		}
	}
}

// TestMTULock: the MTU of a route counts before the device's only if it is locked.
func TestMTULock(t *testing.T) {
	for _, c := range []struct {
		route Route
		mtu   int
	}{{Route{MTU: 1400}, 1400}, {Route{MTU: 1400, MTULock: true}, 1400}, {Route{MTU: 9000, MTULock: true}, 9000}, {Route{MTU: 9000}, 1500},
		{Route{MTU: 1000, MTULock: true}, wire.IPv6MinMTU}, {Route{}, 1500}} {
		b := host6()
		c.route.Type, c.route.Nexthops = TypeUnicast, []Nexthop{{Ifindex: ifUplink, Weight: 1}}
		b.SetRoutes(TableMain, netip.MustParsePrefix("2001:db8:9::/48"), []Route{c.route})
		table := b.Publish()
		var d Decision
		if table.Decide6(packet6("fd00:65::1", "2001:db8:9::1", 9), 48, table.Link(ifPod1), &d); d.Verdict != Queue || d.MTU != c.mtu {
			t.Errorf("%+v: %+v", c.route, d)
		}
	}
}

// TestIPv6Off: all of it is the kernel's, and no class is told.
func TestIPv6Off(t *testing.T) {
	b := host6()
	b.Publish()
	told := map[netip.Prefix]Class{}
	b.UpdateClasses(func(p netip.Prefix, c Class) { told[p] = c })
	if told[netip.MustParsePrefix("fd00:65::1/128")] != ToWorkload || told[netip.MustParsePrefix("fe80::/10")] != ToLocal || told[netip.MustParsePrefix("2001:db8::1/128")] != ToLocal {
		t.Errorf("told %v", told)
	}
	table := b.Publish()
	ip := packet6("fd00:65::1", "fd00:65::2", 64)
	if got := table.Owner(ip, table.Link(ifPod1)); got != NotSpecified {
		t.Errorf("a workload's packet is %v", got)
	}
	if got := table.Owner(ip, table.Link(ifOther)); got != IgnoreProto {
		t.Errorf("a packet of a link without IPv6 is %v", got)
	}
	b.SetPolicy(Policy{})
	table = b.Publish()
	b.UpdateClasses(func(p netip.Prefix, c Class) {
		if c != 0 {
			t.Errorf("%v is told to be %b", p, c)
		}
		delete(told, p)
	})
	if got := table.Owner(ip, table.Link(ifPod1)); got != IgnoreProto || len(told) != 0 || table.OwnerOf(netip.MustParseAddr("fd00:65::2"), table.Link(ifPod1)) != IgnoreProto {
		t.Errorf("with IPv6 off a packet is %v; told %v", got, told)
	}
}

// TestDecide6NoAllocations: nor where a rule asks for ports, and a route has several
// next hops and sources.
func TestDecide6NoAllocations(t *testing.T) {
	b := host6()
	nhs := []Nexthop{{Ifindex: ifPod2, Weight: 1}, {Ifindex: ifUplink, Weight: 1}}
	b.SetRoutes(TableMain, netip.MustParsePrefix("fd00:90::/32"), []Route{{Table: TableMain, Type: TypeUnicast, From: netip.MustParsePrefix("fd00::/8"), Nexthops: nhs},
		{Table: TableMain, Type: TypeUnicast, Metric: 5, Nexthops: nhs}})
	b.SetRules(IPv6, []Rule{{Priority: 1, Action: RuleProhibit, DPort: PortMatch{Low: 1, High: 2}, SuppressPrefixLen: -1},
		{Priority: 2, Action: RuleToTable, Table: TableMain, SuppressPrefixLen: -1}})
	for policy := range uint8(4) {
		conf := DefaultHostConf
		conf.V6.HashPolicy, conf.V6.HashFields = policy, 1<<12-1
		b.SetHost(conf)
		table := b.Publish()
		ip := packet6("fd00:65::1", "fd00:90::1", 64)
		var d Decision
		if n := testing.AllocsPerRun(100, func() {
			d = Decision{}
			table.Decide6(ip, len(ip), table.Link(ifPod1), &d)
		}); n != 0 || d.Verdict != Queue || len(d.Route.Nexthops) != 2 {
			t.Errorf("policy %d: %v allocations: %+v", policy, n, d)
		}
	}
}

// FuzzDecide6: no packet makes Decide6 panic, or changes.
func FuzzDecide6(f *testing.F) {
	b := host6()
	nhs := []Nexthop{{Ifindex: ifPod2, Weight: 1}, {Ifindex: ifUplink, Weight: 1}}
	b.SetRoutes(TableMain, everythingV6, []Route{{Table: TableMain, Type: TypeUnicast, Nexthops: nhs}})
	b.SetRules(IPv6, []Rule{{Action: RuleToTable, Table: TableLocal, SuppressPrefixLen: -1}, {Priority: 1, Action: RuleProhibit, DPort: PortMatch{Low: 1, High: 2}, SuppressPrefixLen: -1},
		{Priority: 2, Action: RuleToTable, Table: TableMain, SuppressPrefixLen: -1}})
	var tables [4]*Table
	for policy := range tables {
		conf := DefaultHostConf
		conf.V6.HashPolicy, conf.V6.HashFields = uint8(policy), 1<<12-1
		b.SetHost(conf)
		tables[policy] = b.Publish()
	}
	for _, a := range []wire.IPv6{packet6("fd00:65::1", "fd00:65::2", 64), packet6("fe80::5", "4000::1", 1), packet6("::", "ff02::1", 0)} {
		f.Add([]byte(a))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < wire.IPv6Len {
			return
		}
		came := string(b)
		for _, table := range tables {
			for _, in := range []int32{ifPod1, ifUplink} {
				var d Decision
				table.Decide6(b, len(b), table.Link(in), &d)
				if d.Verdict == NotSpecified || string(b) != came {
					t.Errorf("%+v", d)
				}
				if d.ICMP.Type != 0 {
					if way, ok := table.ErrorWay6(b, table.Link(in), d.ICMP, wire.IPv6(b).SrcAddr()); ok && (way.Out == nil || !way.Next.IsValid() || !way.Source.IsValid()) {
						t.Errorf("%+v", way)
					}
				}
			}
		}
	})
}

// TestInput6: what ends in the kernel whether it forwards or not, as a local segment of SRv6
// does, is the kernel's, and no source is refused because of it.
func TestInput6(t *testing.T) {
	b := host6()
	segments := netip.MustParsePrefix("fd00:51d::/64")
	b.SetRoutes(TableMain, segments, []Route{{Table: TableMain, Type: TypeUnicast, Dev: ifUplink,
		Nexthops: []Nexthop{{Ifindex: ifUplink, Weight: 1, Encap: true, Input: true}}}})
	table := b.Publish()
	if got := table.Class(segments.Addr()); got != ToLocal {
		t.Errorf("class %v", got)
	}
	for _, index := range []int32{ifPod1, ifUplink} {
		in := table.Link(index)
		ip := packet6("fd00:65::1", "fd00:51d::6", 64)
		var d Decision
		if table.Decide6(ip, len(ip), in, &d); d.Verdict != Local || table.Owner(ip, in) != Local {
			t.Errorf("%s: %v, %v", in.Name, d.Verdict, table.Owner(ip, in))
		}
	}
	ip := packet6("fd00:51d::6", "fd00:65::1", 64)
	var d Decision
	if table.Decide6(ip, len(ip), table.Link(ifUplink), &d); d.Verdict != Forward {
		t.Errorf("from a segment: %v", d.Verdict)
	}
}
