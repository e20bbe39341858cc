package daemon

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/forward/route"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/wire"
)

func TestValidate(t *testing.T) {
	tests := []struct {
		name string
		edit func(*Config)
		want string // part of the error, "" for none
	}{
		{"defaults", func(*Config) {}, ""},
		{"engine", func(c *Config) { c.Engine = "dpdk" }, "--engine"},
		{"claim", func(c *Config) { c.Claim = "xdp" }, "--claim"},
		{"no workload", func(c *Config) { c.Workloads = nil }, "--workload"},
		{"no uplink", func(c *Config) { c.Uplinks = nil }, "--uplink"},
		{"bad uplink", func(c *Config) { c.Uplinks = []string{""} }, "--uplink"},
		{"IPv6 prefix", func(c *Config) { c.Punt = []netip.Prefix{netip.MustParsePrefix("fd00::/8")} }, ""},
		{"IPv4 in IPv6", func(c *Config) { c.Punt = []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")} }, "--punt"},
		{"IPv6 host bits", func(c *Config) { c.Proxy = []netip.Prefix{netip.MustParsePrefix("2001:db8::1/64")} }, "2001:db8::1/128"},
		{"a zone", func(c *Config) { c.Gateways = []netip.Addr{netip.MustParseAddr("fe80::1%eth0")} }, "--gateway"},
		{"no prefix", func(c *Config) { c.Proxy = []netip.Prefix{{}} }, "--proxy"},
		{"no MAC", func(c *Config) { c.MAC = wire.MAC{} }, "--mac"},
		{"negative rp-filter", func(c *Config) { c.RPFilter = -1 }, "--rp-filter"},
		{"no state directory", func(c *Config) { c.StateDir = "" }, "--state-dir"},
		{"no control", func(c *Config) { c.Control = "" }, "--control"},
		{"bad glob", func(c *Config) { c.Workloads = []string{"cali["} }, "not a glob"},
		{"auto and more", func(c *Config) { c.Uplinks = []string{"auto", "eth0"} }, "--uplink auto"},
		{"gateway of a group", func(c *Config) { c.Gateways = []netip.Addr{netip.IPv6LinkLocalAllNodes()} }, "--gateway"},
		{"IPv6 gateway without IPv6", func(c *Config) { c.IPv6, c.Gateways = false, []netip.Addr{netip.MustParseAddr("fe80::1")} }, "--gateway"},
		{"IPv6 prefix without IPv6", func(c *Config) { c.IPv6, c.Punt = false, []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")} }, "--punt"},
		{"host bits", func(c *Config) { c.Proxy = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")} }, "host bits"},
		{"group MAC", func(c *Config) { c.MAC = wire.Broadcast }, "--mac"},
		{"rp-filter", func(c *Config) { c.RPFilter = 3 }, "--rp-filter"},
		{"too nice", func(c *Config) { c.Nice = 20 }, "--nice"},
		{"not nice enough", func(c *Config) { c.Nice = -21 }, "--nice"},
		{"too many workers", func(c *Config) { c.Workers = 17 }, "--workers"},
		{"negative workers", func(c *Config) { c.Workers = -1 }, "--workers"},
		{"control", func(c *Config) { c.Control = strings.Repeat("x", 108) }, "--control"},
	}
	for _, tt := range tests {
		c := Default()
		tt.edit(&c)
		err := c.Validate()
		if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// TestGateways: naming one of a family replaces that family's default only, and
// without IPv6 there is none of it.
func TestGateways(t *testing.T) {
	for _, tt := range []struct {
		ipv6       bool
		given, got string
	}{
		{true, "169.254.1.1 fe80::ecee:eeff:feee:eeee", "[169.254.1.1 fe80::ecee:eeff:feee:eeee]"},
		{true, "10.0.0.1", "[10.0.0.1 fe80::ecee:eeff:feee:eeee]"},
		{true, "fe80::1 fe80::2", "[169.254.1.1 fe80::1 fe80::2]"},
		{true, "fe80::1 10.0.0.1", "[fe80::1 10.0.0.1]"},
		{false, "169.254.1.1 fe80::ecee:eeff:feee:eeee", "[169.254.1.1]"},
		{false, "10.0.0.1", "[10.0.0.1]"},
	} {
		c := Default()
		c.IPv6, c.Gateways = tt.ipv6, nil
		for _, a := range strings.Fields(tt.given) {
			c.Gateways = append(c.Gateways, netip.MustParseAddr(a))
		}
		for range 2 { // what has been completed stays
			if err := c.Validate(); err != nil || fmt.Sprint(c.Gateways) != tt.got {
				t.Errorf("%s: %v, %v", tt.given, c.Gateways, err)
			}
		}
	}
}

func TestRoles(t *testing.T) {
	d := newBench(t, nil)
	p := netip.MustParsePrefix("10.0.0.0/8")
	d.builder.SetRoutes(route.TableMain, p, []route.Route{{Type: route.TypeUnicast,
		Nexthops: []route.Nexthop{{Ifindex: 7}, {Ifindex: 8}, {Ifindex: 9}}}})
	eth := func(index int, name string) netstate.Link {
		return netstate.Link{Index: index, Name: name, Type: unix.ARPHRD_ETHER, AddrLen: 6, Flags: unix.IFF_UP}
	}
	port, tun, lo := eth(8, "eth1"), eth(9, "tun0"), eth(7, "lo")
	port.Master = 3
	tun.Type, tun.AddrLen = unix.ARPHRD_NONE, 0
	lo.Flags |= unix.IFF_LOOPBACK
	for _, tt := range []struct {
		link netstate.Link
		want role
	}{
		{eth(2, "cali1"), roleWorkload}, {eth(7, "eth0"), roleUplink}, {eth(6, "eth9"), roleUplink},
		{port, roleNone}, {tun, roleUplink}, {lo, roleNone},
	} {
		if got := d.roleOf(&tt.link); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.link.Name, got, tt.want)
		}
	}
}

// TestLinkLayers: what carries IPv4 is an uplink, if its link layer is one that
// we can speak.
func TestLinkLayers(t *testing.T) {
	d := newBench(t, nil)
	const can, netlink, rawIP = 280, 824, 519
	for _, c := range []struct {
		name string
		link netstate.Link
		role role
		left string
	}{
		{"Ethernet", netstate.Link{Type: unix.ARPHRD_ETHER, AddrLen: 6}, roleUplink, ""},
		{"TUN", netstate.Link{Type: unix.ARPHRD_NONE, Kind: "tun"}, roleUplink, ""},
		{"PPP", netstate.Link{Type: unix.ARPHRD_PPP, Kind: "ppp"}, roleUplink, ""},
		{"a modem", netstate.Link{Type: rawIP}, roleUplink, ""},
		{"IPIP", netstate.Link{Type: unix.ARPHRD_TUNNEL, AddrLen: 4, Kind: "ipip"}, roleUplink, ""},
		{"Calico's tunl0", netstate.Link{Type: unix.ARPHRD_TUNNEL, AddrLen: 4, Kind: "ipip", Multipoint: true}, roleUplink, "routed to it are left"},
		{"GRE", netstate.Link{Type: unix.ARPHRD_IPGRE, AddrLen: 4, Kind: "gre"}, roleUplink, ""},
		{"GRE to many", netstate.Link{Type: unix.ARPHRD_IPGRE, AddrLen: 4, Kind: "gre", Multipoint: true}, roleNone, "not Ethernet's"},
		{"InfiniBand", netstate.Link{Type: unix.ARPHRD_INFINIBAND, AddrLen: 20}, roleNone, "not Ethernet's"},
		{"CAN", netstate.Link{Type: can}, roleNone, ""},
		{"nlmon", netstate.Link{Type: netlink}, roleNone, ""},
		{"a port", netstate.Link{Type: unix.ARPHRD_ETHER, AddrLen: 6, Master: 9}, roleNone, ""},
		{"lo", netstate.Link{Type: unix.ARPHRD_LOOPBACK, Flags: unix.IFF_LOOPBACK}, roleNone, ""},
		{"calitun", netstate.Link{Name: "calitun", Type: unix.ARPHRD_NONE}, roleNone, "no Ethernet"},
	} {
		c.link.Index = 7
		if got, left := d.roleOf(&c.link), d.leftAlone(&c.link); got != c.role || (left == "") != (c.left == "") || !strings.Contains(left, c.left) {
			t.Errorf("%s: %v, left because %q", c.name, got, left)
		}
		if got := d.wants(&c.link, &port{role: c.role}).link.Flags&route.LinkReceiveOnly != 0; got != c.link.Multipoint {
			t.Errorf("%s: only received from: %v", c.name, got)
		}
	}
}

// TestLeftAlone has a VRF come, and a workload interface become a port of it:
// each is said once, and the interface has no role any more.
func TestLeftAlone(t *testing.T) {
	d := newBench(t, nil)
	if err := d.begins(nil); err != nil {
		t.Fatal(err)
	}
	eth := netstate.Link{Index: 2, Name: "cali1", Type: unix.ARPHRD_ETHER, AddrLen: 6}
	port := eth
	port.Master = 3
	vrf := netstate.Link{Index: 3, Name: "red", Kind: "vrf", Type: unix.ARPHRD_ETHER, AddrLen: 6}
	for _, c := range []struct {
		link netstate.Link
		said string
		role role
	}{
		{eth, "", roleWorkload},
		{vrf, "VRF: its packets", roleNone},
		{vrf, "", roleNone},
		{port, "port of a VRF", roleNone},
		{port, "", roleNone},
		{eth, "", roleWorkload},
		{port, "port of a VRF", roleNone},
	} {
		d.said.Reset()
		d.noteLink(&c.link, false)
		if got := d.said.String(); (got == "") != (c.said == "") || !strings.Contains(got, c.said) {
			t.Errorf("%+v: said %q", c.link, got)
		}
		if got := d.roleOf(&c.link); got != c.role {
			t.Errorf("%+v: %v", c.link, got)
		}
	}
}

func TestConvertNeighbour(t *testing.T) {
	for state, want := range map[netstate.NeighState]*route.Neighbour{
		unix.NUD_REACHABLE:  {Valid: true},
		unix.NUD_STALE:      {Valid: true, Stale: true},
		unix.NUD_PERMANENT:  {Valid: true, Fixed: true},
		unix.NUD_FAILED:     {Failed: true},
		unix.NUD_INCOMPLETE: {},
	} {
		n := neighbour(&netstate.Neighbour{State: state, HasMAC: true})
		if n.Valid != want.Valid || n.Stale != want.Stale || n.Failed != want.Failed || n.Fixed != want.Fixed {
			t.Errorf("%#x: %+v", state, n)
		}
	}
	if n := neighbour(&netstate.Neighbour{State: unix.NUD_STALE, HasMAC: true, Flags: unix.NTF_EXT_LEARNED}); !n.Fixed {
		t.Error("a learned neighbour may not be touched")
	}
	if n := neighbour(&netstate.Neighbour{State: unix.NUD_REACHABLE, HasMAC: true, ExtFlags: netstate.ExtManaged}); !n.Fixed {
		t.Errorf("managed by the kernel: %+v", n)
	}
}

func TestConvertRoutes(t *testing.T) {
	nexthops := []netstate.Nexthop{
		{Index: 1, Flags: unix.RTNH_F_DEAD}, {Index: 2, Gateway: netip.MustParseAddr("fe80::1")}, {Index: 3, Encap: 1}, {Index: 4, Weight: 1},
	}
	dead := []netstate.Nexthop{{Index: 1, Flags: unix.RTNH_F_DEAD | unix.RTNH_F_LINKDOWN}}
	r := new(routeScratch).convert(&netstate.RouteSet{Routes: []netstate.Route{
		{Type: unix.RTN_UNICAST, TOS: 16, Nexthops: nexthops}, {Type: unix.RTN_UNICAST, NHID: 7, Nexthops: dead}, {Type: unix.RTN_BLACKHOLE},
	}})
	if len(r) != 3 || len(r[0].Nexthops) != 3 || r[0].Nexthops[2].Ifindex != 4 || !r[0].Nexthops[1].Encap || r[0].Nexthops[0].Encap ||
		r[0].Dev != 1 || r[0].TOS != 16 || r[0].Object {
		t.Errorf("%+v", r)
	}
	if !r[1].Object || len(r[1].Nexthops) != 0 || r[1].Dev != 1 {
		t.Errorf("all dead: %+v", r[1])
	}
}

// TestConvertInput: the actions of SRv6 are the kernel's, which do not hang on forwarding.
// IPv4 has none, and its programs at a route's input are not reached without forwarding.
func TestConvertInput(t *testing.T) {
	const bpf, seg6, seg6Local = 6, 5, 7 // LWTUNNEL_ENCAP_*
	for _, c := range []struct {
		dst   string
		encap uint16
		want  bool
	}{{"fd00::/64", seg6Local, true}, {"fd00::/64", bpf, true}, {"fd00::/64", seg6, false}, {"fd00::/64", 0, false}, {"10.0.0.0/8", bpf, false}} {
		set := netstate.RouteSet{Dst: netip.MustParsePrefix(c.dst)}
		set.Routes = []netstate.Route{{Dst: set.Dst, Type: unix.RTN_UNICAST, Nexthops: []netstate.Nexthop{{Index: 2, Encap: c.encap}}}}
		if nh := new(routeScratch).convert(&set)[0].Nexthops[0]; nh.Input != c.want || nh.Encap != (c.encap != 0) {
			t.Errorf("%+v: %+v", c, nh)
		}
	}
}

// An IPv6 route by lo refuses, but that to ::1, and one by an object.
func TestConvertLoopback6(t *testing.T) {
	lo := []netstate.Nexthop{{Index: 1}}
	for _, c := range []struct {
		dst  string
		r    netstate.Route
		want route.Type
	}{
		{"2001:db8::/64", netstate.Route{Type: unix.RTN_UNICAST, Nexthops: lo}, route.TypeUnreachable},
		{"::1/128", netstate.Route{Type: unix.RTN_UNICAST, Nexthops: lo}, route.TypeUnicast},
		{"2001:db8::/64", netstate.Route{Type: unix.RTN_UNICAST, NHID: 7, Nexthops: lo}, route.TypeUnicast},
		{"2001:db8::/64", netstate.Route{Type: unix.RTN_LOCAL, Nexthops: lo}, route.TypeLocal},
		{"2001:db8::/64", netstate.Route{Type: unix.RTN_UNICAST, Nexthops: []netstate.Nexthop{{Index: 2}}}, route.TypeUnicast},
		{"10.0.0.0/8", netstate.Route{Type: unix.RTN_UNICAST, Nexthops: lo}, route.TypeUnicast},
	} {
		got := new(routeScratch).convert(&netstate.RouteSet{Dst: netip.MustParsePrefix(c.dst), Routes: []netstate.Route{c.r}})
		if len(got) != 1 || got[0].Type != c.want {
			t.Errorf("%s %+v: %+v, want type %v", c.dst, c.r, got, c.want)
		}
	}
}

func TestConvertRules(t *testing.T) {
	never := map[string]netstate.Rule{
		"oif": {OIF: "eth0"}, "fwmark": {Mark: 1, Mask: 3}, "l3mdev": {L3MDev: true}, "other": {Other: "tun_id=1"},
		"uid": {UIDs: netstate.UIDRange{First: 1, Last: 9, Set: true}},
	}
	for name, r := range never {
		if !rule(&r).Never {
			t.Errorf("%s can match", name)
		}
	}
	got := rule(&netstate.Rule{DSCP: 46, DSCPMask: 63, IPProto: 6, DPort: netstate.PortRange{First: 80, Last: 81, Mask: 0},
		SuppressPrefixLen: -1, SuppressGroup: 3, UIDs: netstate.UIDRange{Last: 9, Set: true}})
	want := route.Rule{DSCP: 0xb8, DSCPMask: 0xfc, Proto: 6, DPort: route.PortMatch{Low: 80, High: 81}, SuppressPrefixLen: -1, SuppressByGroup: true, SuppressGroup: 3}
	if got != want {
		t.Errorf("%+v", got)
	}
}

// One thread for four CPUs, at least one and up to four; what is asked for is had,
// and an engine that forwards nothing has none.
func TestWorkers(t *testing.T) {
	for cpus, want := range map[int]int{1: 1, 2: 1, 4: 1, 7: 1, 8: 2, 12: 3, 16: 4, 128: 4} {
		if n := autoWorkers(cpus); n != want {
			t.Errorf("%d CPUs: %d, want %d", cpus, n, want)
		}
	}
	for _, c := range []struct {
		engine     string
		asked, got int
	}{{EngineAFPacket, 0, autoWorkers(cpus)}, {EngineEBPF, 3, 3}, {EngineNone, 3, 0}} {
		cfg := Default()
		cfg.Engine, cfg.Workers = c.engine, c.asked
		if n := cfg.workers(); n != c.got {
			t.Errorf("%+v: %d", c, n)
		}
	}
}
