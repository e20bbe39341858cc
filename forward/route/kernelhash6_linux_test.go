package route

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

// TestKernelMultipath6 has the kernel forward packets by a multipath route, with each
// policy of its hash, and compares the next hops with Decide6's: fragments, extension
// headers, tunnels, ICMPv6 errors.
func TestKernelMultipath6(t *testing.T) {
	nstest.Need(t, "ip")
	seed := uint64(time.Now().UnixNano())
	for policy := range uint8(4) {
		for _, fields := range []uint32{7, 0x33f, 0x3f, 0xfc0} {
			if policy != 3 && fields != 7 {
				continue
			}
			for _, dissect := range []bool{false, true} {
				t.Run(fmt.Sprintf("policy %d fields %#x dissect %v", policy, fields, dissect), func(t *testing.T) {
					nstest.Enter(t)
					t.Logf("seed %d", seed)
					h := newHashHost(t, rand.New(rand.NewPCG(seed, uint64(policy))), policy, fields, dissect)
					h.compare(t)
				})
			}
		}
	}
}

// hashHost is a kernel that forwards from in to the ways, and the table of it.
type hashHost struct {
	rng   *rand.Rand
	table *Table
	in    *Link
	mac   net.HardwareAddr
	fd    int
	from  int32 // the other end of in
}

const hashWays = 4

// newHashHost makes it. dissect has a rule look at ports, and so the kernel at headers before it
// looks for a route.
func newHashHost(t *testing.T, rng *rand.Rand, policy uint8, fields uint32, dissect bool) *hashHost {
	h := &hashHost{rng: rng}
	conf := DefaultHostConf
	conf.HashSeed, conf.V6.HashPolicy, conf.V6.HashFields = rng.Uint32()>>1, policy, fields
	for path, value := range map[string]uint32{"ipv6/conf/all/forwarding": 1, "ipv6/conf/default/addr_gen_mode": 1, "ipv6/conf/default/accept_dad": 0,
		"ipv4/fib_multipath_hash_seed": conf.HashSeed, "ipv6/fib_multipath_hash_policy": uint32(policy), "ipv6/fib_multipath_hash_fields": fields} {
		if err := os.WriteFile("/proc/sys/net/"+path, []byte(fmt.Sprint(value)), 0); err != nil {
			nstest.Skip(t, "settings of a network namespace: %v", err)
		}
	}
	b := NewBuilder(Policy{IPv6: true, Transit: true})
	b.SetHost(conf)
	in, from := nstest.Veth(t, "in", "source")
	h.from = from
	l, err := netlink.LinkByIndex(int(in))
	if err != nil {
		t.Fatal(err)
	}
	h.mac = l.Attrs().HardwareAddr
	b.SetLink(Link{Ifindex: in, Name: "in", Flags: LinkUp | LinkUplink, MTU6: 1500})
	route := Route{Table: TableMain, Type: TypeUnicast}
	command := "route add ::/0"
	batch := ""
	for i := range hashWays {
		name := fmt.Sprintf("way%d", i)
		index, _ := nstest.Veth(t, name, "end"+name)
		b.SetLink(Link{Ifindex: index, Name: name, Flags: LinkUp | LinkUplink, MTU6: 1500})
		nh := Nexthop{Ifindex: index, Weight: 1 + i%2, Gateway: netip.MustParseAddr("fe80::99")}
		route.Nexthops = append(route.Nexthops, nh)
		command += fmt.Sprintf(" nexthop via fe80::99 dev %s weight %d", name, nh.Weight)
		batch += fmt.Sprintf("neigh add fe80::99 lladdr 02:00:00:00:00:99 dev %s nud permanent\n", name)
	}
	if dissect {
		batch += "rule add pref 1 dport 1 table 100\n"
		b.SetRules(IPv6, []Rule{{Action: RuleToTable, Table: TableLocal, SuppressPrefixLen: -1},
			{Priority: 1, Action: RuleToTable, Table: 100, DPort: PortMatch{Low: 1, High: 1}, SuppressPrefixLen: -1},
			{Priority: 32766, Action: RuleToTable, Table: TableMain, SuppressPrefixLen: -1}})
	}
	cmd := exec.Command("ip", "-6", "-batch", "-")
	cmd.Stdin = strings.NewReader(batch + command)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.SetRoutes(TableMain, everythingV6, []Route{route})
	h.table = b.Publish()
	h.in = h.table.Link(in)
	all := uint16(unix.ETH_P_ALL)
	h.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(all<<8|all>>8))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(h.fd) })
	if err := unix.SetsockoptTimeval(h.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *hashHost) compare(t *testing.T) {
	used := map[int32]int{}
	for range 150 {
		ip := h.packet()
		var d Decision
		h.table.Decide6(ip, len(ip), h.in, &d)
		if d.Nexthop == nil {
			t.Fatalf("%+v", d)
		}
		got := h.forwarded(t, ip)
		if used[got]++; got != d.Nexthop.Ifindex {
			t.Fatalf("% x\nby %d, the kernel: by %d", ip, d.Nexthop.Ifindex, got)
		}
	}
	if t.Log(used); len(used) < 2 && h.table.host.V6.HashFields != 0xfc0 {
		t.Error("all took one way")
	}
}

// forwarded has the kernel forward a packet, and gives the interface that it leaves by.
func (h *hashHost) forwarded(t *testing.T, ip []byte) int32 {
	t.Helper()
	if err := unix.Sendto(h.fd, ip, 0, h.to()); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2048)
	for {
		n, from, err := unix.Recvfrom(h.fd, b, 0)
		if err != nil {
			t.Fatalf("nothing left: %v", err)
		}
		ll := from.(*unix.SockaddrLinklayer)
		if ll.Pkttype == unix.PACKET_OUTGOING && int32(ll.Ifindex) != h.from && n == len(ip) && string(b[8:n]) == string(ip[8:]) {
			return int32(ll.Ifindex)
		}
	}
}

// to is where packets are sent for the kernel to forward them.
func (h *hashHost) to() *unix.SockaddrLinklayer {
	const typeIPv6 = uint16(unix.ETH_P_IPV6&0xff)<<8 | unix.ETH_P_IPV6>>8
	to := &unix.SockaddrLinklayer{Protocol: typeIPv6, Ifindex: int(h.from), Halen: 6}
	copy(to.Addr[:], h.mac)
	return to
}

// packet draws a packet that is forwarded.
func (h *hashHost) packet() []byte {
	ip := h.header(h.payload(3))
	ip[7] = 64
	return ip
}

// header puts an IPv6 header before a payload, whose first byte is its protocol.
func (h *hashHost) header(payload []byte) []byte {
	ip := make([]byte, wire.IPv6Len, 200)
	src, dst := [16]byte{0x20, 15: byte(h.rng.IntN(40))}, [16]byte{0x20, 1, 15: byte(h.rng.IntN(40))}
	wire.PutIPv6(ip, byte(h.rng.UintN(256)), h.rng.Uint32()>>12*h.rng.Uint32N(2), len(payload)-1, payload[0], 9, src, dst)
	return append(ip, payload[1:]...)
}

// payload draws what follows an IP header, its protocol first.
func (h *hashHost) payload(depth int) []byte {
	l4 := make([]byte, 24)
	binary.BigEndian.PutUint32(l4, h.rng.Uint32())
	kind := h.rng.IntN(9)
	if depth == 0 {
		kind %= 4
	}
	switch kind {
	case 0, 1:
		return append([]byte{wire.ProtoUDP}, l4...)
	case 2:
		return append([]byte{wire.ProtoTCP}, l4...)
	case 3:
		return append([]byte{wire.ProtoICMPv6}, append([]byte{128, 0}, l4...)...)
	case 4: // an ICMPv6 error
		return append([]byte{wire.ProtoICMPv6, byte(1 + h.rng.IntN(5)), 0, 0, 0, 0, 0, 0, 0}, h.header(h.payload(0))...)
	case 5: // an IPv6 packet
		return append([]byte{wire.ProtoIPv6}, h.header(h.payload(depth-1))...)
	case 6: // an IPv4 packet
		ip := make([]byte, wire.IPv4MinLen)
		wire.PutIPv4(ip, 0, len(ip)+len(l4), 1, 0, 64, wire.ProtoUDP, [4]byte{10, 0, 0, byte(h.rng.IntN(40))}, [4]byte{10, 0, 1, byte(h.rng.IntN(40))})
		return append(append([]byte{4}, ip...), l4...)
	case 7: // destination options, of padding
		inner := h.payload(0)
		return append([]byte{wire.ProtoDestOpts, inner[0], 0, 1, 4, 0, 0, 0, 0}, inner[1:]...)
	}
	inner := h.payload(0)
	offset := byte(h.rng.IntN(2)) // the first fragment, or a later one
	return append([]byte{wire.ProtoFragment, inner[0], 0, 0, offset<<4 | 1, 0, 0, 0, 1}, inner[1:]...)
}
