package differential

import (
	"fmt"
	"net/netip"
	"strings"
)

// port is an interface of the host under test, and the station behind it.
type port struct {
	name string
	mac  [6]byte
	mtu  int
	mtu6 int // in IPv6 worlds
	pod  bool
}

// The interfaces. Names are those of Calico's pods and of plain uplinks.
var ports = [...]port{
	{"cali0", [6]byte{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}, 4000, 4000, true},
	{"cali1", [6]byte{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}, 1500, 1500, true},
	{"up0", [6]byte{2, 0xaa, 0, 0, 0, 1}, 1500, 1500, false},
	{"up1", [6]byte{2, 0xaa, 0, 0, 0, 2}, 1000, 1300, false},
}

const (
	pod0 = iota
	pod1
	up0
	up1
)

// world is one setting in which both hosts are compared.
type world struct {
	name         string
	ipv6         bool // IPv6 frames are compared, else IPv4 frames
	rpFilter     int
	noRoute      bool           // there is no default route
	inbound      bool           // ICMP errors bear the address of the interface that the packet came in by
	sourceRoutes bool           // are accepted at some interfaces
	defaults     bool           // there are several default routes
	dynamic      bool           // no neighbours are known in 10.1.15.0/24 and 10.2.5.0/24
	sysctls      []string       // further settings of both hosts, key=value
	lines        []string       // for `ip -batch`, after all others
	objects      []string       // for `ip -batch`, when all devices have carrier and the settings are made
	both         bool           // the kernel of our host forwards too, and uplinks are among themselves its own
	bare         bool           // up1 is a device without link-layer header
	down         bool           // up1 has no carrier
	deaf         bool           // nothing that comes in at up1 is forwarded
	looped       netip.Prefix   // is routed to lo
	delivered    []netip.Prefix // are this host's, by routes
	flags        []string       // further ones of the daemon
}

var worlds = []world{
	{name: "strict", rpFilter: 1},
	{name: "off", rpFilter: 0, noRoute: true},
	{name: "loose", rpFilter: 2, inbound: true, sysctls: []string{"net/ipv4/ip_default_ttl=77"}},
	{name: "settings", rpFilter: 0, sourceRoutes: true, sysctls: []string{
		"net/ipv4/conf/all/send_redirects=0", "net/ipv4/conf/cali0/send_redirects=0", "net/ipv4/conf/all/shared_media=0",
		"net/ipv4/conf/up0/shared_media=0", "net/ipv4/conf/cali1/route_localnet=1", "net/ipv4/conf/all/accept_source_route=1",
		"net/ipv4/conf/cali0/accept_source_route=1", "net/ipv4/conf/up0/accept_source_route=1", "net/ipv4/conf/up1/accept_local=1"}},
	{name: "no-loopback", rpFilter: 1, lines: []string{"addr flush dev lo scope global"}},
	{name: "rules", rpFilter: 1, lines: []string{
		"rule add pref 100 from 10.72.0.0/17 lookup 100",
		"rule add pref 110 iif cali1 to 10.66.0.0/17 lookup 101",
		"rule add pref 120 to 10.66.128.0/18 prohibit",
		"rule add pref 130 from 10.73.0.0/18 to 10.67.0.0/16 blackhole",
		"rule add pref 140 from 10.70.0.0/17 unreachable",
		"rule add pref 150 tos 0x10 lookup 102",
		"rule add pref 160 iif up1 goto 200",
		"rule add pref 170 to 10.68.0.0/24 lookup 101",
		"rule add pref 180 fwmark 7 prohibit",
		"rule add pref 190 not from 10.0.0.0/8 lookup 103",
		"rule add pref 200 lookup main suppress_prefixlength 16",
		"rule add pref 210 iif up0 lookup 102",
		"route add 10.67.0.0/17 via 10.1.0.3 dev up0 table 100",
		"route add throw 10.67.128.0/17 table 100",
		"route add unreachable 10.66.0.0/18 table 100",
		"route add default via 10.2.0.2 dev up1 table 101",
		"route add default via 10.1.0.3 dev up0 mtu 900 table 102",
		"route add 10.65.0.20 dev cali1 table 102",
		"route add blackhole 10.65.0.11 table 103"}},
	{name: "tos", rpFilter: 0, defaults: true, lines: []string{
		"route add 10.66.0.0/17 tos 0x10 via 10.2.0.2 dev up1",
		"route add 10.66.0.0/17 tos 0x08 via 10.65.0.20 dev cali1 onlink",
		"route add 10.66.0.0/17 tos 0x08 metric 5 via 10.2.0.2 dev up1",
		"route add 10.66.0.0/17 tos 0x50 via 10.65.0.10 dev cali0 onlink", // matches nothing
		"route add 10.66.128.0/18 tos 0x04 via 10.2.0.2 dev up1",          // else 10.66.128.0/17
		"route add 10.67.0.0/17 tos 0x0c via 10.1.0.3 dev up0 metric 7",   // else 10.67.0.0/16
		"route add blackhole 10.67.0.0/17 tos 0x1c metric 7",
		"route add unreachable 10.65.0.21 tos 0x10",
		"route add prohibit 10.70.0.0/17 tos 0x14",
		"route add throw 10.70.0.0/17 tos 0x18",
		"route add 10.73.0.0/17 tos 0x10 via 10.1.0.3 dev up0",
		"route add 10.72.0.0/17 tos 0x10 via 10.1.0.3 dev up0",
		"route add default tos 0x10 via 10.2.0.2 dev up1",
		"route add default via 10.2.0.2 dev up1 table default"}},
	{name: "upper", rpFilter: 1, lines: []string{
		"rule add pref 90 to 10.65.0.11 lookup 103",
		"rule add pref 100 ipproto udp dport 1-30000 to 10.66.0.0/16 lookup 101",
		"rule add pref 110 ipproto tcp sport 40000-65534 to 10.66.0.0/16 lookup 101",
		"rule add pref 120 sport 1-20000 to 10.73.0.0/16 lookup 101",
		"rule add pref 130 ipproto icmp dport 769 to 10.72.0.0/17 lookup 104", // host unreachable, by this host
		"rule add pref 140 ipproto icmp to 10.67.0.0/17 prohibit",
		"rule add pref 150 not ipproto udp to 10.66.0.0/16 lookup 105",
		"rule add pref 160 iif lo ipproto icmp to 10.73.0.0/17 lookup 104",
		"rule add pref 170 uidrange 0-5 to 10.70.0.0/17 lookup 101",
		"rule add pref 180 uidrange 1-5 prohibit",
		"rule add pref 190 ipproto 50 sport 1-32768 lookup 102",
		"rule add pref 195 l3mdev",
		"rule add pref 200 lookup main suppress_prefixlength 24 suppress_ifgroup 7",
		"rule add pref 210 lookup main suppress_prefixlength 16",
		"rule add pref 220 iif cali1 to 10.68.0.0/16 lookup 102",
		"link set cali1 group 7",
		"route add default via 10.2.0.2 dev up1 table 101",
		"route add default via 10.1.0.3 dev up0 mtu 900 table 102",
		"route add blackhole 10.65.0.11 table 103",
		"route add default via 10.1.0.5 dev up0 table 104",
		"route add 10.67.192.0/18 via 10.2.0.5 dev up1 table 105"}},
	// What no packet to or from a pod has to do with, the kernel goes on forwarding.
	{name: "others", rpFilter: 1, both: true},
	{name: "others-loose", rpFilter: 0, both: true, noRoute: true, lines: []string{
		"rule add pref 100 from 10.72.0.0/17 lookup 100", // what can't be told from a destination
		"rule add pref 110 to 10.67.0.0/17 fwmark 7 lookup 100",
		"route add default via 10.1.0.3 dev up0 table 100",
		"route replace 10.66.0.0/16 nexthop via 10.65.0.10 dev cali0 onlink nexthop via 10.65.0.10 dev cali0 onlink weight 3",
		"route add 10.68.1.0/25 dev lo"}, looped: netip.MustParsePrefix("10.68.1.0/25")},
	{name: "bare", rpFilter: 1, bare: true},
	{name: "bare-both", rpFilter: 0, bare: true, both: true},
	// An uplink without route and address, which only receives.
	{name: "receives", rpFilter: 0, lines: []string{"addr flush dev up1"}},
	{name: "receives-both", rpFilter: 0, both: true, lines: []string{"addr flush dev up1"}},
	{name: "elsewhere", rpFilter: 0, lines: []string{
		"route add local 10.66.32.0/19 dev lo table main",
		"route add local 10.66.64.0/18 dev lo",
		"rule add pref 100 from 10.72.0.0/17 lookup 100",
		"rule add pref 110 tos 0x10 lookup 101",
		"route add local 10.69.3.0/24 dev lo table 100",
		"route add broadcast 10.70.0.0/17 dev lo table 101",
		"route add 10.68.2.0/25 dev lo"}, looped: netip.MustParsePrefix("10.68.2.0/25"),
		delivered: []netip.Prefix{netip.MustParsePrefix("10.66.32.0/19"), netip.MustParsePrefix("10.66.64.0/18"), netip.MustParsePrefix("10.69.3.0/24")}},
	{name: "no-carrier", rpFilter: 0, down: true},
	multipath("hash0", "0"),
	multipath("hash1", "1"),
	multipath("hash2", "2"),
	multipath("hash3", "3", "net/ipv4/fib_multipath_hash_fields=3303"),
}

// multipath is a world whose next hops are chosen by hash. With a seed of the
// operator's own (fib_multipath_hash_seed) both hosts have to choose the same.
func multipath(name, policy string, sysctls ...string) world {
	return world{name: name, rpFilter: 2, sysctls: append([]string{
		"net/ipv6/conf/all/disable_ipv6=0", "net/ipv4/fib_multipath_hash_seed=305419896", "net/ipv4/fib_multipath_hash_policy=" + policy}, sysctls...),
		lines: []string{
			"route replace 10.66.0.0/16 nexthop via 10.1.0.2 dev up0 weight 3 nexthop via 10.2.0.2 dev up1 weight 1 nexthop via 10.1.0.3 dev up0 weight 4",
			"route add 10.67.0.0/17 nexthop via 10.2.0.2 dev up1 nexthop via 10.1.0.9 dev up0 weight 200",
			"route replace 10.73.0.0/16 nexthop via 10.65.0.20 dev cali1 onlink nexthop via 10.1.0.6 dev up0"},
		objects: []string{
			"nexthop add id 1 via 10.1.0.4 dev up0",
			"nexthop add id 2 via 10.2.0.5 dev up1",
			"nexthop add id 3 via 10.65.0.20 dev cali1 onlink",
			"nexthop add id 4 blackhole",
			"neigh add fe80::5 lladdr 02:60:00:00:00:05 dev cali1 nud permanent",
			"neigh add fe80::6 lladdr 02:60:00:00:00:06 dev up0 nud permanent",
			"nexthop add id 5 via fe80::5 dev cali1",
			"nexthop add id 6 via 10.1.0.8 dev up0",
			"neigh replace 10.2.0.250 dev up1 nud failed extern_learn",
			"nexthop add id 7 via 10.2.0.250 dev up1",
			"nexthop add id 10 group 1,5/2,2/5,1/3,1/6,250",
			"nexthop add id 11 group 1/2",
			"nexthop replace id 10 group 1,5/7,4/2,2/5,3/3,1",
			"route replace 172.16.0.0/12 nhid 10",
			"route add 10.70.0.0/17 nhid 11",
			"nexthop del id 1",
			"route add 10.66.64.0/18 via inet6 fe80::6 dev up0",
			"route add 10.67.64.0/18 nexthop via inet6 fe80::5 dev cali1 nexthop via 10.1.0.9 dev up0",
			"route add 10.68.3.0/24 nhid 4"}}
}

// Addresses that the generator speaks of.
var (
	podAddrs = [][]addr{pod0: {ip("10.65.0.10"), ip("10.65.0.11")}, pod1: {ip("10.65.0.20"), ip("10.65.0.21")}}
	hostOwn  = []addr{ip("10.1.0.1"), ip("10.2.0.1"), ip("10.2.0.9"), ip("10.2.5.1"), ip("10.65.0.1")}
)

type addr = [4]byte

func ip(s string) addr { return netip.MustParseAddr(s).As4() }

// gatewayNet is the subnet of up0. All its stations are known neighbours, so
// that each frame that deserves a redirect can come from one that has not had any.
const (
	up0Hosts   = 4096
	up0Subnet  = "10.1.0.0/20"
	poolBegins = 256 // stations below are spoken of by all classes
)

func up0Station(n int) addr { return addr{10, 1, byte(n >> 8), byte(n)} }

// routes is what `ip route add` gets.
var routes = []string{
	"10.65.0.10/32 dev cali0 scope link",
	"10.65.0.11/32 dev cali0 scope link",
	"10.65.0.20/32 dev cali1 scope link",
	"10.65.0.21/32 dev cali1 scope link mtu 1200",
	"10.72.0.0/16 via 10.65.0.10 dev cali0 onlink",
	"10.73.0.0/16 via 10.65.0.20 dev cali1 onlink",
	"10.66.0.0/16 via 10.1.0.2 dev up0",
	"10.66.128.0/17 via 10.1.0.3 dev up0",
	"10.67.0.0/16 via 10.2.0.2 dev up1",
	"10.68.0.0/24 via 10.1.0.2 dev up0 mtu 600",
	"10.68.1.0/24 via 10.1.0.3 dev up0 mtu lock 800",
	"10.68.2.0/24 via 10.1.0.2 dev up0 mtu 68",
	"blackhole 10.69.0.0/24",
	"unreachable 10.69.1.0/24",
	"prohibit 10.69.2.0/24",
	"throw 10.69.3.0/24",
	"10.70.0.0/16 via 10.1.0.2 dev up0 src 10.2.0.1",
	"172.16.0.0/12 via 10.2.0.2 dev up1",
}

// Prefixes by what their route is. Those of senders are wide: the kernel
// allows each sender but a few errors a second (net.ipv4.route.error_cost),
// whatever the settings of ICMP say.
var (
	behind   = []addr{pod0: ip("10.72.0.0"), pod1: ip("10.73.0.0")}
	remoteA  = []addr{ip("10.66.0.0"), ip("10.66.128.0"), ip("10.70.0.0")} // by up0
	remoteB  = []addr{ip("10.67.0.0"), ip("172.16.0.0")}                   // by up1
	narrow   = []addr{ip("10.68.0.0"), ip("10.68.1.0"), ip("10.68.2.0")}   // by up0, with an MTU
	unrouted = []addr{ip("10.69.0.0"), ip("10.69.1.0"), ip("10.69.2.0"), ip("10.69.3.0"), ip("198.51.100.0")}
)

// batch is what `ip -batch` gets to make the host, its stations in the
// namespace stations under names that begin with prefix.
func (w *world) batch(stations, prefix string) string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	b.WriteString(w.links(stations, prefix))
	if w.ipv6 {
		w.batch6(say)
		return b.String()
	}
	say("addr add 10.65.0.1/32 dev lo")
	say("addr add 10.1.0.1/20 dev up0")
	say("addr add 10.2.0.1/24 dev up1")
	say("addr add 10.2.0.9/24 dev up1")
	say("addr add 10.2.5.1/24 dev up1")
	for _, p := range ports {
		say("link set %s up", p.name)
	}
	for _, r := range routes {
		say("route add %s", r)
	}
	if !w.noRoute {
		say("route add default via 10.1.0.2 dev up0")
	}
	for i, addrs := range podAddrs {
		for _, a := range addrs {
			neighbour(say, i, a)
		}
	}
	for n := range up0Hosts - 1 {
		if n != 1 && !(w.dynamic && n>>8 == 15) {
			neighbour(say, up0, up0Station(n))
		}
	}
	for n := range 255 {
		if w.bare {
			break // nobody is resolved there
		}
		if n != 1 && n != 9 {
			neighbour(say, up1, addr{10, 2, 0, byte(n)})
		}
		if n != 1 && !w.dynamic {
			neighbour(say, up1, addr{10, 2, 5, byte(n)})
		}
	}
	for _, line := range w.lines {
		say("%s", line)
	}
	return b.String()
}

func neighbour(say func(string, ...any), port int, a addr) {
	say("neigh add %s lladdr %s dev %s nud permanent", netip.AddrFrom4(a), macString(stationMAC(port, a)), ports[port].name)
}

// stationMAC is the link-layer address of whoever has an address.
func stationMAC(port int, a addr) [6]byte { return [6]byte{2, byte(port), a[0], a[1], a[2], a[3]} }

func macString(m [6]byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// settings are the sysctls of a host, in the order in which they are written.
func (w *world) settings(forwards bool) []string {
	if w.ipv6 {
		return w.settings6(forwards)
	}
	forwarding := "0"
	if forwards {
		forwarding = "1"
	}
	all := []string{
		"net/ipv4/ip_forward=" + forwarding,
		"net/ipv4/icmp_ratelimit=0",
		"net/ipv4/icmp_ratemask=0",
		"net/ipv4/icmp_msgs_per_sec=10000000",
		"net/ipv4/icmp_msgs_burst=10000000",
		"net/ipv4/ip_default_ttl=64",
		"net/ipv4/ipfrag_time=3600", // no errors about fragments for the host, half a minute later
		fmt.Sprintf("net/ipv4/icmp_errors_use_inbound_ifaddr=%d", bit(w.inbound)),
		"net/ipv4/conf/all/rp_filter=0",
	}
	for _, which := range []string{"all", "default"} {
		for _, s := range []string{"send_redirects=1", "shared_media=1", "accept_source_route=0", "accept_local=0", "route_localnet=0", "log_martians=0"} {
			all = append(all, "net/ipv4/conf/"+which+"/"+s)
		}
	}
	for _, p := range ports {
		base := "net/ipv4/conf/" + p.name + "/"
		all = append(all, base+"forwarding="+forwarding, fmt.Sprintf("%srp_filter=%d", base, w.rpFilter),
			base+"send_redirects=1", base+"shared_media=1", base+"accept_source_route=0")
	}
	return append(all, w.sysctls...)
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
