package wire

import (
	"net/netip"
	"testing"
)

func TestPutAdvertisement(t *testing.T) {
	mac, to := MAC{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}, MAC{2, 0, 0, 0, 0, 1}
	gateway, pod := netip.MustParseAddr("fe80::ecee:eeff:feee:eeee"), netip.MustParseAddr("fd00:65::2")
	frame := make([]byte, AdvertisementLen)
	PutAdvertisement(frame, mac, gateway.As16(), gateway.As16(), NDRouter|NDSolicited|NDOverride, to, pod.As16())
	eth := Ethernet(frame)
	ip := IPv6(eth.Payload())
	msg := ND(ip.Payload())
	if eth.Dst() != to || eth.Src() != mac || eth.Type() != EtherTypeIPv6 || ip.SrcAddr() != gateway || ip.DstAddr() != pod ||
		ip.HopLimit() != 255 || ip.NextHeader() != ProtoICMPv6 || ip.PayloadLen() != len(msg) {
		t.Errorf("%x", frame)
	}
	if !msg.Valid() || msg[0] != ICMPv6NeighAdvert || msg.Flags() != 0xe0000000 || msg.Target() != gateway {
		t.Errorf("%x", msg)
	}
	if got, has, ok := msg.LinkLayer(NDOptTargetLinkLayer); got != mac || !has || !ok {
		t.Errorf("target link-layer address %v, %t, %t", got, has, ok)
	}
	if _, has, ok := msg.LinkLayer(NDOptSourceLinkLayer); has || !ok {
		t.Errorf("source link-layer address: %t, %t", has, ok)
	}
	if Fold(Sum(msg, PseudoSum6(ip.Src(), ip.Dst(), ProtoICMPv6, len(msg)))) != 0 {
		t.Error("checksum does not verify")
	}
}

func TestNDOptions(t *testing.T) {
	lladdr := []byte{1, 1, 2, 0, 0, 0, 0, 1}
	for _, c := range []struct {
		name    string
		opts    []byte
		has, ok bool
	}{
		{"none", nil, false, true},
		{"the address", lladdr, true, true},
		{"an unknown one before it", append([]byte{200, 2, 15: 0}, lladdr...), true, true},
		{"twice: the first counts", append(append([]byte{}, lladdr...), 1, 1, 4, 0, 0, 0, 0, 1), true, true},
		{"length 0", []byte{1, 0, 2, 0, 0, 0, 0, 1}, false, false},
		{"length 0 behind it", append(append([]byte{}, lladdr...), []byte{14, 0, 7: 0}...), true, false},
		{"one byte", []byte{1}, false, false},
		{"cut off", []byte{1, 2, 2, 0, 0, 0, 0, 1}, false, false},
		{"too long for Ethernet", []byte{1, 2, 2, 0, 0, 0, 0, 1, 15: 0}, true, false},
	} {
		mac, has, ok := ND(append(make([]byte, NDLen), c.opts...)).LinkLayer(NDOptSourceLinkLayer)
		if has != c.has || ok != c.ok || c.ok && has && mac != (MAC{2, 0, 0, 0, 0, 1}) {
			t.Errorf("%s: %v, %t, %t", c.name, mac, has, ok)
		}
	}
}

// TestPutSolicitation: one with a sender tells its MAC, one of duplicate address detection does not.
func TestPutSolicitation(t *testing.T) {
	target, sender, mac := netip.MustParseAddr("fe80::1:2ff:fe03:405"), netip.MustParseAddr("fe80::9"), MAC{2, 0, 0, 0, 0, 9}
	for _, src := range []netip.Addr{sender, netip.IPv6Unspecified()} {
		b := make([]byte, SolicitationLen)
		eth := Ethernet(b[:PutSolicitation(b, mac, src.As16(), target.As16())])
		ip := IPv6(eth.Payload())
		msg := ND(ip.Payload())
		got, has, ok := msg.LinkLayer(NDOptSourceLinkLayer)
		if len(msg) != ip.PayloadLen() || eth.Src() != mac || eth.Dst() != (MAC{0x33, 0x33, 0xff, 3, 4, 5}) || ip.DstAddr() != netip.MustParseAddr("ff02::1:ff03:405") || ip.SrcAddr() != src ||
			ip.HopLimit() != NDHopLimit || msg[0] != ICMPv6NeighSolicit || msg.Target() != target || !ok || has == src.IsUnspecified() || has && got != mac ||
			Fold(Sum(msg, PseudoSum6(ip.Src(), ip.Dst(), ProtoICMPv6, len(msg)))) != 0 {
			t.Errorf("%x", b)
		}
	}
}
