package differential

import (
	"fmt"
	"net/netip"
	"strings"
)

type addr6 = [16]byte

func ip6(s string) addr6 { return netip.MustParseAddr(s).As16() }

// Addresses that the generator speaks of in IPv6 worlds.
var (
	podAddrs6 = [][]addr6{pod0: {ip6("fd00:65::10"), ip6("fd00:65::11")}, pod1: {ip6("fd00:65::20"), ip6("fd00:65::21")}}
	hostOwn6  = []addr6{ip6("2001:db8:1::1"), ip6("2001:db8:2::1"), ip6("2001:db8:2::9"), ip6("fd00:2:5::1"), ip6("fd00:65::1")}
	// linkLocal6 are those that an interface gives itself by its MAC (RFC 4291 appendix A).
	linkLocal6 = []addr6{pod0: ip6("fe80::ecee:eeff:feee:eeee"), pod1: ip6("fe80::ecee:eeff:feee:eeee"), up0: ip6("fe80::aa:ff:fe00:1"), up1: ip6("fe80::aa:ff:fe00:2")}
)

// up0Hosts6 are the known neighbours of up0: frames that deserve a redirect come from
// one each.
const up0Hosts6 = 1024

func up0Station6(n int) addr6 {
	a := ip6("2001:db8:1::")
	a[14], a[15] = byte(n>>8), byte(n)
	return a
}

func up1Station6(net string, n int) addr6 {
	a := ip6(net)
	a[15] = byte(n)
	return a
}

// Prefixes by what their route is.
var (
	behind6   = []netip.Prefix{pod0: netip.MustParsePrefix("fd00:72::/32"), pod1: netip.MustParsePrefix("fd00:73::/32")}
	remoteA6  = prefixes("2001:db8:66::/49", "2001:db8:66:8000::/49", "2001:db8:70::/48") // by up0
	remoteB6  = prefixes("2001:db8:67::/48", "fd00:16::/32")                              // by up1
	narrow6   = prefixes("2001:db8:68::/64", "2001:db8:68:1::/64", "2001:db8:68:2::/64", "2001:db8:68:3::/64")
	unrouted6 = prefixes("2001:db8:69::/64", "2001:db8:69:1::/64", "2001:db8:69:2::/64", "2001:db8:69:3::/64", "3fff:51::/32")
)

func prefixes(all ...string) (ps []netip.Prefix) {
	for _, s := range all {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

// routes6 is what `ip -6 route add` gets.
var routes6 = []string{
	"fd00:65::10/128 dev cali0",
	"fd00:65::11/128 dev cali0",
	"fd00:65::20/128 dev cali1",
	"fd00:65::21/128 dev cali1 mtu 1400",
	"fd00:72::/32 via fd00:65::10 dev cali0 onlink",
	"fd00:73::/32 via fe80::20 dev cali1",
	"2001:db8:66::/48 via 2001:db8:1::2 dev up0",
	"2001:db8:66:8000::/49 via 2001:db8:1::3 dev up0",
	"2001:db8:67::/48 via 2001:db8:2::2 dev up1",
	"2001:db8:68::/64 via 2001:db8:1::2 dev up0 mtu 1280",
	"2001:db8:68:1::/64 via 2001:db8:1::3 dev up0 mtu lock 1400",
	"2001:db8:68:2::/64 via fe80::2 dev up0 mtu 1000", // less than the least of IPv6
	"2001:db8:68:3::/64 via fe80::2 dev up0 mtu 1350 hoplimit 33",
	"blackhole 2001:db8:69::/64",
	"unreachable 2001:db8:69:1::/64",
	"prohibit 2001:db8:69:2::/64",
	"throw 2001:db8:69:3::/64",
	"2001:db8:70::/48 via fe80::2 dev up0 src 2001:db8:2::1",
	"fd00:16::/32 via fe80::3 dev up1",
}

var worlds6 = []world{
	{name: "v6"},
	{name: "v6-no-route", noRoute: true},
	{name: "v6-settings", sysctls: []string{
		"net/ipv6/conf/all/hop_limit=77", "net/ipv6/conf/cali0/hop_limit=33", "net/ipv6/conf/up0/hop_limit=200",
		"net/ipv6/conf/cali1/accept_source_route=1", "net/ipv6/conf/up0/accept_source_route=0",
		"net/ipv6/max_hbh_opts_number=2", "net/ipv6/max_hbh_length=32", "net/ipv6/icmp/error_anycast_as_unicast=1"}},
	{name: "v6-unknown-options", sysctls: []string{"net/ipv6/max_hbh_opts_number=-3"}},
	{name: "v6-no-loopback", lines: []string{"addr flush dev lo scope global"}},
	{name: "v6-link-local-only", lines: []string{"addr del 2001:db8:1::1/64 dev up0", "addr flush dev up1 scope global"}},
	{name: "v6-rules", lines: []string{
		"rule add pref 100 from fd00:72::/33 lookup 100",
		"rule add pref 110 iif cali1 to 2001:db8:66::/49 lookup 101",
		"rule add pref 120 to 2001:db8:66:8000::/50 prohibit",
		"rule add pref 130 from fd00:73::/34 to 2001:db8:67::/48 blackhole",
		"rule add pref 140 from 2001:db8:70::/49 unreachable",
		"rule add pref 150 tos 0x10 lookup 102",
		"rule add pref 160 iif up1 goto 200",
		"rule add pref 170 to 2001:db8:68::/64 lookup 101",
		"rule add pref 180 fwmark 7 prohibit",
		"rule add pref 190 not from 2001:db8::/32 lookup 103",
		"rule add pref 200 lookup main suppress_prefixlength 48",
		"rule add pref 210 iif up0 lookup 102",
		"route add 2001:db8:67::/49 via 2001:db8:1::3 dev up0 table 100",
		"route add throw 2001:db8:67:8000::/49 table 100",
		"route add unreachable 2001:db8:66::/50 table 100",
		"route add default via 2001:db8:2::2 dev up1 table 101",
		"route add default via 2001:db8:1::3 dev up0 mtu 1290 table 102",
		"route add fd00:65::20 dev cali1 table 102",
		"route add blackhole fd00:65::11 table 103"}},
	{name: "v6-upper", lines: []string{
		"rule add pref 90 to fd00:65::11 lookup 103",
		"rule add pref 100 ipproto udp dport 1-30000 to 2001:db8:66::/48 lookup 101",
		"rule add pref 110 ipproto tcp sport 40000-65534 to 2001:db8:66::/48 lookup 101",
		"rule add pref 120 sport 1-20000 to fd00:73::/32 lookup 101",
		"rule add pref 130 ipproto ipv6-icmp dport 33025 to fd00:72::/33 lookup 104",
		"rule add pref 140 ipproto ipv6-icmp to 2001:db8:67::/49 prohibit",
		"rule add pref 150 not ipproto udp to 2001:db8:66::/48 lookup 105",
		"rule add pref 170 uidrange 0-5 to 2001:db8:70::/49 lookup 101",
		"rule add pref 190 ipproto 50 sport 1-32768 lookup 102",
		"rule add pref 200 lookup main suppress_prefixlength 64 suppress_ifgroup 7",
		"rule add pref 210 lookup main suppress_prefixlength 48",
		"rule add pref 220 iif cali1 to 2001:db8:68::/48 lookup 102",
		"link set cali1 group 7",
		"route add default via 2001:db8:2::2 dev up1 table 101",
		"route add default via 2001:db8:1::3 dev up0 mtu 1290 table 102",
		"route add blackhole fd00:65::11 table 103",
		"route add default via 2001:db8:1::5 dev up0 table 104",
		"route add 2001:db8:66:c000::/50 via 2001:db8:2::5 dev up1 table 105"}},
	{name: "v6-metrics", lines: []string{
		"route add 2001:db8:66::/48 via 2001:db8:2::2 dev up1 metric 5",
		"route add 2001:db8:67::/48 via 2001:db8:1::4 dev up0 metric 2000",
		"route add unreachable 2001:db8:67::/48 metric 3000",
		"route add prohibit 2001:db8:70::/48 metric 6",
		"route add default via 2001:db8:1::3 dev up0 metric 700",
		"route add default via fe80::3 dev up1 metric 800 pref high",
		"route add 2001:db8:69::/64 via fe80::20 dev cali1 metric 9",
		"route add local 2001:db8:66:20::/60 dev lo",
		"route add anycast 2001:db8:66:40::/60 dev lo",
		"route add 2001:db8:66:60::/60 dev lo"}}, // which is one of type unreachable
	{name: "v6-sources", lines: []string{
		"route add 2001:db8:66::/48 from fd00:72::/33 via 2001:db8:1::4 dev up0",
		"route add 2001:db8:67::/48 from fd00:65::/64 via fe80::4 dev up0",
		"route add default from fd00:73::/32 via fe80::2 dev up1",
		"route add unreachable 2001:db8:70::/48 from fd00:72:8000::/33",
		"route add fd00:65::20 from 2001:db8:66::/48 via fe80::20 dev cali1"}},
	// What no packet to or from a pod has to do with, the kernel goes on forwarding.
	{name: "v6-others", both: true},
	{name: "v6-others-rules", both: true, noRoute: true, sysctls: []string{"net/ipv4/fib_multipath_hash_seed=305419896"}, lines: []string{
		"rule add pref 100 from fd00:72::/33 lookup 100", // what can't be told from a destination
		"rule add pref 110 to 2001:db8:67::/49 fwmark 7 lookup 100",
		"route add default via 2001:db8:1::3 dev up0 table 100",
		"route add 2001:db8:70::/49 from fd00:73::/33 via fe80::20 dev cali1",
		"route replace 2001:db8:66::/48 nexthop via fd00:65::10 dev cali0 onlink nexthop via fe80::20 dev cali0 weight 3"}},
	{name: "v6-bare", bare: true},
	// An uplink without route and address, which only receives.
	{name: "v6-receives", lines: []string{"addr flush dev up1 scope global"}},
	// An MTU at which there is no IPv6.
	{name: "v6-narrow-port", deaf: true, objects: []string{"link set up1 mtu 1279"}},
	{name: "v6-disabled-port", deaf: true, sysctls: []string{"net/ipv6/conf/up1/disable_ipv6=1"}},
	{name: "v6-no-carrier", down: true},
	multipath6("v6-hash0", "0"),
	multipath6("v6-hash1", "1"),
	multipath6("v6-hash2", "2"),
	multipath6("v6-hash3", "3", "net/ipv6/fib_multipath_hash_fields=3311"),
}

func init() {
	for i := range worlds6 {
		worlds6[i].ipv6 = true
	}
}

// multipath6 is a world whose next hops are chosen by hash, with a seed of the
// operator's own, as multipath.
func multipath6(name, policy string, sysctls ...string) world {
	return world{name: name, sysctls: append([]string{
		"net/ipv4/fib_multipath_hash_seed=305419896", "net/ipv6/fib_multipath_hash_policy=" + policy}, sysctls...),
		lines: []string{
			"route replace 2001:db8:66::/48 nexthop via 2001:db8:1::2 dev up0 weight 3 nexthop via 2001:db8:2::2 dev up1 weight 1 nexthop via fe80::3 dev up0 weight 4",
			"route add 2001:db8:67::/49 nexthop via fe80::3 dev up1 nexthop via 2001:db8:1::9 dev up0 weight 200",
			"route replace fd00:73::/32 nexthop via fe80::20 dev cali1 nexthop via 2001:db8:1::6 dev up0"},
		objects: []string{
			"nexthop add id 1 via 2001:db8:1::4 dev up0",
			"nexthop add id 2 via 2001:db8:2::5 dev up1",
			"nexthop add id 3 via fe80::20 dev cali1",
			"nexthop add id 4 blackhole",
			"nexthop add id 6 via 2001:db8:1::8 dev up0",
			"nexthop add id 10 group 1/2,2/3,3/6,250",
			"nexthop add id 11 group 1/2",
			"nexthop replace id 10 group 1,5/2,2/3,3/6,250",
			"route replace fd00:16::/32 nhid 10",
			"route add 2001:db8:70::/49 nhid 11",
			"nexthop del id 1",
			"route add 2001:db8:68:1::/80 nhid 4",
			"route add 2001:db8:68:2::/80 nhid 6 mtu 1300"}}
}

// classes are those of which the world gets frames.
func (w *world) classes() []class {
	if w.ipv6 {
		return classes6
	}
	return classes
}

// mtu is that of a port.
func (w *world) mtu(port int) int {
	if w.ipv6 {
		return ports[port].mtu6
	}
	return ports[port].mtu
}

// batch6 is batch for IPv6. Link-local addresses are given to the interfaces at once, those that they would
// give themselves when their carrier has been noticed.
func (w *world) batch6(say func(format string, args ...any)) {
	say("addr add fd00:65::1/128 dev lo")
	for i, p := range ports {
		say("link set %s up", p.name)
		say("addr add %s/64 dev %s nodad", netip.AddrFrom16(linkLocal6[i]), p.name)
	}
	say("addr add 2001:db8:1::1/64 dev up0 nodad")
	say("addr add 2001:db8:2::1/64 dev up1 nodad")
	say("addr add 2001:db8:2::9/64 dev up1 nodad")
	say("addr add fd00:2:5::1/64 dev up1 nodad")
	for _, r := range routes6 {
		say("route add %s", r)
	}
	if !w.noRoute {
		say("route add default via fe80::2 dev up0")
	}
	for i, addrs := range podAddrs6 {
		for _, a := range append(addrs, ip6("fe80::20")) {
			neighbour6(say, i, a)
		}
	}
	for n := 2; n < up0Hosts6; n++ {
		neighbour6(say, up0, up0Station6(n))
	}
	for n := 2; n < 6; n++ {
		neighbour6(say, up0, up1Station6("fe80::", n))
	}
	for n := 2; n < 256 && !w.bare; n++ {
		if n != 9 {
			neighbour6(say, up1, up1Station6("2001:db8:2::", n))
		}
		neighbour6(say, up1, up1Station6("fd00:2:5::", n))
		neighbour6(say, up1, up1Station6("fe80::", n))
	}
	for _, line := range w.lines {
		say("%s", line)
	}
}

func neighbour6(say func(string, ...any), port int, a addr6) {
	say("neigh add %s lladdr %s dev %s nud permanent", netip.AddrFrom16(a), macString(stationMAC6(port, a)), ports[port].name)
}

// stationMAC6 is the link-layer address of whoever has an address.
func stationMAC6(port int, a addr6) [6]byte {
	return [6]byte{2, 0x60 | byte(port), a[1] ^ a[3], a[5] ^ a[7] ^ a[13], a[14], a[15]}
}

// before6 are the sysctls that are there when a host's interfaces come to be.
func before6() []string {
	var all []string
	for _, which := range []string{"all", "default"} {
		for _, s := range []string{"disable_ipv6=0", "accept_dad=0", "addr_gen_mode=1", "accept_ra=0", "accept_redirects=0", "router_solicitations=0"} {
			all = append(all, "net/ipv6/conf/"+which+"/"+s)
		}
	}
	return all
}

// settings6 is settings for IPv6. What the hosts send by themselves has no flow label:
// all frames have one. Nobody is asked for a MAC: errors that wait for one would use up
// the buffer of the kernel's ICMPv6 socket, which then drops others.
func (w *world) settings6(forwards bool) []string {
	all := []string{
		fmt.Sprintf("net/ipv6/conf/all/forwarding=%d", bit(forwards)),
		"net/ipv6/icmp/ratelimit=0",
		"net/ipv4/icmp_msgs_per_sec=10000000",
		"net/ipv4/icmp_msgs_burst=10000000",
		"net/ipv6/auto_flowlabels=0",
		"net/ipv6/flowlabel_reflect=0",
		"net/ipv6/ip6frag_time=3600", // no errors about fragments for the host, a minute later
	}
	for _, p := range ports {
		all = append(all, "net/ipv6/neigh/"+p.name+"/mcast_solicit=0", "net/ipv6/neigh/"+p.name+"/app_solicit=0")
	}
	return append(all, w.sysctls...)
}

func (w *world) links(stations, prefix string) string {
	var b strings.Builder
	for i, p := range ports {
		if i == up1 && w.bare {
			fmt.Fprintf(&b, "link set %s mtu %d\n", p.name, w.mtu(i))
			continue
		}
		fmt.Fprintf(&b, "link add name %s mtu %d address %s type veth peer name %s%s mtu 65535 netns %s\n",
			p.name, w.mtu(i), macString(p.mac), prefix, p.name, stations)
	}
	return b.String()
}
