package route

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

// TestKernelAddresses6 has the kernel forward packets with all kinds of addresses and hop
// limits, and compares what it forwards with what Decide6 does.
func TestKernelAddresses6(t *testing.T) {
	nstest.Need(t, "ip")
	nstest.Enter(t)
	h := newHashHost(t, rand.New(rand.NewPCG(1, 1)), 0, 7, false)
	addrs := parsed(netip.MustParseAddr, "::", "::1", "::2", "::10.0.0.1", "::ffff:10.0.0.1", "64:ff9b::1", "100::1", "2001:10::1", "2001:db8::1", "2002::1",
		"4000::1", "fc00::1", "fd00::1", "fe00::1", "fe80::5", "febf::5", "fec0::1", "feff::1", "ff00::1", "ff01::1", "ff02::5", "ff05::1", "ff0e::1")
	for _, src := range addrs {
		for _, dst := range addrs {
			if dst.IsUnspecified() {
				continue // the kernel's, which forwards it by a default route
			}
			for _, hops := range []uint8{0, 1, 2, 255} {
				ip := make(wire.IPv6, wire.IPv6Len+8)
				wire.PutIPv6(ip, 0, 0, 8, wire.ProtoNone, hops, src.As16(), dst.As16())
				var d Decision
				h.table.Decide6(ip, len(ip), h.in, &d)
				on := d.Verdict == Forward || d.Verdict == Queue
				if got := h.forwards(t, ip); got != on {
					t.Errorf("%v > %v, hop limit %d: %v, the kernel forwards: %v", src, dst, hops, d.Verdict, got)
				}
			}
		}
	}
}

// forwards reports whether the kernel forwards a packet.
func (h *hashHost) forwards(t *testing.T, ip []byte) (yes bool) {
	t.Helper()
	marker := make(wire.IPv6, wire.IPv6Len+1)
	wire.PutIPv6(marker, 0, 0, 1, wire.ProtoNone, 64, [16]byte{0x20, 15: 1}, [16]byte{0x20, 15: 2})
	for _, p := range [][]byte{ip, marker} {
		if err := unix.Sendto(h.fd, p, 0, h.to()); err != nil {
			t.Fatal(err)
		}
	}
	b := make([]byte, 2048)
	for {
		n, from, err := unix.Recvfrom(h.fd, b, 0)
		if err != nil {
			t.Fatalf("the second packet does not leave: %v", err)
		}
		ll := from.(*unix.SockaddrLinklayer)
		switch {
		case ll.Pkttype != unix.PACKET_OUTGOING || int32(ll.Ifindex) == h.from:
		case n == len(marker):
			return yes
		case n == len(ip) && string(b[8:n]) == string(ip[8:]):
			yes = true
		}
	}
}
