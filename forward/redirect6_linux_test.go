package forward

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/wire"
)

// TestRedirectsOfTheKernel: a redirect is, byte by byte, the kernel's.
func TestRedirectsOfTheKernel(t *testing.T) {
	k := newKernel6(t)
	own := k.linkLocal()
	gateway, mac := netip.MustParseAddr("fe80::16"), wire.MAC{2, 0, 0, 0, 0, 0x16}
	k.neighbour(gateway, mac)
	to := &net.IPNet{IP: net.ParseIP("2001:db8:9::"), Mask: net.CIDRMask(64, 128)}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: int(k.in), Dst: to, Gw: gateway.AsSlice()}); err != nil {
		t.Fatal(err)
	}
	onLink := netip.MustParseAddr("2001:db8::9") // that does not answer
	for i, size := range []int{0, 1, 7, 8, 13, 100, 1140, 1144, 1145, 1152, 1153, 1400, 1452} {
		for _, direct := range []bool{false, true} {
			dst := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 9, 15: byte(i + 1)})
			want := redirect6{hops: 64, target: gateway.As16(), mac: mac, known: true}
			src := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: 1, 15: byte(i)})
			if direct {
				dst = onLink
				if i >= 6 {
					continue // the limit of a destination
				}
				want = redirect6{hops: 64, target: onLink.As16()}
				src = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: 2, 15: byte(i)})
			}
			k.neighbour(src, wire.MAC{2, 0, 0, 0, 1, byte(i)})
			p := make(wire.IPv6, wire.IPv6Len+size)
			wire.PutIPv6(p, 0x2c, 0x54321, size, 200, 64, src.As16(), dst.As16())
			k.inject(p)
			b := make([]byte, 2000)
			for {
				n, err := unix.Read(k.near, b)
				if err != nil {
					t.Fatalf("%d bytes, direct %t: %v", size, direct, err)
				}
				got := wire.IPv6(b[wire.EthernetLen:n])
				if got.NextHeader() != wire.ProtoICMPv6 || got[wire.IPv6Len] != wire.ICMPv6Redirect {
					continue
				}
				want.about, want.source = p, own.As16()
				msg := make([]byte, VnetLen+wire.EthernetLen+icmpv6Room)
				if n := want.put(msg); !bytes.Equal(msg[VnetLen+wire.EthernetLen:n], got) {
					t.Errorf("%d bytes, direct %t:\n% x; the kernel says\n% x", size, direct, msg[VnetLen+wire.EthernetLen:n], []byte(got))
				}
				break
			}
		}
	}
}
