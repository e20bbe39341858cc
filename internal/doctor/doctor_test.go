package doctor

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/arpd"
	"proxyarpd/forward/route"
	"proxyarpd/internal/daemon"
	"proxyarpd/internal/explain"
	"proxyarpd/internal/hostpolicy"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/status"
	"proxyarpd/internal/wire"
)

var gatewayMAC = wire.MAC{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}

// good is a host without fault, with two workloads and two uplinks, one of them in use.
func good() (*facts, map[string]int) {
	cfg := daemon.Default()
	up := uint32(unix.IFF_UP | unix.IFF_LOWER_UP | unix.IFF_RUNNING)
	link := func(index int, name string) *netstate.Link {
		return &netstate.Link{Index: index, Name: name, Type: unix.ARPHRD_ETHER, MTU: 1500, Flags: up, OperState: 6, IPv6: true, MTU6: 1500}
	}
	a, b, u, v := link(2, "cali1"), link(3, "cali2"), link(4, "eth0"), link(5, "eth1")
	f := &facts{cfg: &cfg, workloads: []*netstate.Link{a, b}, uplinks: []*netstate.Link{u, v}, status: &daemon.Status{Ready: true},
		view: &explain.View{Table: route.NewBuilder(route.Policy{}).Publish(), Links: map[int]*netstate.Link{2: a, 3: b, 4: u, 5: v},
			Policies: map[int]*arpd.Policy{2: {Answer: gatewayMAC}, 3: {Answer: gatewayMAC}}, Policies6: map[int]*arpd.Policy{2: {Answer: gatewayMAC, Gateways: []netip.Addr{gateway6}}, 3: {Answer: gatewayMAC}}, Used: map[int32]bool{2: true, 3: true, 4: true}, Forwards: true},
		has:  func(int) bool { return true },
		pods: []pod{goodPod("cali1", "2"), goodPod("cali2", "3")},
		host: hostIPv6{linkLocal: map[int]netstate.AddressState{2: netstate.AddressUsable, 3: netstate.AddressUsable, 4: netstate.AddressUsable, 5: netstate.AddressUsable}},
		answers: []answer{{where: "cali1", pod: true, host: "cali1", gateway: gateway4, macs: []wire.MAC{gatewayMAC}},
			{where: "cali1", pod: true, host: "cali1", gateway: gateway6, macs: []wire.MAC{gatewayMAC}}, {where: "eth0", gateway: gateway4}},
	}
	sysctls := map[string]int{}
	f.sysctl = func(key string) (int, bool) { n, ok := sysctls[key]; return n, ok }
	return f, sysctls
}

var gateway4, gateway6 = netip.MustParseAddr("169.254.1.1"), netip.MustParseAddr("fe80::ecee:eeff:feee:eeee")

// goodPod has both families, with the last part of its addresses.
func goodPod(host, n string) pod {
	of := func(prefix string, gateway netip.Addr) addressing {
		a := netip.MustParseAddr(prefix + n)
		return addressing{served: true, leads: a, addresses: []podAddress{{Addr: a, routed: true}}, gateways: []netip.Addr{gateway},
			entries: []entry{{gateway: gateway, mac: gatewayMAC, want: gatewayMAC}}}
	}
	return pod{host: host, hostMTU: 1500, netns: "/run/netns/" + host, name: "eth0", mtu: 1500, up: true, v4: of("10.65.0.", gateway4), v6: of("2001:db8::", gateway6),
		linkLocals: []podAddress{{Addr: netip.MustParseAddr("fe80::" + n)}}}
}

// without6 is a pod of IPv4 alone.
func without6(p *pod) {
	p.v6, p.linkLocals, p.disabled6 = addressing{served: true}, nil, true
}

// answerUplinks has the uplinks answered on, and nobody forward what comes in by them.
func answerUplinks(f *facts, unforwarded bool) {
	f.cfg.AnswerUplink = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8:1::/64")}
	for _, l := range f.uplinks {
		p := &arpd.Policy{Uplink: &arpd.Uplink{Targets: f.cfg.AnswerUplink, Unforwarded: unforwarded}}
		f.view.Policies[l.Index], f.view.Policies6[l.Index] = p, p
	}
}

func TestFindings(t *testing.T) {
	f, _ := good()
	if found := examine(f); len(found) != 0 {
		t.Errorf("a good host: %+v", found)
	}
	without := func(c int) func(f *facts, _ map[string]int) {
		return func(f *facts, _ map[string]int) { f.has = func(have int) bool { return have != c } }
	}
	f.answers[2] = answer{where: "eth0", gateway: netip.MustParseAddr("192.0.2.50"), routed: "cali1", macs: []wire.MAC{{}}} // of links of this host
	f.local = map[string]bool{"169.254.0.1": true, "fe80::99%2": true}
	f.pods[0].v4.gateways, f.pods[0].v6.gateways = []netip.Addr{netip.MustParseAddr("169.254.0.1")}, []netip.Addr{netip.MustParseAddr("fe80::99")}
	if found := examine(f); len(found) != 0 {
		t.Errorf("a pod whose gateway is an address of the host: %+v", found)
	}
	f, _ = good()
	without6(&f.pods[0])
	f.pods[1].v4 = addressing{served: true}
	if found := examine(f); len(found) != 0 {
		t.Errorf("a pod of IPv4 alone, and one of IPv6: %+v", found)
	}
	f, _ = good()
	f.pods[0].v6.addresses = append(f.pods[0].v6.addresses, podAddress{Addr: netip.MustParseAddr("2001:db8::77"), routed: true})
	f.pods[1].v4.onLink, f.cfg.Proxy = []netip.Prefix{netip.MustParsePrefix("10.65.0.0/24")}, []netip.Prefix{netip.MustParsePrefix("10.65.0.0/16")}
	if found := examine(f); len(found) != 0 {
		t.Errorf("a pod with two addresses, and one whose network is proxied: %+v", found)
	}
	for _, c := range []struct {
		id       string
		severity Severity
		subject  string
		plant    func(f *facts, sysctls map[string]int)
	}{
		{"no-daemon", Info, "", func(f *facts, _ map[string]int) { f.status, f.noDaemon = nil, errors.New("none") }},
		{"not-ready", Error, "", func(f *facts, _ map[string]int) { f.status.Ready = false }},
		{"interface-failed", Error, "cali1", func(f *facts, _ map[string]int) { f.status.Workloads = []daemon.Interface{{Name: "cali1", Error: "x"}} }},
		{"capability", Error, "CAP_NET_RAW", without(unix.CAP_NET_RAW)},
		{"capability", Error, "CAP_NET_ADMIN", without(unix.CAP_NET_ADMIN)},
		{"capability", Warning, "CAP_BPF", without(unix.CAP_BPF)},
		{"capability", Warning, "CAP_PERFMON", without(unix.CAP_PERFMON)},
		{"capability", Info, "CAP_SYS_NICE", without(unix.CAP_SYS_NICE)},
		{"no-ebpf", Warning, "kernel", func(f *facts, _ map[string]int) { f.programs = errors.New("none") }},
		{"no-tun", Warning, "/dev/net/tun", func(f *facts, _ map[string]int) { f.tun = errors.New("none") }},
		{"sysctl-read-only", Info, "/proc/sys", func(f *facts, _ map[string]int) { f.readOnly = true }},
		{"forwarding-too", Info, "cali1", func(f *facts, _ map[string]int) { f.workloads[0].Forwards = true }},
		{"forwarding-too", Error, "cali1", func(f *facts, _ map[string]int) { f.workloads[0].Forwards, f.programs = true, errors.New("none") }},
		{"forwarding-off", Error, "cali1, cali2", func(f *facts, _ map[string]int) { f.view.Forwards = false }},
		{"ipv6-disabled", Info, "cali2", func(f *facts, _ map[string]int) { f.workloads[1].IPv6 = false; without6(&f.pods[1]) }},
		{"ipv6-disabled", Warning, "cali2", func(f *facts, _ map[string]int) {
			b := route.NewBuilder(route.Policy{IPv6: true})
			b.SetRoutes(route.TableMain, netip.MustParsePrefix("2001:db8::1/128"), []route.Route{{Type: route.TypeUnicast, Nexthops: []route.Nexthop{{Ifindex: 2, Weight: 1}}}})
			f.view.Table = b.Publish()
			f.workloads[1].IPv6, f.pods = false, f.pods[:1]
		}},
		{"ipv6-disabled", Error, "cali2", func(f *facts, _ map[string]int) { f.workloads[1].IPv6 = false }},
		{"ipv6-disabled", Error, "cali2", func(f *facts, _ map[string]int) { f.workloads[1].IPv6, f.workloads[1].MTU = false, 1000 }},
		{"ipv6-disabled", Info, "host", func(f *facts, _ map[string]int) {
			for _, l := range f.view.Links {
				l.IPv6 = false
			}
			without6(&f.pods[0])
			without6(&f.pods[1])
		}},
		{"ipv6-link-local", Error, "cali1, eth0", func(f *facts, _ map[string]int) { delete(f.host.linkLocal, 2); delete(f.host.linkLocal, 4) }},
		{"ipv6-link-local", Error, "cali1", func(f *facts, _ map[string]int) { f.host.linkLocal[2] = netstate.AddressFailed }},
		{"ipv6-link-local", Warning, "cali1", func(f *facts, _ map[string]int) { f.host.linkLocal[2] = netstate.AddressTentative }},
		{"forwarding6-off", Error, "cali1, cali2", func(f *facts, _ map[string]int) {
			f.view.Forwards, f.workloads[0].Forwards, f.workloads[1].Forwards = false, true, true
		}},
		{"accept-ra", Warning, "eth0", func(f *facts, s map[string]int) {
			f.host.advertised = map[int]bool{4: true}
			s["../ipv6/conf/eth0/forwarding"], s["../ipv6/conf/eth0/accept_ra"] = 1, 1
		}},
		{"proxy-ndp-too", Warning, "cali1", func(f *facts, s map[string]int) {
			f.host.proxied, f.programs = map[int][]netip.Addr{2: {gateway6}}, errors.New("none")
			s["../ipv6/conf/all/proxy_ndp"], s["../ipv6/conf/cali1/forwarding"] = 1, 1
		}},
		{"proxy-ndp-too", Warning, "eth0", func(f *facts, s map[string]int) {
			answerUplinks(f, false)
			f.host.proxied = map[int][]netip.Addr{4: {netip.MustParseAddr("2001:db8:1::5")}}
			s["../ipv6/conf/eth0/proxy_ndp"], s["../ipv6/conf/eth0/forwarding"] = 1, 1
		}},
		{"drop-unsolicited-na", Warning, "cali1, cali2, eth0, eth1", func(_ *facts, s map[string]int) { s["../ipv6/conf/all/drop_unsolicited_na"] = 1 }},
		{"proxy-arp-too", Warning, "cali1, cali2", func(_ *facts, s map[string]int) { s["conf/all/proxy_arp"] = 1 }},
		{"proxy-arp-too", Warning, "cali2", func(_ *facts, s map[string]int) { s["conf/cali2/proxy_arp"] = 1 }},
		{"proxy-delay", Warning, "cali2", func(_ *facts, s map[string]int) { s["conf/cali2/proxy_arp"], s["neigh/cali2/proxy_delay"] = 1, 80 }},
		{"drop-gratuitous-arp", Warning, "eth0", func(_ *facts, s map[string]int) { s["conf/eth0/drop_gratuitous_arp"] = 1 }},
		{"arp-ignore", Warning, "eth0", func(_ *facts, s map[string]int) { s["conf/eth0/arp_ignore"] = 8 }},
		{"rp-filter", Warning, "eth0", func(f *facts, s map[string]int) { f.view.Used[5] = true; s["conf/eth0/rp_filter"] = 1 }},
		{"proxy-arp-too", Warning, "eth0", func(f *facts, s map[string]int) {
			answerUplinks(f, false)
			f.uplinks[0].Forwards, s["conf/eth0/proxy_arp"] = true, 1
		}},
		{"uplink-unforwarded", Error, "eth0", func(f *facts, _ map[string]int) { answerUplinks(f, true); f.uplinks = f.uplinks[:1] }},
		{"uplink-none", Warning, "", func(f *facts, _ map[string]int) { answerUplinks(f, false); f.uplinks = nil }},
		{"uplink-claim", Error, "eth0", func(f *facts, _ map[string]int) {
			f.status.Conflicts = []status.Conflict{{Kind: "uplink-claim", Interface: "eth0", Address: "192.0.2.50", MAC: "02:00:00:00:00:09", Other: "cali1", Count: 2, Last: time.Now()}}
		}},
		{"uplink-claim", Error, "eth0", func(f *facts, _ map[string]int) {
			f.answers[2] = answer{where: "eth0", gateway: netip.MustParseAddr("2001:db8:1::50"), routed: "cali1", macs: []wire.MAC{{2}}}
		}},
		{"foreign-answer", Error, "eth0", func(f *facts, _ map[string]int) { f.answers[2].macs = []wire.MAC{{2}} }},
		{"foreign-answer", Error, "cali1", func(f *facts, _ map[string]int) { f.answers[1].macs = append(f.answers[1].macs, wire.MAC{2}) }},
		{"no-answer", Error, "cali1", func(f *facts, _ map[string]int) { f.answers[1].macs = nil }},
		{"no-router-flag", Warning, "cali1", func(f *facts, _ map[string]int) { f.answers[1].hosts = f.answers[1].macs }},
		{"foreign-answer", Error, "cali1", func(f *facts, _ map[string]int) { f.answers[0].macs = append(f.answers[0].macs, wire.MAC{2}) }},
		{"no-answer", Error, "cali1", func(f *facts, _ map[string]int) { f.answers[0].macs = nil }},
		{"not-asked", Info, "eth0", func(f *facts, _ map[string]int) { f.answers[2].err = errors.New("x") }},
		{"forward-hook-rules", Error, "host", func(f *facts, _ map[string]int) {
			f.rules = []hostpolicy.Finding{{Kind: hostpolicy.KindIPTables, What: "iptables table filter chain FORWARD"}}
		}},
		{"forward-hook-rules", Warning, "host", func(f *facts, _ map[string]int) { // IPv6 is left to the kernel
			f.rules = []hostpolicy.Finding{{Kind: hostpolicy.KindNFTables, What: "nft table ip6 x chain f (hook forward)", Family: hostpolicy.IPv6}}
		}},
		{"policy-left", Warning, "", func(f *facts, _ map[string]int) {
			f.status.Gate = status.Gate{State: "left", Findings: []status.Bypassed{{What: "nft table ip6 x chain f", IPv6: true, Left: true}}}
		}},
		{"policy-bypassed", Warning, "", func(f *facts, _ map[string]int) {
			f.status.Gate = status.Gate{State: "left", Findings: []status.Bypassed{{What: "nft table ip x chain f"}}}
		}},
		{"nat-rules", Error, "host", func(f *facts, _ map[string]int) {
			f.rules = []hostpolicy.Finding{{Kind: hostpolicy.KindNFTables, What: "nft table ip x chain p (hook postrouting)"}}
		}},
		{"nat-not-punted", Warning, "host", func(f *facts, _ map[string]int) { f.workloads[0].Forwards, f.translated.flows = true, 3 }},
		{"conntrack-strict", Warning, "host", func(f *facts, s map[string]int) {
			f.uplinks[0].Forwards, f.cfg.BypassPolicy, s["../netfilter/nf_conntrack_tcp_be_liberal"] = true, true, 0
			f.rules = []hostpolicy.Finding{{Kind: hostpolicy.KindNFTables, What: "nft table ip x chain p (hook postrouting)"}}
		}},
		{"conntrack-events", Warning, "host", func(f *facts, s map[string]int) {
			f.workloads[0].Forwards, f.cfg.BypassPolicy, s["../netfilter/nf_conntrack_events"] = true, true, 0
		}},
		{"netdev-hook-rules", Error, "eth0", func(f *facts, _ map[string]int) {
			f.rules = []hostpolicy.Finding{{Kind: hostpolicy.KindNFTables, What: "nft table netdev x chain p (hook ingress)", Interface: "eth0"}}
		}},
		{"tc-program", Error, "eth0", func(f *facts, _ map[string]int) {
			f.rules = []hostpolicy.Finding{{Kind: hostpolicy.KindTC, What: "tcx", Interface: "eth0"}}
		}},
		{"ipsec-policy", Warning, "host", func(f *facts, _ map[string]int) {
			f.rules, f.cfg.BypassPolicy = []hostpolicy.Finding{{Kind: hostpolicy.KindXFRM}}, true
		}},
		{"rules-unknown", Error, "host", func(f *facts, _ map[string]int) { f.unknown = errors.New("x") }},
		{"network-manager", Warning, "cali1, cali2", func(f *facts, _ map[string]int) { f.managers.networkManager = "x" }},
		{"networkd", Warning, "cali1, cali2", func(f *facts, _ map[string]int) { f.managers.networkd = []string{"/x"} }},
		{"networkd-routes", Info, "", func(f *facts, _ map[string]int) { f.managers.foreignRoutes = true }},
		{"udev-mac", Info, "cali1, cali2", func(f *facts, _ map[string]int) { f.managers.udev = true }},
		{"no-workloads", Info, "", func(f *facts, _ map[string]int) { f.workloads = nil }},
		{"interface-down", Info, "cali1", func(f *facts, _ map[string]int) { f.workloads[0].Flags = 0 }},
		{"no-route", Warning, "cali1", func(f *facts, _ map[string]int) { f.view.Used[2] = false }},
		{"mtu", Warning, "cali1", func(f *facts, _ map[string]int) { f.workloads[0].MTU, f.workloads[1].MTU = 9000, 9000 }},
		{"route-dead", Warning, "10.0.0.0/8", func(f *facts, _ map[string]int) { f.dead = []deadRoute{{"10.0.0.0/8", ipv4}} }},
		{"pods-not-seen", Info, "", func(f *facts, _ map[string]int) { f.noPods = "x" }},
		{"pod-down", Info, "cali1", func(f *facts, _ map[string]int) { f.pods[0].up = false }},
		{"pod-gateway", Error, "cali1", func(f *facts, _ map[string]int) {
			f.pods[0].v4.gateways = []netip.Addr{netip.MustParseAddr("10.0.0.1")}
		}},
		{"pod-gateway", Error, "cali1", func(f *facts, _ map[string]int) {
			f.pods[0].v6.gateways = []netip.Addr{netip.MustParseAddr("fe80::99")}
		}},
		{"pod-gateway", Error, "cali1", func(f *facts, _ map[string]int) { f.pods[0].linkLocals[0].Addr = gateway6 }},
		{"pod-gateway", Warning, "cali1", func(f *facts, _ map[string]int) { f.pods[0].v4.gateways, f.pods[0].v4.direct = nil, true }},
		{"pod-gateway", Warning, "cali1", func(f *facts, _ map[string]int) { f.pods[0].v6.gateways, f.pods[0].v6.direct = nil, true }},
		{"pod-default-route", Error, "cali1", func(f *facts, _ map[string]int) { f.pods[0].v4.gateways = nil }},
		{"pod-default-route", Error, "cali1", func(f *facts, _ map[string]int) { f.pods[0].v6.gateways = nil }},
		{"pod-on-link", Warning, "cali1", func(f *facts, _ map[string]int) {
			f.pods[0].v6.onLink = []netip.Prefix{netip.MustParsePrefix("2001:db8::/64")}
		}},
		{"pod-neighbour", Error, "cali1", func(f *facts, _ map[string]int) {
			f.pods[0].v4.entries[0].mac, f.pods[0].v4.entries[0].fixed = wire.MAC{2}, true
		}},
		{"pod-neighbour", Warning, "cali1", func(f *facts, _ map[string]int) { f.pods[0].v6.entries[0].mac = wire.MAC{2} }},
		{"pod-noarp", Error, "cali1", func(f *facts, _ map[string]int) { f.pods[0].noARP = true }},
		{"pod-address", Warning, "cali1", func(f *facts, _ map[string]int) { without6(&f.pods[0]); f.pods[0].v4 = addressing{} }},
		{"pod-address", Warning, "cali1", func(f *facts, _ map[string]int) { f.pods[0].v6.addresses = nil }},
		{"pod-address", Warning, "cali1", func(f *facts, _ map[string]int) {
			f.pods[0].v6.addresses = append(f.pods[0].v6.addresses, podAddress{Addr: netip.MustParseAddr("2001:db8::77")})
		}},
		{"pod-address", Error, "cali1", func(f *facts, _ map[string]int) { f.pods[0].v4.addresses[0].routed = false }},
		{"pod-address", Error, "cali1", func(f *facts, _ map[string]int) { f.pods[0].v6.addresses[0].routed = false }},
		{"pod-ipv6", Warning, "cali1", func(f *facts, _ map[string]int) { f.pods[0].v6.addresses, f.pods[0].disabled6 = nil, true }},
		{"pod-link-local", Warning, "cali1", func(f *facts, _ map[string]int) { f.pods[0].linkLocals = nil }},
		{"pod-dad", Error, "cali1", func(f *facts, _ map[string]int) { f.pods[0].linkLocals[0].failed = true }},
		{"pod-dad", Warning, "cali1", func(f *facts, _ map[string]int) {
			f.pods[0].linkLocals = append(f.pods[0].linkLocals, podAddress{Addr: gateway6, failed: true})
		}},
		{"pod-dad", Info, "cali1", func(f *facts, _ map[string]int) { f.pods[0].linkLocals[0].tentative = true }},
		{"pod-dad", Error, "cali1", func(f *facts, _ map[string]int) { f.pods[0].v6.addresses[0].failed = true }},
		{"pod-dad", Info, "cali1", func(f *facts, _ map[string]int) { f.pods[0].v6.addresses[0].tentative = true }},
		{"pod-mtu", Error, "cali1", func(f *facts, _ map[string]int) { f.pods[0].mtu = 9000 }},
		{"address-twice", Error, "cali2", func(f *facts, _ map[string]int) { f.pods[1].v4.addresses[0].Addr = netip.MustParseAddr("10.65.0.2") }},
		{"address-twice", Error, "cali2", func(f *facts, _ map[string]int) { f.pods[1].v6.addresses[0].Addr = netip.MustParseAddr("2001:db8::2") }},
	} {
		f, sysctls := good()
		c.plant(f, sysctls)
		found := examine(f)
		if !slices.ContainsFunc(found, func(g Finding) bool {
			return g.ID == c.id && g.Severity == c.severity && strings.HasPrefix(g.Subject, c.subject) && g.What != "" && g.Cure != ""
		}) {
			t.Errorf("%s %s of %q: %+v", c.severity, c.id, c.subject, found)
		}
		for _, g := range found {
			if strings.Contains(g.What+g.Cure, "%!") {
				t.Errorf("%+v", g)
			}
		}
		if want := map[bool]int{true: 1}[c.severity == Error]; Errors(found) < want {
			t.Errorf("%s: %d errors", c.id, Errors(found))
		}
	}
}

// TestMany: of a fault that many interfaces have, one finding is told.
func TestMany(t *testing.T) {
	f, sysctls := good()
	for i := range 1000 {
		l := *f.workloads[0]
		l.Index, l.Name, l.IPv6 = 100+i, fmt.Sprintf("calix%d", i), false
		f.workloads, f.view.Links[l.Index], f.view.Used[int32(l.Index)] = append(f.workloads, &l), &l, true
	}
	sysctls["conf/all/proxy_arp"] = 1
	for _, g := range examine(f) {
		if !strings.HasSuffix(g.Subject, " more") || len(g.Subject) > 60 {
			t.Errorf("%+v", g)
		}
	}
}

// FuzzAnswers: nothing but a whole answer is one, and it is read as it was written.
func FuzzAnswers(f *testing.F) {
	reply := make(wire.Ethernet, wire.EthernetLen+wire.ARPLen)
	reply.SetType(wire.EtherTypeARP)
	wire.PutARP(reply.Payload(), wire.ARPReply, gatewayMAC, gateway4, wire.MAC{2}, gateway4)
	advertisement := make(wire.Ethernet, wire.AdvertisementLen)
	wire.PutAdvertisement(advertisement, gatewayMAC, gateway6.As16(), gateway6.As16(), wire.NDOverride, wire.MulticastMAC(wire.AllNodes), wire.AllNodes)
	f.Add([]byte(reply))
	f.Add([]byte(advertisement))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, m, _, ok := readReply(b); ok && len(b) < len(reply) {
			t.Errorf("%d bytes are an answer of %s", len(b), m)
		}
		if _, m, _, ok := readAdvertisement(b); ok && len(b) < wire.EthernetLen+wire.IPv6Len+wire.NDLen {
			t.Errorf("%d bytes are an advertisement of %s", len(b), m)
		}
	})
	if g, m, host, ok := readReply(reply); !ok || m != gatewayMAC || g != gateway4 || host {
		f.Errorf("%v, %v", m, ok)
	}
	if g, m, host, ok := readAdvertisement(advertisement); !ok || m != gatewayMAC || g != gateway6 || !host {
		f.Errorf("%v, %v, %v, %v", g, m, host, ok)
	}
	advertisement[wire.EthernetLen+7]-- // it was forwarded
	if _, _, _, ok := readAdvertisement(advertisement); ok {
		f.Error("a hop limit of 254")
	}
}
