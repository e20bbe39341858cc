package explain

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/forward/route"
	"proxyarpd/forward/route/routetest"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/wire"
)

// toGateways are routes by which --proxy targets and uplinks are judged.
type toGateways struct{ t *route.Table }

func (g toGateways) Proxy(target, _ netip.Addr, ifindex int) arpd.ProxyDecision {
	if g.t.LeadsTo(target, int32(ifindex)) {
		return arpd.ProxyNo
	}
	return arpd.ProxyYes
}
func (toGateways) Routed(netip.Addr, int) bool         { return true }
func (toGateways) Uses(netip.Addr, wire.MAC, int) bool { return false }
func (g toGateways) Uplink(target, _ netip.Addr, _ wire.MAC, _ int) arpd.UplinkDecision {
	if g.t.LeadsTo(target, routetest.IfPod1) {
		return arpd.UplinkYes
	}
	return arpd.UplinkNo
}

// host is routetest's, with IPv6 beside: in each place of 10.x.y.z is 2001:db8:x:y::z. The second pod has IPv4 alone.
func host() *View {
	b := routetest.Host(route.Policy{IPv6: true, Punt: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("2001:db8:96::/48")}})
	flags := route.LinkUp | route.LinkEthernet
	b.SetLink(route.Link{Ifindex: routetest.IfPod1, Name: "cali1", Flags: flags | route.LinkWorkload, MAC: routetest.MACHost, MTU: 1500, MTU6: 1500, Slot: 1,
		Conf: route.LinkConf{RPFilter: 1}, Conf6: route.LinkConf6{RPFilter: 1}})
	b.SetLink(route.Link{Ifindex: routetest.IfUplink, Name: "ens192", Flags: flags | route.LinkUplink, MAC: routetest.MACUplink, MTU: 1500, MTU6: 1500, Slot: 3})
	set := func(prefix string, r route.Route) {
		r.Table = route.TableMain
		b.SetRoutes(route.TableMain, netip.MustParsePrefix(prefix), []route.Route{r})
	}
	by := func(ifindex int32, via string) route.Route {
		nh := route.Nexthop{Ifindex: ifindex, Weight: 1}
		if via != "" {
			nh.Gateway = netip.MustParseAddr(via)
		}
		return route.Route{Type: route.TypeUnicast, Nexthops: []route.Nexthop{nh}}
	}
	set("2001:db8:65::1/128", by(routetest.IfPod1, ""))
	set("2001:db8:65:1::/64", by(routetest.IfUplink, "fe80::16"))
	set("2001:db8:70::/48", route.Route{Type: route.TypeBlackhole})
	set("2001:db8:72::/48", route.Route{Type: route.TypeProhibit})
	b.SetNeighbour(routetest.IfPod1, netip.MustParseAddr("2001:db8:65::1"), &route.Neighbour{MAC: routetest.MACPod1, Valid: true})
	b.SetNeighbour(routetest.IfUplink, netip.MustParseAddr("fe80::16"), &route.Neighbour{MAC: routetest.MACRouter, Valid: true})
	t := b.Publish()
	link := func(index int, name string, six bool) *netstate.Link {
		l := &netstate.Link{Index: index, Name: name, MTU: 1500, IPv6: six, Flags: unix.IFF_UP}
		if six {
			l.MTU6 = 1500
		}
		return l
	}
	answers := func(index int, targets ...string) *arpd.Policy {
		p := &arpd.Policy{Index: index, Answer: routetest.MACHost, Own: routetest.MACHost, Routes: toGateways{t}, Settled: true}
		for i, target := range targets {
			if i == 0 {
				p.Gateways = []netip.Addr{netip.MustParseAddr(target)}
			} else {
				p.Proxy = append(p.Proxy, netip.MustParsePrefix(target))
			}
		}
		return p
	}
	on := func(index int, target string) *arpd.Policy {
		p := answers(index)
		p.Uplink = &arpd.Uplink{Targets: []netip.Prefix{netip.MustParsePrefix(target)}}
		return p
	}
	return &View{Table: t, Forwards: true, From: "a test", Used: map[int32]bool{},
		Links: map[int]*netstate.Link{routetest.IfPod1: link(routetest.IfPod1, "cali1", true), routetest.IfPod2: link(routetest.IfPod2, "cali2", false),
			routetest.IfUplink: link(routetest.IfUplink, "ens192", true), routetest.IfSmall: link(routetest.IfSmall, "ens193", true)},
		Policies: map[int]*arpd.Policy{routetest.IfPod1: answers(routetest.IfPod1, "169.254.1.1", "10.65.1.0/24"), routetest.IfPod2: answers(routetest.IfPod2, "169.254.1.1"),
			routetest.IfUplink: on(routetest.IfUplink, "10.65.0.0/24")},
		Policies6: map[int]*arpd.Policy{routetest.IfPod1: answers(routetest.IfPod1, "fe80::ecee:eeff:feee:eeee", "2001:db8:65:1::/64"), routetest.IfUplink: on(routetest.IfUplink, "2001:db8:65::/64")}}
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// verdictOf joins a verdict and its reason.
func verdictOf(v, reason *string) string { return strings.TrimSpace(value(v) + " " + value(reason)) }

// TestRequests: what becomes of who asks for an address, by both families.
func TestRequests(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ dst, iif, from, want, last string }{
		{"169.254.1.1", "", "", "answer", "169.254.1.1 is one: answered with ee:ee:ee:ee:ee:ee"},
		{"fe80::ecee:eeff:feee:eeee", "", "", "answer", "fe80::ecee:eeff:feee:eeee is one: answered with ee:ee:ee:ee:ee:ee"},
		{"10.65.1.9", "cali1", "", "answer", "another station: answered with ee:ee:ee:ee:ee:ee"},
		{"2001:db8:65:1::9", "cali1", "", "answer", "another station: answered with ee:ee:ee:ee:ee:ee"},
		{"10.66.0.1", "cali1", "", "ignore arp-not-proxied", "10.66.0.1 is in none of [10.65.1.0/24]"},
		{"2001:db8:66::1", "cali1", "", "ignore IPV6_NDISC_NS_OTHERHOST", "2001:db8:66::1 is in none of [2001:db8:65:1::/64]"},
		{"fe80::77", "cali1", "", "ignore IPV6_NDISC_NS_OTHERHOST", "fe80::77 belongs to this link, and is no gateway"},
		{"10.65.0.1", "ens192", "192.168.1.9", "answer", "to 192.168.1.9 it is this interface: answered with ee:ee:ee:ee:ee:ee"},
		{"2001:db8:65::1", "ens192", "2001:db8::9", "answer", "to 2001:db8::9 it is this interface: answered with ee:ee:ee:ee:ee:ee"},
		{"10.65.0.9", "ens192", "192.168.1.9", "ignore arp-no-workload", "none of type unicast leads over a workload interface"},
		{"2001:db8:65::9", "ens192", "2001:db8::9", "ignore nd-no-workload", "none of type unicast leads over a workload interface"},
		{"2001:db8:65::1", "ens192", "::", "answer", "without the workloads' routes 2001:db8:65::1 would be sought here: the probe is answered with ee:ee:ee:ee:ee:ee"},
		{"2001:db8:65::1", "cali2", "2001:db8::2", "ignore not-workload", "cali2 has no IPv6 that is served: its disable_ipv6 is 1, or its MTU is less than 1280, or --ipv6=false"},
		{"10.65.0.1", "ens193", "192.168.2.9", "ignore not-workload", "ens193 is an uplink, and without --answer-uplink, or without ARP, its requests are the kernel's alone"},
		{"2001:db8:65::1", "ens193", "2001:db8::2", "ignore not-workload", "ens193 is an uplink, and without --answer-uplink, or without neighbour discovery, its solicitations are the kernel's alone"},
	} {
		v, q := host(), Question{Dst: netip.MustParseAddr(c.dst), IIF: c.iif}
		if c.from != "" {
			q.From = netip.MustParseAddr(c.from)
		}
		if err := v.Complete(&q); err != nil {
			t.Errorf("%s: %v", c.dst, err)
			continue
		}
		a := v.arp(&q, v.link(q.IIF))
		if got, last := verdictOf(a.Verdict, a.Reason), a.Steps[len(a.Steps)-1]; got != c.want || last.Says != c.last || !last.Decides {
			t.Errorf("%s by %s: %s, %+v", c.dst, q.IIF, got, a.Steps)
		}
	}
}

// TestPackets: what becomes of a packet, by both families.
func TestPackets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		dst, iif, from string
		len            int
		left6          string // why IPv6 is left to the kernel
		want           string // verdict, reason, route, way, MAC, ICMP
		says           string // a step
	}{
		{dst: "10.65.1.9", want: "forward 10.65.1.0/24 ens192 192.168.1.16 02:00:00:00:01:01", says: "192.168.1.16 is at 02:00:00:00:01:01"},
		{dst: "2001:db8:65:1::9", want: "forward 2001:db8:65:1::/64 ens192 fe80::16 02:00:00:00:01:01", says: "2001:db8:65::1 may come by cali1 (rp_filter 1)"},
		{dst: "10.65.1.9", len: 1501, want: "drop PKT_TOO_BIG 10.65.1.0/24 ens192 192.168.1.16 3/4", says: "1500: a packet of 1501 bytes is too long, and DF is set"},
		{dst: "2001:db8:65:1::9", len: 1501, want: "drop PKT_TOO_BIG 2001:db8:65:1::/64 ens192 fe80::16 2/0", says: "1500: a packet of 1501 bytes is too long, and routers cut none"},
		{dst: "10.70.0.1", want: "drop PARP_ROUTE_BLACKHOLE 10.70.0.0/16", says: "blackhole 10.70.0.0/16"},
		{dst: "2001:db8:70::1", want: "drop PARP_ROUTE_BLACKHOLE 2001:db8:70::/48", says: "blackhole 2001:db8:70::/48"},
		{dst: "10.72.0.1", want: "drop PARP_ROUTE_PROHIBIT 10.72.0.0/16 3/13", says: "10.65.0.1 is told by an ICMP error of type 3, code 13"},
		{dst: "2001:db8:72::1", want: "drop PARP_ROUTE_PROHIBIT 2001:db8:72::/48 1/1", says: "2001:db8:65::1 is told by an ICMPv6 error of type 1, code 1"},
		{dst: "10.200.0.1", want: "drop IP_INNOROUTES 3/0", says: "none"},
		{dst: "2001:db8:200::1", want: "drop IP_INNOROUTES 1/0", says: "none"},
		{dst: "10.65.1.9", from: "10.65.0.99", iif: "cali1", want: "drop IP_RPFILTER 10.65.1.0/24", says: "10.65.0.99 is not routed to cali1, and rp_filter is 1"},
		{dst: "2001:db8:65:1::9", from: "2001:db8:65::99", iif: "cali1", want: "drop IP_RPFILTER 2001:db8:65:1::/64", says: "2001:db8:65::99 is not routed to cali1, and rp_filter is 1"},
		{dst: "10.97.0.1", want: "punt", says: "10.97.0.1 is left to the kernel"},
		{dst: "2001:db8:96::1", want: "punt", says: "2001:db8:96::1 is left to the kernel"},
		{dst: "192.168.1.32", want: "local", says: "192.168.1.32 is an address of this host, a group's, or a local segment"},
		{dst: "fe80::ecee:eeff:feee:eeee", want: "local", says: "fe80::ecee:eeff:feee:eeee belongs to the link: no router forwards there"},
		{dst: "ff02::1", want: "local", says: "ff02::1 is a group's: the kernel's matter"},
		{dst: "2001:db8:65:1::9", left6: "rules", want: "punt", says: "rules"},
		{dst: "2001:db8:65:1::9", iif: "cali2", from: "2001:db8::2", want: "ignore not-ip", says: "cali2 has no IPv6 that is served: its disable_ipv6 is 1, or its MTU is less than 1280, or --ipv6=false"},
	} {
		v, q := host(), Question{Dst: netip.MustParseAddr(c.dst), IIF: c.iif, Proto: DefaultProto, Len: c.len}
		v.Left6 = map[int]string{routetest.IfPod1: c.left6}
		if c.from != "" {
			q.From = netip.MustParseAddr(c.from)
		}
		if err := v.Complete(&q); err != nil {
			t.Errorf("%s: %v", c.dst, err)
			continue
		}
		var f Forward
		v.forward(&q, v.link(q.IIF), &f)
		got := strings.Join(strings.Fields(strings.Join([]string{value(f.Verdict), value(f.Reason), value(f.Route), value(f.Out), value(f.Nexthop), value(f.MAC), value(f.ICMP)}, " ")), " ")
		if got != c.want || !slices.ContainsFunc(f.Steps, func(s Step) bool { return strings.HasPrefix(s.Says, c.says) }) {
			t.Errorf("%s: %s, want %s with %q\n%+v", c.dst, got, c.want, c.says, f.Steps)
		}
	}
}

// TestQuestions: what is asked about has to make sense.
func TestQuestions(t *testing.T) {
	t.Parallel()
	six, four := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("10.0.0.1")
	for _, c := range []struct {
		q    Question
		want string
	}{
		{Question{Dst: six, From: four}, "want an address of the family of 2001:db8::1"},
		{Question{Dst: netip.MustParseAddr("fe80::1%eth0")}, "want an IPv4 or IPv6 address"},
		{Question{Dst: netip.MustParseAddr("::ffff:10.0.0.1")}, "want an IPv4 or IPv6 address"},
		{Question{Dst: six, Len: 47}, "want 48 to 65535 bytes"},
		{Question{Dst: four, Len: 27}, "want 28 to 65535 bytes"},
		{Question{Dst: six, IIF: "none"}, "no such interface"},
		{Question{Dst: six, IIF: "cali2"}, "cali2 has no IPv6 that is served"},
		{Question{Dst: six, IIF: "ens192"}, "no address has a route of its own over ens192"},
	} {
		err := host().Complete(&c.q)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.q, err, c.want)
		}
	}
	// The interface is that of the source, or the first from which the destination is another's.
	for _, c := range []struct{ dst, from, iif, source string }{
		{"10.65.0.1", "", "cali2", "10.65.0.2"}, {"10.65.1.9", "10.65.0.2", "cali2", "10.65.0.2"}, {"2001:db8:65:1::9", "", "cali1", "2001:db8:65::1"},
	} {
		q := Question{Dst: netip.MustParseAddr(c.dst)}
		if c.from != "" {
			q.From = netip.MustParseAddr(c.from)
		}
		if err := host().Complete(&q); err != nil || q.IIF != c.iif || q.From.String() != c.source {
			t.Errorf("%s: %+v, %v", c.dst, q, err)
		}
	}
}
