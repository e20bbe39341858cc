package conntrack

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
)

func sh(t *testing.T, line string) {
	t.Helper()
	args := strings.Fields(line)
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// TestFollow has the kernel translate flows, before a Mirror is there and after, and end them.
func TestFollow(t *testing.T) {
	nstest.Enter(t)
	nstest.Need(t, "ip", "nft")
	for _, line := range []string{
		"ip link set lo up", "ip address add 10.65.0.2/32 dev lo", "ip address add 10.65.0.9/32 dev lo", "ip route add 10.96.0.0/12 dev lo",
		"nft add table ip nat", "nft add chain ip nat out { type nat hook output priority -100 ; }",
		"nft add chain ip nat post { type nat hook postrouting priority 100 ; }",
		"nft add rule ip nat out ip daddr 10.96.0.10 dnat to 10.65.0.9",
		"nft add rule ip nat out ip daddr 10.96.0.11 dnat to 10.65.0.9",
		"nft add rule ip nat post ct original daddr 10.96.0.11 snat to 10.65.0.77",
		"ip address add fd65::2/128 dev lo", "ip address add fd65::9/128 dev lo", "ip route add fd96::/112 dev lo",
		"nft add table ip6 nat", "nft add chain ip6 nat out { type nat hook output priority -100 ; }",
		"nft add rule ip6 nat out ip6 daddr fd96::a dnat to fd65::9",
	} {
		sh(t, line)
	}
	send := func(port int, to string) {
		t.Helper()
		from := netip.MustParseAddr("10.65.0.2")
		if netip.MustParseAddrPort(to).Addr().Is6() {
			from = netip.MustParseAddr("fd65::2")
		}
		c, err := net.DialUDP("udp", &net.UDPAddr{IP: from.AsSlice(), Port: port}, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to)))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	client, client6 := netip.MustParseAddr("10.65.0.2"), netip.MustParseAddr("fd65::2")
	end := func(port uint16) End { return End{client, unix.IPPROTO_UDP, port} }
	end6 := func(port uint16) End { return End{client6, unix.IPPROTO_UDP, port} }

	send(4000, "10.96.0.10:53") // before
	send(4001, "10.65.0.9:53")  // is not translated
	send(4002, "10.96.0.11:53") // its answers are for somebody else
	send(4000, "[fd96::a]:53")
	send(4001, "[fd65::9]:53")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	listed := map[string]int{}
	if err := List(ctx, func(from, to netip.Addr) { listed[from.String()+" "+to.String()]++ }); err != nil {
		t.Fatal(err)
	}
	if len(listed) != 3 || listed["10.65.0.2 10.96.0.10"] != 1 || listed["fd65::2 fd96::a"] != 1 || listed["10.65.0.2 10.96.0.11"] != 1 {
		t.Errorf("listed %v", listed)
	}
	var o told
	cfg := o.config(100)
	cfg.IPv6 = true
	m, err := Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if len(o.ends) != 4 || !o.ends[end(4000)] || !o.ends[End{Addr: client}] || !o.ends[end6(4000)] || !o.ends[End{Addr: client6}] || len(o.hears) != 1 || !o.hears[0] {
		t.Fatalf("at the start: %v, told %v", o.ends, o.hears)
	}
	// Run on this thread, which is in the namespace, until there is what is waited for.
	until := func(what string, ok func() bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		set := m.cfg.Set
		m.cfg.Set = func(e End, has bool) error {
			err := set(e, has)
			if ok() {
				cancel()
			}
			return err
		}
		if err := m.Run(ctx); err != nil {
			t.Fatal(err)
		}
		m.cfg.Set = set
		if !ok() {
			t.Fatalf("%s: %v", what, o.ends)
		}
	}
	send(4003, "10.65.0.9:53")
	send(4004, "10.96.0.11:53")
	send(4005, "10.96.0.10:53")
	until("a flow that begins", func() bool { return o.ends[end(4005)] })
	send(4006, "[fd96::a]:53")
	until("a flow of IPv6 that begins", func() bool { return o.ends[end6(4006)] })
	if len(o.ends) != 6 {
		t.Errorf("%v", o.ends)
	}
	// Those that began before anybody listened end without an event, and the next dump says so.
	if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
		t.Fatal(err)
	}
	until("flows that end", func() bool { return !o.ends[end(4005)] && !o.ends[end6(4006)] })
	if err := m.resync(ctx); err != nil {
		t.Fatal(err)
	}
	if len(o.ends) > 0 {
		t.Errorf("left: %v", o.ends)
	}
}

// plan is the addresses of one family that flows are between.
type plan struct {
	nft               string // the family's name in nftables
	client, server    string // addresses of the host
	services, service string // a prefix, and a service in it
}

var (
	plan4 = plan{"ip", "10.65.0.2", "10.65.0.9", "10.96.0.0/12", "10.96.0.10"}
	plan6 = plan{"ip6", "fd00:65::2", "fd00:65::9", "fd00:96::/64", "fd00:96::10"}
)

// TestEcho has the kernel translate an echo request, whose identifier stands for the port.
func TestEcho(t *testing.T) {
	for _, p := range []plan{plan4, plan6} {
		t.Run(p.nft, func(t *testing.T) {
			nstest.Enter(t)
			nstest.Need(t, "ip", "nft", "ping")
			for _, line := range []string{
				"ip link set lo up", "ip address add " + p.client + " dev lo", "ip address add " + p.server + " dev lo", "ip route add " + p.services + " dev lo",
				"nft add table " + p.nft + " nat", "nft add chain " + p.nft + " nat out { type nat hook output priority -100 ; }",
				"nft add rule " + p.nft + " nat out " + p.nft + " daddr " + p.service + " dnat to " + p.server,
				"ping -n -c 1 -W 5 -e 4711 -I " + p.client + " " + p.service,
			} {
				sh(t, line)
			}
			proto := uint8(unix.IPPROTO_ICMP)
			if p == plan6 {
				proto = unix.IPPROTO_ICMPV6
			}
			var o told
			cfg := o.config(100)
			cfg.IPv6 = true
			m, err := Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			client := netip.MustParseAddr(p.client)
			if len(o.ends) != 2 || !o.ends[End{client, proto, 4711}] || !o.ends[End{Addr: client}] {
				t.Errorf("%v", o.ends)
			}
			cfg.IPv6 = false // what nobody asks for
			only, err := Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer only.Close()
			if has := len(only.ends) > 0; has != (p == plan4) {
				t.Errorf("of IPv4 alone: %v", only.ends)
			}
		})
	}
}

// FuzzParse reads messages that no kernel writes.
func FuzzParse(f *testing.F) {
	attribute := func(typ uint16, v []byte) []byte {
		b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(v)))
		b = append(binary.NativeEndian.AppendUint16(b, typ), v...)
		return append(b, make([]byte, -len(b)&3)...)
	}
	tuple := func(typ uint16, src, dst byte) []byte {
		ip := append(attribute(1, []byte{10, 65, 0, src}), attribute(2, []byte{10, 65, 0, dst})...)
		proto := append(attribute(1, []byte{17}), append(attribute(2, []byte{1, 2}), attribute(3, []byte{3, 4})...)...)
		return attribute(typ|unix.NLA_F_NESTED, append(attribute(1|unix.NLA_F_NESTED, ip), attribute(2|unix.NLA_F_NESTED, proto)...))
	}
	m := []byte{unix.AF_INET, 0, 0, 0}
	m = append(append(m, tuple(1, 2, 3)...), tuple(2, 4, 2)...)
	m = append(append(m, attribute(3, []byte{0, 0, 0, statusDstNAT})...), attribute(12, []byte{0, 0, 0, 7})...)
	if got, ok := parse(m); !ok || got != (flow{7, netip.MustParseAddr("10.65.0.2"), 17, 0x102, 0x304, netip.MustParseAddr("10.65.0.3"), false}) {
		f.Fatalf("%+v, %v", got, ok)
	}
	f.Add(m)
	f.Add(m[:20])
	long := func(last byte) []byte {
		return append([]byte{0x20, 0x01, 0x0d, 0xb8}, append(make([]byte, 11), last)...)
	}
	tuple6 := func(typ uint16, src, dst byte) []byte {
		ip := append(attribute(3, long(src)), attribute(4, long(dst))...)
		proto := append(attribute(1, []byte{58}), attribute(7, []byte{1, 2})...)
		return attribute(typ|unix.NLA_F_NESTED, append(attribute(1|unix.NLA_F_NESTED, ip), attribute(2|unix.NLA_F_NESTED, proto)...))
	}
	m = []byte{unix.AF_INET6, 0, 0, 0}
	m = append(append(m, tuple6(1, 2, 3)...), tuple6(2, 4, 2)...)
	m = append(append(m, attribute(3, []byte{0, 0, 0, statusDstNAT})...), attribute(12, []byte{0, 0, 0, 8})...)
	if got, ok := parse(m); !ok || got != (flow{8, netip.MustParseAddr("2001:db8::2"), 58, 0x102, 0x102, netip.MustParseAddr("2001:db8::3"), false}) {
		f.Fatalf("%+v, %v", got, ok)
	}
	f.Add(m)
	f.Fuzz(func(t *testing.T, m []byte) {
		if got, ok := parse(m); ok && !got.client.IsValid() {
			t.Errorf("%+v", got)
		}
	})
}
