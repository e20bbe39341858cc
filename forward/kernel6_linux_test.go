package forward

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

// kernel6 is Linux as a router of IPv6, in the test's namespace: in by one veth, out by
// another, over whose peers the test sends and sees what comes of it.
type kernel6 struct {
	t         *testing.T
	near, far int   // packet sockets on the peers
	ifindex   int32 // of the near one
	in        int32 // the router's end of it
	header    []byte
}

// routerMark is the flow label of the packets that end a series.
const routerMark = 0xfffff

var (
	routerNear = netip.MustParseAddr("2001:db8::1").As16()
	routerFar  = netip.MustParseAddr("2001:db8:1::9").As16()
)

func newKernel6(t *testing.T) *kernel6 {
	t.Helper()
	nstest.Enter(t)
	for name, value := range map[string]string{
		"ipv6/conf/all/forwarding": "1", "ipv6/conf/default/accept_dad": "0", "ipv6/icmp/ratelimit": "0",
		"ipv4/icmp_msgs_per_sec": "1000000", "ipv4/icmp_msgs_burst": "1000000",
	} {
		if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil {
			nstest.Skip(t, "needs to set %s: %v", name, err)
		}
	}
	in, from := nstest.Veth(t, "in", "inp")
	out, to := nstest.Veth(t, "out", "outp")
	l, err := netlink.LinkByIndex(int(in))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"inp", "outp"} { // they must neither answer nor forward
		err = errors.Join(err, os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0))
	}
	for index, a := range map[int32][2]string{in: {"2001:db8::ff", "2001:db8::1"}, out: {"2001:db8:1::ff", "2001:db8:1::9"}} {
		own := &net.IPNet{IP: net.ParseIP(a[0]), Mask: net.CIDRMask(64, 128)}
		err = errors.Join(err, netlink.AddrAdd(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: int(index)}}, &netlink.Addr{IPNet: own, Flags: unix.IFA_F_NODAD}),
			netlink.NeighSet(&netlink.Neigh{LinkIndex: int(index), State: netlink.NUD_PERMANENT, IP: net.ParseIP(a[1]), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}}))
	}
	if err != nil {
		t.Fatal(err)
	}
	return &kernel6{t: t, near: packetSocket(t, from), far: packetSocket(t, to), ifindex: from, in: in,
		header: append(append([]byte(nil), l.Attrs().HardwareAddr...), 2, 0, 0, 0, 0, 1, 0x86, 0xdd)}
}

const ethIPv6 = 0xdd86 // ETH_P_IPV6, in network byte order on the hosts that there are

// packetSocket sends and receives frames of IPv6 on one interface.
func packetSocket(t *testing.T, ifindex int32) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		t.Cleanup(func() { _ = unix.Close(fd) })
		timeout := unix.NsecToTimeval(int64(10 * time.Second))
		err = errors.Join(unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: ethIPv6, Ifindex: int(ifindex)}),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20))
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// neighbour tells the router of one where packets come in.
func (k *kernel6) neighbour(a netip.Addr, mac wire.MAC) {
	k.t.Helper()
	if err := netlink.NeighSet(&netlink.Neigh{LinkIndex: int(k.in), State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: mac[:]}); err != nil {
		k.t.Fatal(err)
	}
}

// linkLocal waits for the link-local address of the interface where packets come in.
func (k *kernel6) linkLocal() netip.Addr {
	k.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		all, err := netlink.AddrList(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: int(k.in)}}, netlink.FAMILY_V6)
		if err != nil || time.Now().After(deadline) {
			k.t.Fatalf("no link-local address: %v", err)
		}
		for _, a := range all {
			if own, ok := netip.AddrFromSlice(a.IP); ok && own.IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TENTATIVE == 0 {
				return own
			}
		}
	}
}

// send sends a packet that bears the flow label to the router.
func (k *kernel6) send(p wire.IPv6, label uint32, hopLimit uint8) {
	k.t.Helper()
	wire.PutIPv6(p, p.TrafficClass(), label, p.PayloadLen(), p.NextHeader(), hopLimit, routerNear, routerFar)
	k.inject(p)
}

func (k *kernel6) inject(p wire.IPv6) {
	k.t.Helper()
	if err := unix.Sendto(k.near, append(append([]byte(nil), k.header...), p...), 0, &unix.SockaddrLinklayer{Ifindex: int(k.ifindex), Halen: 6, Protocol: ethIPv6}); err != nil {
		k.t.Fatal(err)
	}
}

// results sends the mark, and gives what has come of the packets before it, by their flow
// labels: those that were forwarded, and the ICMPv6 errors about those that were not.
func (k *kernel6) results() (forwarded, told map[uint32]wire.IPv6) {
	k.t.Helper()
	mark := make(wire.IPv6, wire.IPv6Len+8)
	mark.SetPayloadLen(8)
	mark[6] = 200
	k.send(mark, routerMark, 64)
	k.send(mark, routerMark, 1)
	receive := func(fd int, label func(p wire.IPv6) (uint32, bool)) map[uint32]wire.IPv6 {
		all, b := map[uint32]wire.IPv6{}, make([]byte, 2000)
		for {
			n, err := unix.Read(fd, b)
			if err != nil {
				k.t.Fatal(err)
			}
			p := append(wire.IPv6(nil), b[wire.EthernetLen:n]...)
			if l, ok := label(p); ok && l == routerMark {
				return all
			} else if ok {
				all[l] = p
			}
		}
	}
	forwarded = receive(k.far, func(p wire.IPv6) (uint32, bool) { return p.FlowLabel(), p.DstAddr() == netip.AddrFrom16(routerFar) })
	told = receive(k.near, func(p wire.IPv6) (uint32, bool) {
		msg := p.Payload()
		if p.NextHeader() != wire.ProtoICMPv6 || len(msg) < 8+wire.IPv6Len || msg[0] > 4 {
			return 0, false
		}
		return wire.IPv6(msg[8:]).FlowLabel(), true
	})
	return forwarded, told
}
