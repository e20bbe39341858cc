package differential

import (
	"fmt"
	"net/netip"
	"strings"
)

// dynamic has next hops that the hosts have to ask for, on interfaces with other
// settings each: up1 has the kernel's defaults, up0 is quick and holds little,
// cali1 asks nobody.
var dynamic = world{name: "dynamic", rpFilter: 0, dynamic: true, sysctls: []string{
	"net/ipv4/neigh/up1/mcast_solicit=3", "net/ipv4/neigh/up1/retrans_time_ms=1000",
	"net/ipv4/neigh/up0/mcast_solicit=2", "net/ipv4/neigh/up0/retrans_time_ms=300",
	"net/ipv4/neigh/up0/delay_first_probe_time=1", "net/ipv4/neigh/up0/ucast_solicit=2",
	"net/ipv4/neigh/up0/unres_qlen_bytes=30000", "net/ipv4/neigh/up0/locktime=0",
	"net/ipv4/neigh/cali0/mcast_solicit=2", "net/ipv4/neigh/cali0/retrans_time_ms=300",
	"net/ipv4/neigh/cali1/mcast_solicit=0", "net/ipv4/neigh/cali1/app_solicit=0",
}, lines: []string{"route add 10.65.0.22 dev cali1", "route add 10.65.0.23 dev cali0"}}

// dynamic6 is dynamic for IPv6.
var dynamic6 = world{name: "v6-dynamic", ipv6: true, sysctls: settingsOf6(dynamic.sysctls),
	lines: []string{"route add fd00:65::22 dev cali1", "route add fd00:65::23 dev cali0"}}

// settingsOf6 are those settings of neighbours for IPv6.
func settingsOf6(sysctls []string) (all []string) {
	for _, s := range sysctls {
		all = append(all, strings.Replace(s, "net/ipv4/neigh/", "net/ipv6/neigh/", 1))
	}
	return all
}

// macOf is the MAC of a station of up0.
func macOf(a netip.Addr) [6]byte {
	if a.Is4() {
		return stationMAC(up0, a.As4())
	}
	return stationMAC6(up0, a.As16())
}

// plan is what the tests of neighbours speak of, in one family.
type plan struct {
	world, limited world
	sysctls        string                 // of neighbours
	sender         func(n int) netip.Addr // behind cali0
	far            netip.Addr             // behind up1
	// Next hops that nobody knows: of up1, of up0, which is quick and holds little, and
	// pods of cali0 and of cali1, on which nobody is asked for.
	dead               netip.Addr
	hop                func(n int) netip.Addr
	pod, silent, moves netip.Addr
	// own is the host's address on up0; asked is what a new station there asks for.
	own, asked netip.Addr
	data       []int    // bytes of datagrams that wait
	options    [][]byte // IP options, or those of a hop-by-hop header
}

// numbered gives addresses from a format.
func numbered(format string) func(n int) netip.Addr {
	return func(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf(format, n)) }
}

var plans = []plan{
	{
		world: dynamic, limited: limited, sysctls: "net/ipv4/neigh/",
		sender: numbered("10.72.3.%d"), far: netip.MustParseAddr("10.67.1.1"),
		dead: netip.MustParseAddr("10.2.5.101"), hop: numbered("10.1.15.%d"),
		pod: netip.MustParseAddr("10.65.0.23"), silent: netip.MustParseAddr("10.65.0.22"), moves: netip.MustParseAddr("10.65.0.24"),
		own: netip.MustParseAddr("10.1.0.1"), asked: netip.MustParseAddr("169.254.1.1"),
		data: []int{0, 72, 272, 572, 972, 1372},
		options: [][]byte{
			{7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0},
			{7, 39, 4, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36},
			{68, 20, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
			{1, 148, 4, 0, 0, 0, 0, 0},
		},
	},
	{
		world: dynamic6, limited: limited6, sysctls: "net/ipv6/neigh/",
		sender: numbered("fd00:72::3:%d"), far: netip.MustParseAddr("2001:db8:67::1:1"),
		dead: netip.MustParseAddr("2001:db8:2::1:65"), hop: numbered("2001:db8:1::f:%d"),
		pod: netip.MustParseAddr("fd00:65::23"), silent: netip.MustParseAddr("fd00:65::22"), moves: netip.MustParseAddr("fd00:65::24"),
		own: netip.MustParseAddr("2001:db8:1::1"), asked: netip.MustParseAddr("2001:db8:1::1"),
		data: []int{0, 72, 272, 572, 972, 1372},
		options: [][]byte{
			{1, 4, 0, 0, 0, 0},
			{5, 2, 0, 0},
			{0x1e, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0},
		},
	},
}
