package doctor

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
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
		return &netstate.Link{Index: index, Name: name, MTU: 1500, Flags: up, OperState: 6, IPv6: true, MTU6: 1500}
	}
	a, b, u, v := link(2, "cali1"), link(3, "cali2"), link(4, "eth0"), link(5, "eth1")
	f := &facts{cfg: &cfg, workloads: []*netstate.Link{a, b}, uplinks: []*netstate.Link{u, v}, status: &daemon.Status{Ready: true},
		view: &explain.View{Table: route.NewBuilder(route.Policy{}).Publish(), Links: map[int]*netstate.Link{2: a, 3: b, 4: u, 5: v},
			Policies: map[int]*arpd.Policy{2: {Answer: gatewayMAC}, 3: {Answer: gatewayMAC}}, Used: map[int32]bool{2: true, 3: true, 4: true}, Forwards: true},
		has: func(int) bool { return true },
		pods: []pod{{host: "cali1", hostMTU: 1500, netns: "/run/netns/a", name: "eth0", mtu: 1500, up: true, addresses: []string{"10.65.0.2"}, routed: []bool{true}, gateways: []string{"169.254.1.1"}},
			{host: "cali2", hostMTU: 1500, netns: "/run/netns/b", name: "eth0", mtu: 1500, up: true, addresses: []string{"10.65.0.3"}, routed: []bool{true}, gateways: []string{"169.254.1.1"}}},
		answers: []answer{{where: "cali1", pod: true, host: "cali1", gateway: "169.254.1.1", macs: []wire.MAC{gatewayMAC}}, {where: "eth0", gateway: "169.254.1.1"}},
	}
	sysctls := map[string]int{}
	f.sysctl = func(key string) (int, bool) { n, ok := sysctls[key]; return n, ok }
	return f, sysctls
}

// answerUplinks has the uplinks answered on, and nobody forward what comes in by them.
func answerUplinks(f *facts, unforwarded bool) {
	f.cfg.AnswerUplink = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	for _, l := range f.uplinks {
		f.view.Policies[l.Index] = &arpd.Policy{Uplink: &arpd.Uplink{Targets: f.cfg.AnswerUplink, Unforwarded: unforwarded}}
	}
}

// routeIPv6 has a workload be reached by IPv6.
func routeIPv6(f *facts) {
	b := route.NewBuilder(route.Policy{IPv6: true})
	b.SetRoutes(route.TableMain, netip.MustParsePrefix("2001:db8::1/128"), []route.Route{{Type: route.TypeUnicast, Nexthops: []route.Nexthop{{Ifindex: 2, Weight: 1}}}})
	f.view.Table = b.Publish()
}

func TestFindings(t *testing.T) {
	f, _ := good()
	if found := examine(f); len(found) != 0 {
		t.Errorf("a good host: %+v", found)
	}
	without := func(c int) func(f *facts, _ map[string]int) {
		return func(f *facts, _ map[string]int) { f.has = func(have int) bool { return have != c } }
	}
	f.local, f.pods[0].gateways = map[string]bool{"169.254.0.1": true}, []string{"169.254.0.1"}
	if found := examine(f); len(found) != 0 {
		t.Errorf("a pod whose gateway is an address of the host: %+v", found)
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
		{"ipv6-disabled", Info, "cali2", func(f *facts, _ map[string]int) { f.workloads[1].IPv6 = false }},
		{"ipv6-disabled", Warning, "cali2", func(f *facts, _ map[string]int) { routeIPv6(f); f.workloads[1].IPv6 = false }},
		{"ipv6-link-local", Warning, "cali1", func(f *facts, _ map[string]int) {
			routeIPv6(f)
			f.status.Workloads = []daemon.Interface{{Name: "cali1", IPv6: &status.IPv6{Why: "x"}}}
		}},
		{"accept-ra", Warning, "eth0", func(f *facts, s map[string]int) {
			f.advertised = map[int]bool{4: true}
			s["../ipv6/conf/eth0/forwarding"], s["../ipv6/conf/eth0/accept_ra"] = 1, 1
		}},
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
		{"foreign-answer", Error, "eth0", func(f *facts, _ map[string]int) { f.answers[1].macs = []wire.MAC{{2}} }},
		{"foreign-answer", Error, "cali1", func(f *facts, _ map[string]int) { f.answers[0].macs = append(f.answers[0].macs, wire.MAC{2}) }},
		{"no-answer", Error, "cali1", func(f *facts, _ map[string]int) { f.answers[0].macs = nil }},
		{"not-asked", Info, "eth0", func(f *facts, _ map[string]int) { f.answers[1].err = errors.New("x") }},
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
		{"route-dead", Warning, "10.0.0.0/8", func(f *facts, _ map[string]int) { f.dead = []string{"10.0.0.0/8"} }},
		{"pods-not-seen", Info, "", func(f *facts, _ map[string]int) { f.noPods = "x" }},
		{"pod-down", Info, "cali1", func(f *facts, _ map[string]int) { f.pods[0].up = false }},
		{"pod-gateway", Error, "cali1", func(f *facts, _ map[string]int) { f.pods[0].gateways = []string{"10.0.0.1"} }},
		{"pod-gateway", Warning, "cali1", func(f *facts, _ map[string]int) { f.pods[0].gateways, f.pods[0].direct = nil, true }},
		{"pod-default-route", Error, "cali1", func(f *facts, _ map[string]int) { f.pods[0].gateways = nil }},
		{"pod-neighbour", Error, "cali1", func(f *facts, _ map[string]int) {
			f.pods[0].fixed = map[string]macIs{"169.254.1.1": {wire.MAC{2}, gatewayMAC}}
		}},
		{"pod-noarp", Error, "cali1", func(f *facts, _ map[string]int) { f.pods[0].noARP = true }},
		{"pod-address", Warning, "cali1", func(f *facts, _ map[string]int) { f.pods[0].addresses, f.pods[0].routed = nil, nil }},
		{"pod-address", Error, "cali1", func(f *facts, _ map[string]int) { f.pods[0].routed[0] = false }},
		{"pod-mtu", Error, "cali1", func(f *facts, _ map[string]int) { f.pods[0].mtu = 9000 }},
		{"address-twice", Error, "cali2", func(f *facts, _ map[string]int) { f.pods[1].addresses[0] = "10.65.0.2" }},
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

func TestManagers(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	names := []string{"cali1", "cali2"}
	nm, networkd := "run/NetworkManager/devices/1", "run/systemd/netif/links/2"
	for _, c := range []struct {
		name  string
		root  fstest.MapFS
		check func(m managers) bool
	}{
		{"nobody", fstest.MapFS{}, func(m managers) bool {
			return m.networkManager == "" && m.networkd == nil && !m.foreignRoutes && !m.udev
		}},
		{"NetworkManager", fstest.MapFS{nm: file("")}, func(m managers) bool { return m.networkManager != "" }},
		{"told", fstest.MapFS{nm: file(""), "etc/NetworkManager/conf.d/c.conf": file("[keyfile]\nunmanaged-devices=interface-name:tunl*;interface-name:cali*\n")}, func(m managers) bool { return m.networkManager == "" }},
		{"told more", fstest.MapFS{nm: file(""), "usr/lib/NetworkManager/conf.d/c.conf": file("unmanaged-devices+=interface-name:=cali*")}, func(m managers) bool { return m.networkManager == "" }},
		{"told of one", fstest.MapFS{nm: file(""), "etc/NetworkManager/NetworkManager.conf": file("unmanaged-devices=interface-name:cali1\n")}, func(m managers) bool { return m.networkManager != "" }},
		{"networkd", fstest.MapFS{networkd: file("")}, func(m managers) bool { return m.networkd == nil && m.foreignRoutes }},
		{"networkd's routes", fstest.MapFS{networkd: file(""), "etc/systemd/networkd.conf": file("[Network]\n ManageForeignRoutes = no\n")}, func(m managers) bool { return !m.foreignRoutes }},
		{"networkd's file", fstest.MapFS{networkd: file(""), "etc/systemd/network/a.network": file("[Match]\nName=en* cali*\n[Network]\nDHCP=yes\n")},
			func(m managers) bool { return slices.Equal(m.networkd, []string{"/etc/systemd/network/a.network"}) }},
		{"networkd's other file", fstest.MapFS{networkd: file(""), "etc/systemd/network/a.network": file("[Match]\nName=en*\n[Address]\nName=cali1\n")}, func(m managers) bool { return m.networkd == nil }},
		{"networkd leaves them", fstest.MapFS{networkd: file(""), "etc/systemd/network/a.network": file("[Match]\nName=cali*\n[Link]\nUnmanaged=yes\n")}, func(m managers) bool { return m.networkd == nil }},
		{"udev", fstest.MapFS{"run/udev/control": file(""), "usr/lib/systemd/network/99-default.link": file("[Link]\nMACAddressPolicy=persistent\n")}, func(m managers) bool { return m.udev }},
	} {
		if m := readManagers(c.root, names); !c.check(m) {
			t.Errorf("%s: %+v", c.name, m)
		}
	}
}

func FuzzAnswers(f *testing.F) {
	cfg := daemon.Default()
	reply := make(wire.Ethernet, wire.EthernetLen+wire.ARPLen)
	reply.SetType(wire.EtherTypeARP)
	wire.PutARP(reply.Payload(), wire.ARPReply, gatewayMAC, cfg.Gateways[0], wire.MAC{2}, cfg.Gateways[0])
	f.Add([]byte(reply))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, ok := answers(b, cfg.Gateways); ok && len(b) < len(reply) {
			t.Errorf("%d bytes are an answer of %s", len(b), m)
		}
	})
	if m, ok := answers(reply, cfg.Gateways); !ok || m != gatewayMAC {
		f.Errorf("%v, %v", m, ok)
	}
}
