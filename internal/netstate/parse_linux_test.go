package netstate

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// payload builds what follows a netlink header.
type payload []byte

func (b payload) attr(typ uint16, val ...byte) payload { return appendAttr(b, typ, val) }
func (b payload) u32(typ uint16, v uint32) payload     { return appendU32(b, typ, v) }
func (b payload) str(typ uint16, s string) payload     { return appendAttr(b, typ, append([]byte(s), 0)) }

func words(head []byte, v ...uint32) payload {
	for _, w := range v {
		head = native.AppendUint32(head, w)
	}
	return head
}

func linkBody() payload {
	info := payload(nil).str(unix.IFLA_INFO_KIND, "veth")
	xdp := payload(nil).attr(unix.IFLA_XDP_ATTACHED, 2)
	return words([]byte{0, 0, 1, 0}, 7, unix.IFF_UP|unix.IFF_RUNNING, 0).
		str(unix.IFLA_IFNAME, "cali1").attr(unix.IFLA_ADDRESS, 2, 0, 0, 0, 0, 1).u32(unix.IFLA_MTU, 1450).
		u32(unix.IFLA_LINK, 3).u32(unix.IFLA_LINK_NETNSID, 0).u32(unix.IFLA_MASTER, 9).attr(unix.IFLA_OPERSTATE, 6).
		u32(unix.IFLA_NUM_TX_QUEUES, 4).str(unix.IFLA_QDISC, "noqueue").u32(unix.IFLA_GSO_MAX_SIZE, 65536).
		u32(unix.IFLA_GSO_IPV4_MAX_SIZE, 65535).attr(unix.IFLA_LINKINFO|unix.NLA_F_NESTED, info...).attr(unix.IFLA_XDP, xdp...).
		attr(unix.IFLA_PERM_ADDRESS, 2, 0, 0, 0, 0, 9)
}

func TestParseLink(t *testing.T) {
	got, err := parseLink(linkBody())
	want := Link{Index: 7, Name: "cali1", Kind: "veth", MAC: [6]byte{2, 0, 0, 0, 0, 1}, AddrLen: 6, Type: unix.ARPHRD_ETHER,
		Flags: unix.IFF_UP | unix.IFF_RUNNING, MTU: 1450, Master: 9, ParentIndex: 3, ParentForeign: true, OperState: 6,
		NumTxQueues: 4, Qdisc: "noqueue", GSOMaxSize: 65536, GSOIPv4MaxSize: 65535, XDP: true, PermMAC: [6]byte{2, 0, 0, 0, 0, 9}}
	if native.Uint16([]byte{1, 0}) != 1 {
		want.Type = 256
	}
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestParseLinkForwards: the settings of a link come with it, and so does whether
// a tunnel has another end.
func TestParseLinkForwards(t *testing.T) {
	conf := make([]byte, 4*33)
	inet := func(forwarding byte) payload {
		conf[0] = forwarding
		return payload(nil).attr(unix.AF_INET|unix.NLA_F_NESTED, payload(nil).attr(1, conf...)...)
	}
	tunnel := func(kind string, arphrd uint16, remote ...byte) payload {
		return words(append([]byte{0, 0}, native.AppendUint16(nil, arphrd)...), 7, unix.IFF_UP, 0).str(unix.IFLA_IFNAME, "tunl0").
			attr(unix.IFLA_BROADCAST, remote...).attr(unix.IFLA_LINKINFO, payload(nil).str(unix.IFLA_INFO_KIND, kind)...)
	}
	for name, c := range map[string]struct {
		body                 payload
		forwards, multipoint bool
	}{
		"nothing said":        {linkBody(), false, false},
		"IPv6 alone":          {linkBody().attr(unix.IFLA_AF_SPEC, payload(nil).attr(unix.AF_INET6, payload(nil).attr(2, 1, 0, 0, 0)...)...), false, false},
		"forwarding 0":        {linkBody().attr(unix.IFLA_AF_SPEC, inet(0)...), false, false},
		"forwarding 1":        {linkBody().attr(unix.IFLA_AF_SPEC, inet(1)...), true, false},
		"Calico's tunl0":      {tunnel("ipip", unix.ARPHRD_TUNNEL, 0, 0, 0, 0), false, true},
		"with a remote end":   {tunnel("ipip", unix.ARPHRD_TUNNEL, 192, 0, 2, 1), false, false},
		"a group's":           {tunnel("gre", unix.ARPHRD_IPGRE, 224, 0, 0, 9), false, true},
		"IPv6, none":          {tunnel("ip6gre", unix.ARPHRD_IP6GRE, make([]byte, 16)...), false, true},
		"TUN of such a type":  {tunnel("tun", unix.ARPHRD_TUNNEL, 0, 0, 0, 0), false, false},
		"a veth, of no group": {linkBody().attr(unix.IFLA_BROADCAST, 0, 0, 0, 0, 0, 0), false, false},
	} {
		got, err := parseLink(c.body)
		if err != nil || got.Forwards != c.forwards || got.Multipoint != c.multipoint {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := parseLink(linkBody().attr(unix.IFLA_AF_SPEC, payload(nil).attr(unix.AF_INET, 5, 0)...)); err == nil {
		t.Error("settings that are cut off parse")
	}
}

func rtmsg(bits, table uint8, flags uint32) payload {
	return words([]byte{unix.AF_INET, bits, 0, 0, table, unix.RTPROT_BIRD, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST}, flags)
}

func rtnexthop(index uint32, flags, hops byte, attrs payload) []byte {
	n := unix.SizeofRtNexthop + len(attrs)
	b := append(native.AppendUint16(nil, uint16(n)), flags, hops)
	return append(native.AppendUint32(b, index), attrs...)
}

func routeBodies() map[string]payload {
	via := append(native.AppendUint16(nil, unix.AF_INET6), netip.MustParseAddr("fe80::1").AsSlice()...)
	hops := append(rtnexthop(2, unix.RTNH_F_ONLINK, 0, payload(nil).attr(unix.RTA_GATEWAY, 192, 0, 2, 1)),
		rtnexthop(3, unix.RTNH_F_LINKDOWN, 4, payload(nil).attr(unix.RTA_VIA, via...))...)
	metrics := payload(nil).u32(unix.RTAX_LOCK, 1<<unix.RTAX_MTU).u32(unix.RTAX_MTU, 1400)
	return map[string]payload{
		"default":   rtmsg(0, unix.RT_TABLE_MAIN, 0).attr(unix.RTA_GATEWAY, 192, 0, 2, 1).u32(unix.RTA_OIF, 2),
		"multipath": rtmsg(16, unix.RT_TABLE_MAIN, 0).attr(unix.RTA_DST, 10, 1, 0, 0).attr(unix.RTA_MULTIPATH, hops...),
		"all": rtmsg(24, unix.RT_TABLE_COMPAT, unix.RTNH_F_ONLINK).attr(unix.RTA_DST, 10, 1, 2, 0).u32(unix.RTA_TABLE, 1000).
			u32(unix.RTA_PRIORITY, 32).attr(unix.RTA_PREFSRC, 192, 0, 2, 9).attr(unix.RTA_METRICS, metrics...).
			attr(unix.RTA_VIA, via...).u32(unix.RTA_OIF, 2).u32(rtaNHID, 5),
		"nexthop object": rtmsg(24, unix.RT_TABLE_MAIN, 0).attr(unix.RTA_DST, 10, 1, 3, 0).u32(rtaNHID, 5),
	}
}

func TestParseRoute(t *testing.T) {
	ip, pfx := netip.MustParseAddr, netip.MustParsePrefix
	base := Route{Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST, Protocol: unix.RTPROT_BIRD}
	want := map[string]func(*Route){
		"default": func(r *Route) {
			r.Dst, r.Nexthops = pfx("0.0.0.0/0"), []Nexthop{{Index: 2, Gateway: ip("192.0.2.1"), Weight: 1}}
		},
		"multipath": func(r *Route) {
			r.Dst = pfx("10.1.0.0/16")
			r.Nexthops = []Nexthop{{Index: 2, Gateway: ip("192.0.2.1"), Flags: unix.RTNH_F_ONLINK, Weight: 1},
				{Index: 3, Gateway: ip("fe80::1"), Flags: unix.RTNH_F_LINKDOWN, Weight: 5}}
		},
		"all": func(r *Route) {
			r.Dst, r.Table, r.Priority, r.PrefSrc, r.NHID = pfx("10.1.2.0/24"), 1000, 32, ip("192.0.2.9"), 5
			r.MTU, r.MTULocked, r.Flags = 1400, true, unix.RTNH_F_ONLINK
			r.Nexthops = []Nexthop{{Index: 2, Gateway: ip("fe80::1"), Flags: unix.RTNH_F_ONLINK, Weight: 1}}
		},
		"nexthop object": func(r *Route) { r.Dst, r.NHID, r.Nexthops = pfx("10.1.3.0/24"), 5, []Nexthop{} },
	}
	for name, b := range routeBodies() {
		got := Route{Nexthops: make([]Nexthop, 0, 4)}
		w := base
		want[name](&w)
		if err := parseRoute(b, &got); err != nil || !reflect.DeepEqual(got, w) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func addressBody() payload {
	return words([]byte{unix.AF_INET, 24, unix.IFA_F_PERMANENT, unix.RT_SCOPE_UNIVERSE}, 7).
		attr(unix.IFA_ADDRESS, 192, 0, 2, 1).attr(unix.IFA_LOCAL, 192, 0, 2, 1).
		attr(unix.IFA_BROADCAST, 192, 0, 2, 255).str(unix.IFA_LABEL, "eth0:1").u32(unix.IFA_FLAGS, 0x280)
}

func TestParseAddress(t *testing.T) {
	got, err := parseAddress(addressBody())
	want := Address{Index: 7, Local: netip.MustParseAddr("192.0.2.1"), Prefix: netip.MustParsePrefix("192.0.2.0/24"),
		Broadcast: netip.MustParseAddr("192.0.2.255"), Flags: 0x280, Label: "eth0:1"}
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = parseAddress(words([]byte{unix.AF_INET, 32, 0, 0}, 7).
		attr(unix.IFA_ADDRESS, 192, 0, 2, 2).attr(unix.IFA_LOCAL, 192, 0, 2, 1))
	want = Address{Index: 7, Local: netip.MustParseAddr("192.0.2.1"), Peer: netip.MustParseAddr("192.0.2.2"),
		Prefix: netip.MustParsePrefix("192.0.2.2/32")}
	if err != nil || got != want {
		t.Errorf("peer: %+v, %v", got, err)
	}
}

func neighbourBody() payload {
	b := words([]byte{unix.AF_INET, 0, 0, 0}, 7)
	b = append(native.AppendUint16(b, unix.NUD_REACHABLE), unix.NTF_ROUTER, unix.RTN_UNICAST)
	return b.attr(unix.NDA_DST, 192, 0, 2, 9).attr(unix.NDA_LLADDR, 2, 0, 0, 0, 0, 9).u32(ndaFlagsExt, ExtManaged)
}

func TestParseNeighbour(t *testing.T) {
	got, err := parseNeighbour(neighbourBody())
	want := Neighbour{Index: 7, IP: netip.MustParseAddr("192.0.2.9"), MAC: [6]byte{2, 0, 0, 0, 0, 9}, HasMAC: true,
		State: unix.NUD_REACHABLE, Flags: unix.NTF_ROUTER, ExtFlags: ExtManaged}
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}

func ruleBody() payload {
	return words([]byte{unix.AF_INET, 24, 32, 8, unix.RT_TABLE_COMPAT, 0, 0, unix.FR_ACT_TO_TBL}, unix.FIB_RULE_INVERT).
		attr(unix.FRA_DST, 10, 1, 2, 0).attr(unix.FRA_SRC, 192, 0, 2, 1).u32(unix.FRA_PRIORITY, 99).u32(unix.FRA_TABLE, 300).
		str(unix.FRA_IIFNAME, "eth0").str(unix.FRA_OIFNAME, "eth1").u32(unix.FRA_FWMARK, 1).u32(unix.FRA_FWMASK, 0xff).
		u32(unix.FRA_SUPPRESS_PREFIXLEN, 0).attr(unix.FRA_PROTOCOL, unix.RTPROT_STATIC).attr(unix.FRA_TUN_ID, 0, 0, 0, 0, 0, 0, 0, 1).attr(31, 1)
}

func TestParseRule(t *testing.T) {
	got, err := parseRule(ruleBody())
	want := Rule{Priority: 99, Table: 300, Action: unix.FR_ACT_TO_TBL, To: netip.MustParsePrefix("10.1.2.0/24"),
		From: netip.MustParsePrefix("192.0.2.1/32"), IIF: "eth0", OIF: "eth1", Mark: 1, Mask: 0xff, TOS: 8, Invert: true,
		Protocol: unix.RTPROT_STATIC, SuppressGroup: -1, Other: "tun_id=0000000000000001 attr31=01"}
	if err != nil || got != want || !got.Unsupported() {
		t.Errorf("%+v, %v", got, err)
	}
}

func ports(first, last uint16) []byte {
	return native.AppendUint16(native.AppendUint16(nil, first), last)
}

func upperRuleBody() payload {
	return words([]byte{unix.AF_INET, 8, 0, 0, unix.RT_TABLE_MAIN, 0, 0, unix.FR_ACT_TO_TBL}, 0).
		attr(unix.FRA_DST, 10, 0, 0, 0).attr(unix.FRA_IP_PROTO, 17).attr(unix.FRA_SPORT_RANGE, ports(1000, 2000)...).attr(unix.FRA_DPORT_RANGE, ports(0x10, 0x10)...).
		attr(fraDPortMask, ports(0xf0, 0)[:2]...).attr(fraDSCP, 46).attr(fraDSCPMask, 0x38).u32(unix.FRA_SUPPRESS_IFGROUP, 9).
		attr(unix.FRA_L3MDEV, 1).attr(unix.FRA_UID_RANGE, append(native.AppendUint32(nil, 5), native.AppendUint32(nil, 6)...)...)
}

func TestParseUpperRule(t *testing.T) {
	got, err := parseRule(upperRuleBody())
	want := Rule{Table: unix.RT_TABLE_MAIN, Action: unix.FR_ACT_TO_TBL, To: netip.MustParsePrefix("10.0.0.0/8"),
		SuppressPrefixLen: -1, SuppressGroup: 9, IPProto: 17,
		SPort: PortRange{1000, 2000, 0}, DPort: PortRange{0x10, 0x10, 0xf0}, DSCP: 46, DSCPMask: 0x38, L3MDev: true,
		UIDs: UIDRange{5, 6, true}}
	if err != nil || got != want || got.Unsupported() {
		t.Errorf("%+v, %v", got, err)
	}
	body := words([]byte{unix.AF_INET, 0, 0, 0, unix.RT_TABLE_MAIN, 0, 0, unix.FR_ACT_TO_TBL}, 0).attr(fraDSCP, 0)
	if got, err := parseRule(body); err != nil || got.DSCPMask != allDSCP {
		t.Errorf("a DSCP of 0: %+v, %v", got, err)
	}
}

func nexthopBody() payload {
	return words([]byte{unix.AF_INET, 0, unix.RTPROT_STATIC, 0}, unix.RTNH_F_ONLINK).
		u32(unix.NHA_ID, 7).u32(unix.NHA_OIF, 2).attr(unix.NHA_GATEWAY, 192, 0, 2, 1).attr(unix.NHA_ENCAP_TYPE, 1, 0)
}

func groupBody() payload {
	return words([]byte{unix.AF_UNSPEC, 0, 0, 0}, 0).u32(unix.NHA_ID, 8).attr(unix.NHA_GROUP, groupOf(7, 1, 9, 300)...)
}

func TestParseNexthopObject(t *testing.T) {
	single, err := parseNexthopObject(nexthopBody())
	want := nexthopObject{id: 7, single: Nexthop{Index: 2, Gateway: netip.MustParseAddr("192.0.2.1"), Flags: unix.RTNH_F_ONLINK, Weight: 1, Encap: 1}}
	if err != nil || !reflect.DeepEqual(single, want) {
		t.Errorf("%+v, %v", single, err)
	}
	group, err := parseNexthopObject(groupBody())
	if err != nil || !slices.Equal(group.group, []groupMember{{7, 1}, {9, 300}}) {
		t.Errorf("%+v, %v", group, err)
	}
	known := nexthopObjects{7: single, 8: group, 9: {id: 9, single: Nexthop{Index: 3, Weight: 1}}, 10: {id: 10}}
	for _, c := range []struct {
		route Route
		want  []int // index and weight
	}{
		{Route{}, nil},
		{Route{NHID: 7}, []int{2, 1}},
		{Route{NHID: 8}, []int{2, 1, 3, 300}},
		{Route{NHID: 8, Nexthops: []Nexthop{{Index: 5, Weight: 1}, {Index: 6, Weight: 44}}}, []int{5, 1, 6, 300}},
		{Route{NHID: 10}, nil},
		{Route{NHID: 11}, nil},
	} {
		known.complete(&c.route)
		var got []int
		for _, nh := range c.route.Nexthops {
			got = append(got, nh.Index, nh.Weight)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("object %d: %v", c.route.NHID, got)
		}
	}
}

// TestMalformed cuts each message at every length and lengthens each
// attribute's length beyond the end.
func TestMalformed(t *testing.T) {
	seeds := map[string]func([]byte) error{}
	bodies := map[string]payload{"link": linkBody(), "address": addressBody(), "neighbour": neighbourBody(), "rule": ruleBody(), "upper rule": upperRuleBody(), "nexthop": nexthopBody(), "group": groupBody(), "route": routeBodies()["all"]}
	seeds["link"] = func(b []byte) error { _, err := parseLink(b); return err }
	seeds["address"] = func(b []byte) error { _, err := parseAddress(b); return err }
	seeds["neighbour"] = func(b []byte) error { _, err := parseNeighbour(b); return err }
	seeds["rule"] = func(b []byte) error { _, err := parseRule(b); return err }
	seeds["upper rule"] = seeds["rule"]
	seeds["nexthop"] = func(b []byte) error { _, err := parseNexthopObject(b); return err }
	seeds["group"] = seeds["nexthop"]
	seeds["route"] = func(b []byte) error { return parseRoute(b, &Route{}) }
	for name, parse := range seeds {
		whole := bodies[name]
		for n := range len(whole) {
			if err := parse(whole[:n]); err == nil && !atBoundary(whole, n) {
				t.Errorf("%s of %d bytes parsed", name, n)
			} else if err != nil && !errors.Is(err, errMalformed) {
				t.Errorf("%s: %v", name, err)
			}
		}
		long := append(payload(nil), whole...).attr(60, 1, 2, 3, 4)
		native.PutUint16(long[len(long)-8:], 9)
		if err := parse(long); !errors.Is(err, errMalformed) {
			t.Errorf("%s with an attribute beyond the end: %v", name, err)
		}
	}
	for name, b := range map[string]payload{
		"prefix too long": rtmsg(33, 254, 0).attr(unix.RTA_DST, 10, 0, 0, 0),
		"no destination":  rtmsg(24, 254, 0),
		"short gateway":   rtmsg(0, 254, 0).attr(unix.RTA_GATEWAY, 1, 2, 3),
		"short nexthop":   rtmsg(0, 254, 0).attr(unix.RTA_MULTIPATH, 1, 2, 3),
		"nexthop of zero": rtmsg(0, 254, 0).attr(unix.RTA_MULTIPATH, make([]byte, 8)...),
		"empty via":       rtmsg(0, 254, 0).attr(unix.RTA_VIA),
		"v6 destination":  rtmsg(24, 254, 0).attr(unix.RTA_DST, make([]byte, 16)...),
	} {
		if err := parseRoute(b, &Route{}); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// atBoundary reports whether a cut at n leaves whole attributes, padding aside.
func atBoundary(whole payload, n int) bool {
	for _, fixed := range []int{8, 12, 16} {
		for at := fixed; at < len(whole); {
			size := int(native.Uint16(whole[at:]))
			if size < 4 || at+size > len(whole) {
				break
			}
			if at+size <= n && n <= at+align4(size) {
				return true
			}
			at += align4(size)
		}
	}
	return false
}
