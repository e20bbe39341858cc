package wire

import (
	"net/netip"
	"testing"
)

func TestIPv6Header(t *testing.T) {
	src, dst := netip.MustParseAddr("fd00::1").As16(), netip.MustParseAddr("fd00:65::2").As16()
	b := make([]byte, IPv6Len+8)
	PutIPv6(b, 0xb8, 0xabcde, 8, ProtoUDP, 64, src, dst)
	p := IPv6(b)
	if !p.Valid() || p.Version() != 6 || p.TrafficClass() != 0xb8 || p.FlowLabel() != 0xabcde || p.FlowInfo() != 0xb8abcde ||
		p.PayloadLen() != 8 || p.NextHeader() != ProtoUDP || p.HopLimit() != 64 || p.Src() != src || p.Dst() != dst || len(p.Payload()) != 8 {
		t.Errorf("%x", b)
	}
	if p.DecrementHopLimit(); p.HopLimit() != 63 {
		t.Errorf("hop limit %d", p.HopLimit())
	}
	if IPv6(b[:IPv6Len-1]).Valid() {
		t.Error("39 bytes are no header")
	}
}

// The numbers are those of a solicitation as Linux sends it.
func TestICMPv6Checksum(t *testing.T) {
	src, dst := netip.MustParseAddr("fe80::ecee:eeff:feee:eeee").As16(), netip.MustParseAddr("ff02::1:ff00:2").As16()
	if got := SolicitedNode(netip.MustParseAddr("fd00:65::2").As16()); got != dst {
		t.Errorf("solicited-node address %v", netip.AddrFrom16(got))
	}
	if got := MulticastMAC(dst); got != (MAC{0x33, 0x33, 0xff, 0, 0, 2}) {
		t.Errorf("MAC %v", got)
	}
	msg := make([]byte, 32)
	PutICMPv6(msg, ICMPv6NeighSolicit, 0, 0, src, dst)
	if Fold(Sum(msg, PseudoSum6(src, dst, ProtoICMPv6, len(msg)))) != 0 {
		t.Errorf("checksum of %x does not verify", msg)
	}
}

func TestPseudoSum6OfLongPayload(t *testing.T) {
	var a [16]byte
	if got := PseudoSum6(a, a, ProtoTCP, 0x12345); got != 1+0x2345+ProtoTCP {
		t.Errorf("%#x", got)
	}
}
