package capture

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/wire"
)

// The frames that live captures are compared on: of each protocol that a filter
// expression can name.

func be16(v int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }

func join(parts ...[]byte) (all []byte) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func mac(t *testing.T, s string) []byte {
	t.Helper()
	m := labtest.MAC(t, s)
	return m[:]
}

// ipv4 is a datagram; options have a length that is a multiple of four.
func ipv4(proto byte, src, dst string, payload []byte, options ...byte) []byte {
	b := join(make([]byte, 20), options, payload)
	wire.PutIPv4(b, 0, len(b), 0x1234, 0, 64, proto, netip.MustParseAddr(src).As4(), netip.MustParseAddr(dst).As4())
	b[0] = 0x45 + byte(len(options)/4)
	wire.IPv4(b).UpdateHeaderChecksum()
	return b
}

// edited changes a datagram's header and makes its checksum right again.
func edited(b []byte, edit func(b []byte)) []byte {
	edit(b)
	wire.IPv4(b).UpdateHeaderChecksum()
	return b
}

func ipv6(next byte, payload []byte) []byte {
	src, dst := netip.MustParseAddr("fd00::2").As16(), netip.MustParseAddr("fd00::3").As16()
	return join([]byte{0x60, 0, 0, 0}, be16(len(payload)), []byte{next, 64}, src[:], dst[:], payload)
}

func udp(sport, dport, n int) []byte {
	return join(be16(sport), be16(dport), be16(8+n), be16(0), make([]byte, n))
}

func tcp(sport, dport int, flags byte, n int) []byte {
	return join(be16(sport), be16(dport), make([]byte, 8), []byte{0x50, flags}, be16(512), make([]byte, 4), make([]byte, n))
}

func arp(operation int, sender []byte, senderIP, targetIP string) []byte {
	from, to := netip.MustParseAddr(senderIP).As4(), netip.MustParseAddr(targetIP).As4()
	return join(be16(1), be16(0x0800), []byte{6, 4}, be16(operation), sender, from[:], make([]byte, 6), to[:])
}

const (
	// silent is an address behind the second pod that nobody has there: what is
	// forwarded to it has no answer.
	silent   = "10.65.0.200"
	tunnel   = "tun0"
	beyond   = "198.51.100.7" // behind the tunnel
	markPort = 4242
)

// ethernetFrames are frames that the pod sends.
func ethernetFrames(t *testing.T, w *world) [][]byte {
	own, host := mac(t, w.pod.PeerMAC), mac(t, "ee:ee:ee:ee:ee:ee")
	all := mac(t, "ff:ff:ff:ff:ff:ff")
	pod := ip(w.pod)
	to := func(dst []byte, kind int, payload ...[]byte) []byte {
		return join(dst, own, be16(kind), join(payload...))
	}
	ip4 := func(proto byte, dst string, payload []byte) []byte {
		return to(host, 0x0800, ipv4(proto, pod, dst, payload))
	}
	llc := func(dst []byte, payload ...byte) []byte {
		return join(dst, own, be16(len(payload)), payload, make([]byte, 20))
	}
	tag := func(kind, tci int) []byte { return join(be16(kind), be16(tci)) }
	ns := join([]byte{135, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 16))
	return [][]byte{
		to(all, 0x0806, arp(1, own, pod, "169.254.1.1")),
		to(all, 0x0806, arp(1, own, pod, "192.0.2.1")),
		to(host, 0x0806, arp(2, own, pod, "169.254.1.1")),
		to(all, 0x8100, be16(10), be16(0x0806), arp(1, own, pod, "169.254.1.1")),
		to(all, 0x8035, arp(3, own, pod, "169.254.1.1")),
		ip4(17, silent, udp(9997, 9998, 10)), ip4(17, silent, udp(9997, 9998, 1200)), ip4(17, silent, udp(5000, 161, 0)),
		ip4(6, silent, tcp(1025, 80, 2, 0)), ip4(6, silent, tcp(1025, 443, 0x10, 30)), ip4(6, silent, tcp(1025, 22, 0x11, 0)), ip4(6, silent, tcp(53, 1026, 4, 0)),
		ip4(1, silent, []byte{8, 0, 0xf7, 0xfc, 0, 1, 0, 2}), ip4(1, silent, join([]byte{3, 1, 0xfc, 0xfe, 0, 0, 0, 0}, ipv4(17, silent, pod, udp(1, 2, 0)))),
		to(mac(t, "01:00:5e:00:00:16"), 0x0800, ipv4(2, pod, "224.0.0.22", []byte{0x16, 0, 0xe9, 0xff, 0, 0, 0, 0})),
		to(mac(t, "01:00:5e:01:01:01"), 0x0800, ipv4(17, pod, "239.1.1.1", udp(9997, 9999, 4))),
		to(all, 0x0800, ipv4(17, pod, "255.255.255.255", udp(9997, 9999, 4))),
		to(host, 0x0800, edited(ipv4(17, pod, silent, udp(9997, 9998, 16)), func(b []byte) { b[6] = 0x20 })),
		to(host, 0x0800, edited(ipv4(17, pod, silent, make([]byte, 16)), func(b []byte) { b[7] = 3 })),
		to(host, 0x0800, ipv4(17, pod, silent, udp(9997, 9998, 1), 1, 1, 1, 0)),
		to(host, 0x0800, edited(ipv4(17, pod, silent, udp(9997, 9998, 1)), func(b []byte) { b[8] = 1 })),
		to(host, 0x0800, edited(ipv4(17, pod, silent, udp(9997, 9998, 1)), func(b []byte) { b[1] = 0xb8 })),
		ip4(132, silent, join(be16(7), be16(8), make([]byte, 8))), ip4(47, silent, join(be16(0), be16(0x0800), ipv4(17, pod, silent, udp(1, 2, 0)))),
		ip4(50, silent, make([]byte, 16)), ip4(51, silent, join([]byte{17, 4, 0, 0}, make([]byte, 20), udp(1, 2, 0))), ip4(112, silent, []byte{0x21, 1, 100, 0, 0, 1, 0, 0}),
		ip4(103, silent, []byte{0x20, 0, 0xdf, 0xff}), ip4(253, silent, make([]byte, 4)), ip4(9, silent, make([]byte, 12)),
		ip4(17, "10.99.0.1", udp(9997, 9998, 3)), ip4(17, "192.168.1.32", udp(9997, 9, 3)), ip4(6, "192.168.1.32", tcp(1027, 81, 2, 0)), ip4(1, "192.168.1.32", []byte{8, 0, 0xf7, 0xfc, 0, 1, 0, 2}),
		to(mac(t, "02:00:00:00:00:99"), 0x0800, ipv4(17, pod, silent, udp(9997, 9998, 2))),
		to(host, 0x86dd, ipv6(17, udp(9997, 9998, 10))), to(host, 0x86dd, ipv6(6, tcp(1025, 80, 2, 0))), to(host, 0x86dd, ipv6(58, ns)),
		to(host, 0x86dd, ipv6(0, join([]byte{17, 0, 1, 4, 0, 0, 0, 0}, udp(9997, 9998, 0)))), to(host, 0x86dd, ipv6(44, join([]byte{17, 0, 0, 1, 0, 0, 0, 9}, udp(9997, 9998, 0)))),
		to(host, 0x8100, be16(10), be16(0x0800), ipv4(17, pod, silent, udp(9997, 9998, 6))), to(host, 0x8100, be16(20), be16(0x86dd), ipv6(17, udp(9997, 9998, 1))),
		to(host, 0x8100, be16(5<<13), be16(0x0800), ipv4(17, pod, silent, udp(9997, 9998, 7))),
		to(host, 0x88a8, be16(5), tag(0x8100, 6), be16(0x0800), ipv4(17, pod, silent, udp(9997, 9998, 8))),
		to(host, 0x8847, []byte{0, 6, 0x41, 64}, ipv4(17, pod, silent, udp(9997, 9998, 9))), to(host, 0x8847, []byte{0, 6, 0x40, 64, 0, 7, 0x41, 64}, ipv4(17, pod, silent, udp(9997, 9998, 9))),
		to(all, 0x8863, []byte{0x11, 9, 0, 0, 0, 0}), to(host, 0x8864, []byte{0x11, 0, 0, 7}, be16(30), be16(0x21), ipv4(17, pod, silent, udp(9997, 9998, 0))),
		llc(mac(t, "01:80:c2:00:00:00"), join([]byte{0x42, 0x42, 3, 0, 0, 0, 0, 0}, make([]byte, 31))...), llc(host, 0xf0, 0xf0, 3, 0, 0, 0), llc(host, 0xfe, 0xfe, 3, 0x81, 0, 0, 0, 0),
		llc(host, 0xe0, 0xe0, 3, 0xff, 0xff), llc(host, 0x80, 0x80, 1, 1, 0, 0),
		to(host, 0x9000, make([]byte, 46)), to(host, 0x88b5, make([]byte, 10)), to(host, 0x6004, make([]byte, 30)), to(host, 0x80f3, make([]byte, 28)),
	}
}

// rawPackets are packets that come in by the tunnel.
func rawPackets(w *world) [][]byte {
	return [][]byte{
		ipv4(17, beyond, silent, udp(9997, 9998, 10)), ipv4(17, beyond, silent, udp(9997, 9998, 1200)), ipv4(6, beyond, silent, tcp(1025, 80, 2, 0)),
		ipv4(6, beyond, silent, tcp(1025, 443, 0x10, 30)), ipv4(1, beyond, silent, []byte{8, 0, 0xf7, 0xfc, 0, 1, 0, 2}), ipv4(132, beyond, silent, join(be16(7), be16(8), make([]byte, 8))),
		ipv4(17, beyond, "192.168.1.32", udp(9997, 9, 3)), ipv4(17, beyond, "10.99.0.1", udp(9997, 9998, 3)), ipv4(17, beyond, "239.1.1.1", udp(9997, 9999, 4)),
		edited(ipv4(17, beyond, silent, make([]byte, 16)), func(b []byte) { b[7] = 3 }), ipv6(17, udp(9997, 9998, 10)), ipv6(6, tcp(1025, 80, 2, 0)), ipv6(58, []byte{128, 0, 0, 0, 0, 1, 0, 1}),
	}
}

// injector sends frames as they are by an interface of a node.
type injector struct{ fd int }

func inject(t *testing.T, l *lab.Lab, node, iface string) *injector {
	t.Helper()
	i := &injector{}
	err := l.Do(node, func() error {
		dev, err := net.InterfaceByName(iface)
		if err != nil {
			return err
		}
		if i.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(i.fd, &unix.SockaddrLinklayer{Ifindex: dev.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(i.fd) })
	return i
}

func (i *injector) send(t *testing.T, frames ...[]byte) {
	t.Helper()
	for n, f := range frames {
		if _, err := unix.Write(i.fd, f); err != nil {
			t.Fatal(fmt.Errorf("frame %d: %w", n, err))
		}
	}
}
