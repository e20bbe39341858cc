package route

import (
	"net/netip"
	"testing"

	"proxyarpd/internal/wire"
)

// TestErrorWay6: where errors go, and what they bear.
func TestErrorWay6(t *testing.T) {
	expired := ICMPError{Type: wire.ICMPv6TimeExceeded}
	type want struct {
		out          int32
		next, source string
		hops         uint8
	}
	for name, c := range map[string]struct {
		change func(*Builder)
		in     int32 // 0: not known
		dst    string
		to     string
		want   want
	}{
		// The source is that of the interface that the packet came in by, if it has any that is enough.
		"to a workload":      {in: ifPod1, to: "fd00:65::1", want: want{ifPod1, "fd00:65::1", "2001:db8::1", 64}},
		"to the uplink":      {in: ifUplink, to: "2001:db8::77", want: want{ifUplink, "2001:db8::77", "2001:db8::1", 64}},
		"by another link":    {in: ifUplink, to: "2001:db8:2::9", want: want{ifSmall, "fe80::99", "2001:db8::1", 64}},
		"ingress not known":  {to: "2001:db8:2::9", want: want{ifSmall, "fe80::99", "2001:db8:1::1", 64}},
		"to a link-local":    {in: ifPod1, to: "fe80::5", want: want{ifPod1, "fe80::5", "fe80::1", 64}},
		"which link?":        {to: "fe80::5"},
		"about our own":      {in: ifPod1, dst: "2001:db8:1::1", to: "fd00:65::1", want: want{ifPod1, "fd00:65::1", "2001:db8:1::1", 64}},
		"to nobody":          {in: ifPod1, to: "::"},
		"to many":            {in: ifPod1, to: "ff02::1"},
		"no route":           {in: ifPod1, to: "4000::1"},
		"prohibited":         {in: ifPod1, to: "fd00:72::1"},
		"to ourselves":       {in: ifPod1, to: "2001:db8::1"},
		"to the anycast":     {in: ifPod1, to: "2001:db8:1::"},
		"without IPv6 there": {in: ifPod1, to: "2001:db8:3::9"},
		"anycast as unicast": {in: ifPod1, to: "2001:db8:1::", want: want{ifSmall, "2001:db8:1::", "2001:db8:1::1", 64}, change: func(b *Builder) {
			conf := DefaultHostConf
			conf.V6.AnycastAsUnicast = true
			b.SetHost(conf)
		}},
		"hop limits": {in: ifUplink, to: "2001:db8::77", want: want{ifUplink, "2001:db8::77", "2001:db8::1", 33}, change: func(b *Builder) {
			l := b.links[ifUplink].link
			l.Conf6.HopLimit = 33
			b.SetLink(l)
		}},
		"of a route": {in: ifUplink, to: "2001:db8:7::9", want: want{ifUplink, "2001:db8:7::9", "2001:db8:1::1", 7}, change: func(b *Builder) {
			b.SetRoutes(TableMain, netip.MustParsePrefix("2001:db8:7::/48"), []Route{{Type: TypeUnicast, Dev: ifUplink, HopLimit: 7,
				Source: netip.MustParseAddr("2001:db8:1::1"), Nexthops: []Nexthop{{Ifindex: ifUplink, Weight: 1}}}})
		}},
		"by rule": {in: ifPod1, to: "fd00:65::1", change: func(b *Builder) {
			b.SetRules(IPv6, []Rule{{Action: RuleToTable, Table: TableLocal, SuppressPrefixLen: -1},
				{Priority: 1, Action: RuleProhibit, IIF: "lo", Proto: wire.ProtoICMPv6, DPort: PortMatch{Low: 3 << 8, High: 3 << 8}, SuppressPrefixLen: -1},
				{Priority: 2, Action: RuleToTable, Table: TableMain, SuppressPrefixLen: -1}})
		}},
		"by the source": {in: ifPod1, to: "fd00:65::1", want: want{ifPod2, "fd00:65::1", "2001:db8::1", 64}, change: func(b *Builder) {
			b.SetRoutes(TableMain, netip.MustParsePrefix("fd00:65::1/128"), []Route{
				{Type: TypeUnicast, Dev: ifPod2, From: netip.MustParsePrefix("2001:db8::/32"), Nexthops: []Nexthop{{Ifindex: ifPod2, Weight: 1}}}})
		}},
		"without any address": {in: ifPod1, to: "fd00:65::1", want: want{ifPod1, "fd00:65::1", "fe80::1", 64}, change: func(b *Builder) {
			b.SetAddresses(IPv6, ifUplink, nil)
			b.SetAddresses(IPv6, ifSmall, nil)
		}},
		"none at all": {in: ifPod1, to: "fd00:65::1", change: func(b *Builder) {
			for _, index := range []int32{ifUplink, ifSmall, ifPod1, ifPod2} {
				b.SetAddresses(IPv6, index, nil)
			}
		}},
	} {
		b := host6()
		if c.change != nil {
			c.change(b)
		}
		table := b.Publish()
		if c.dst == "" {
			c.dst = "4000::9"
		}
		way, ok := table.ErrorWay6(packet6("fd00:65::1", c.dst, 1), table.Link(c.in), expired, netip.MustParseAddr(c.to))
		if !ok {
			if c.want != (want{}) {
				t.Errorf("%s: no way", name)
			}
			continue
		}
		if got := (want{way.Out.Ifindex, way.Next.String(), way.Source.String(), way.TTL}); got != c.want || way.MTU != way.Out.MTU6 || way.Class != 0 || way.FlowLabel>>20 != 0 {
			t.Errorf("%s: %+v, want %+v", name, way, c.want)
		}
	}
}
