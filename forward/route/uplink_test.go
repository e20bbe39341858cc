package route

import (
	"net/netip"
	"slices"
	"testing"
)

// uplinkHost has the workload 10, the uplinks 20 and 21 on one network, and the uplink 22
// without ARP.
func uplinkHost(rules ...Rule) *Builder {
	b := NewBuilder(Policy{})
	b.SetLink(Link{Ifindex: 10, Name: "cali1", Flags: LinkUp | LinkWorkload | LinkEthernet})
	b.SetLink(Link{Ifindex: 19, Name: "wg0", Flags: LinkUp | LinkUplink})
	b.SetLink(Link{Ifindex: 20, Name: "ens1", Flags: LinkUp | LinkUplink | LinkEthernet})
	b.SetLink(Link{Ifindex: 21, Name: "ens2", Flags: LinkUp | LinkUplink | LinkEthernet})
	b.SetLink(Link{Ifindex: 22, Name: "noarp", Flags: LinkUp | LinkUplink | LinkEthernet | LinkNoARP})
	if rules != nil {
		b.SetRules(IPv4, rules)
	}
	return b
}

func over(ifindex ...int32) []Route {
	r := Route{Type: TypeUnicast}
	for _, i := range ifindex {
		r.Nexthops = append(r.Nexthops, Nexthop{Ifindex: i, Weight: 1})
	}
	return []Route{r}
}

func set(b *Builder, dst string, routes []Route) {
	b.SetRoutes(TableMain, netip.MustParsePrefix(dst), routes)
}

func TestBeside(t *testing.T) {
	ip := netip.MustParseAddr("192.0.2.50")
	b := uplinkHost()
	want := func(what string, ifindex int32) {
		t.Helper()
		l := b.Publish().Beside(ip)
		if l == nil && ifindex != 0 || l != nil && l.Ifindex != ifindex {
			t.Errorf("%s: %+v, want %d", what, l, ifindex)
		}
	}
	want("no route: the first that resolves", 20)
	set(b, "192.0.2.50/32", over(10))
	want("a workload's alone", 20)
	set(b, "0.0.0.0/0", over(21))
	want("the default route's", 21)
	set(b, "192.0.2.0/24", append(over(20), over(21)...))
	want("its network's, of two the first", 20)
	set(b, "192.0.2.0/24", over(22, 19, 21))
	want("the first that resolves of several next hops", 21)
	set(b, "192.0.2.0/25", []Route{{Type: TypeBlackhole}})
	want("a blackhole, as of a block of workloads, leads nowhere", 21)
	b.DeleteLink(21)
	want("an interface that is not served any more", 20)
	b.DeleteLink(20)
	want("none left", 0)
	for _, prefer := range []uint32{7, TableMain} {
		b := uplinkHost(Rule{Priority: 1, Action: RuleToTable, Table: prefer, SuppressPrefixLen: -1}, Rule{Priority: 2, Action: RuleToTable, Table: 7, SuppressPrefixLen: -1},
			Rule{Priority: 3, Action: RuleToTable, Table: TableMain, SuppressPrefixLen: -1})
		b.SetRoutes(7, netip.MustParsePrefix("192.0.2.0/24"), over(21))
		set(b, "192.0.2.0/24", over(20))
		if l := b.Publish().Beside(ip); (l.Ifindex == 21) != (prefer == 7) {
			t.Errorf("with table %d first: %s", prefer, l.Name)
		}
	}
}

func TestToWorkload(t *testing.T) {
	ip, asker := netip.MustParseAddr("192.0.2.50"), netip.MustParseAddr("192.0.2.9")
	b := uplinkHost()
	for _, c := range []struct {
		what                  string
		dst                   string
		routes                []Route
		workload, local, host bool
	}{
		{"none", "192.0.2.50/32", nil, false, false, false},
		{"a workload's", "192.0.2.50/32", over(10), true, false, true},
		{"by a shorter prefix", "192.0.2.48/28", over(10), true, false, false},
		{"another uplink's", "192.0.2.50/32", over(21), false, false, false},
		{"back", "192.0.2.50/32", over(20), false, false, false},
		{"unreachable", "192.0.2.50/32", []Route{{Type: TypeUnreachable}}, false, false, false},
		{"the host's", "192.0.2.50/32", []Route{{Type: TypeLocal}}, false, true, false},
		{"an interface that is not served", "192.0.2.50/32", over(99), false, false, false},
	} {
		set(b, c.dst, c.routes)
		table := b.Publish()
		l, local := table.ToWorkload(ip, asker, 20)
		if (l != nil) != c.workload || local != c.local || table.HasHost(ip, 20) != c.host {
			t.Errorf("%s: %+v, %t, %t", c.what, l, local, table.HasHost(ip, 20))
		}
		if table.HasHostRoute(ip) != (c.routes != nil && c.dst == "192.0.2.50/32") {
			t.Errorf("%s: has a route of its own %t", c.what, !table.HasHostRoute(ip))
		}
		set(b, c.dst, nil)
	}
	set(b, "192.0.2.50/32", over(10))
	b.SetLink(Link{Ifindex: 10, Name: "cali1", Flags: LinkUp | LinkWorkload | LinkEthernet | LinkLeft})
	if l, _ := b.Publish().ToWorkload(ip, asker, 20); l != nil {
		t.Error("a workload that is left to a kernel that does not forward")
	}
	b.SetLink(Link{Ifindex: 20, Name: "ens1", Flags: LinkUp | LinkUplink | LinkEthernet | LinkKernelForwards})
	if l, _ := b.Publish().ToWorkload(ip, asker, 20); l == nil {
		t.Error("a workload that is left to a kernel that forwards")
	}
}

// TestReturns: of several uplinks one is the way back, also of a multipath route.
func TestReturns(t *testing.T) {
	ip, asker := netip.MustParseAddr("192.0.2.50"), netip.MustParseAddr("192.0.2.9")
	b := uplinkHost()
	for what, c := range map[string]struct {
		routes []Route
		many   int
	}{"none": {nil, 0}, "one": {over(21), 1}, "several": {over(20, 21), 1}, "a workload": {over(10), 0}, "prohibit": {[]Route{{Type: TypeProhibit}}, 0}} {
		set(b, "192.0.2.0/24", c.routes)
		table, n := b.Publish(), 0
		for _, uplink := range []int32{20, 21} {
			if table.Returns(ip, asker, table.Link(10), uplink) {
				n++
			}
		}
		if n != c.many {
			t.Errorf("%s: %d answer, want %d", what, n, c.many)
		}
	}
}

func TestHosts(t *testing.T) {
	b := uplinkHost()
	for _, p := range []string{"192.0.2.50/32", "192.0.2.51/32", "192.0.2.64/28", "198.51.100.1/32"} {
		set(b, p, over(10))
	}
	table := b.Publish()
	for within, want := range map[string][]string{"192.0.2.0/24": {"192.0.2.50", "192.0.2.51"}, "192.0.2.51/32": {"192.0.2.51"}, "0.0.0.0/0": {"192.0.2.50", "192.0.2.51", "198.51.100.1"}, "10.0.0.0/8": nil} {
		var got []string
		table.Hosts(netip.MustParsePrefix(within), func(a netip.Addr) { got = append(got, a.String()) })
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", within, got, want)
		}
	}
}
