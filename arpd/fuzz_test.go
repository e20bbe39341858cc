package arpd

import (
	"bytes"
	"encoding"
	"net/netip"
	"reflect"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"

	"proxyarpd/internal/wire"
)

func seeds(f *testing.F) {
	for _, q := range []request{
		who(gatewayIP), who(remoteIP), who(localIP), who(outsideIP), who(podIP),
		who(gatewayIP).with(func(r *request) { r.hlen = 255 }),
		who(gatewayIP).with(func(r *request) { r.hlen, r.plen = 255, 255; r.trailer = 1100 }),
		who(gatewayIP).with(func(r *request) { r.plen = 0 }),
		who(gatewayIP).with(func(r *request) { r.etherType = wire.EtherTypeVLAN; r.trailer = 4 }),
		who(gatewayIP).with(func(r *request) { r.trailer = 18 }),
	} {
		f.Add(q.bytes())
	}
	f.Add(who(gatewayIP).bytes()[:30])
}

// replyTo is the answer to a request, as mdlayher/arp has it.
func replyTo(q *arp.Packet) *arp.Packet {
	return &arp.Packet{
		HardwareType: 1, ProtocolType: 0x0800, HardwareAddrLength: 6, IPLength: 4,
		Operation: arp.OperationReply, SenderHardwareAddr: answerMAC[:], SenderIP: q.TargetIP,
		TargetHardwareAddr: q.SenderHardwareAddr, TargetIP: q.SenderIP,
	}
}

func marshal(t testing.TB, m encoding.BinaryMarshaler) []byte {
	t.Helper()
	b, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzAnswer: no frame makes Answer panic or change the request; only a
// well-formed request to us gets a reply, and three parsers read the same in it.
// What Read makes of it and the reply are mdlayher/arp's, byte for byte.
func FuzzAnswer(f *testing.F) {
	seeds(f)
	p := testPolicy()
	f.Fuzz(func(t *testing.T, req []byte) {
		before := bytes.Clone(req)
		reply := make([]byte, ReplyLen)
		n, v := answer(reply, req, p)
		checkRead(t, req)
		if !bytes.Equal(req, before) {
			t.Fatal("request was changed")
		}
		if v == NotSpecified || v >= NumVerdicts {
			t.Fatalf("verdict %d", v)
		}
		if (v == Answered) != (n == ReplyLen) || (v != Answered && n != 0) {
			t.Fatalf("%v with %d bytes", v, n)
		}
		if v != Answered {
			return
		}
		checkAnswered(t, req)
		checkReply(t, reply[:n], req, answerMAC)
		checkWithGopacket(t, reply[:n])
		checkWithMdlayher(t, reply[:n])
	})
}

// checkAnswered demands what a frame must have to be answered at all, read
// without the code under test.
func checkAnswered(t *testing.T, req []byte) {
	t.Helper()
	var fr ethernet.Frame
	var q arp.Packet
	if err := fr.UnmarshalBinary(req); err != nil {
		t.Fatalf("answered a frame that is none: %v", err)
	}
	if err := q.UnmarshalBinary(fr.Payload); err != nil {
		t.Fatalf("answered what is no ARP packet: %v", err)
	}
	switch {
	case fr.EtherType != ethernet.EtherTypeARP, q.Operation != arp.OperationRequest,
		q.HardwareAddrLength != 6, q.IPLength != 4, q.ProtocolType != 0x0800,
		q.HardwareType != 1 && q.HardwareType != 6:
		t.Fatalf("answered %+v", q)
	case q.TargetIP != gatewayIP && q.TargetIP != remoteIP && q.TargetIP != ownIP:
		t.Fatalf("answered for %v", q.TargetIP)
	case q.SenderIP.IsUnspecified() && q.TargetIP != gatewayIP:
		t.Fatalf("answered a probe for %v", q.TargetIP)
	case q.SenderIP == q.TargetIP:
		t.Fatal("answered an announcement")
	case q.SenderHardwareAddr[0]&1 != 0, fr.Source[0]&1 != 0:
		t.Fatal("answered a group address")
	}
}

func checkWithGopacket(t *testing.T, reply []byte) {
	t.Helper()
	pkt := gopacket.NewPacket(reply, layers.LayerTypeEthernet, gopacket.Default)
	if e := pkt.ErrorLayer(); e != nil {
		t.Fatal(e.Error())
	}
	g, ok := pkt.Layer(layers.LayerTypeARP).(*layers.ARP)
	a := wire.ARP(reply[wire.EthernetLen:])
	if !ok || g.Operation != layers.ARPReply ||
		wire.MAC(g.SourceHwAddress) != a.SenderMAC() || wire.MAC(g.DstHwAddress) != a.TargetMAC() ||
		[4]byte(g.SourceProtAddress) != a.SenderIP().As4() || [4]byte(g.DstProtAddress) != a.TargetIP().As4() {
		t.Fatalf("gopacket reads %+v", g)
	}
}

func checkWithMdlayher(t *testing.T, reply []byte) {
	t.Helper()
	var fr ethernet.Frame
	var p arp.Packet
	if err := fr.UnmarshalBinary(reply); err != nil {
		t.Fatal(err)
	}
	if err := p.UnmarshalBinary(fr.Payload); err != nil {
		t.Fatal(err)
	}
	if b := marshal(t, &p); !bytes.Equal(reply[wire.EthernetLen:], b) {
		t.Fatalf("mdlayher/arp writes %x", b)
	}
	a := wire.ARP(reply[wire.EthernetLen:])
	if p.Operation != arp.OperationReply || wire.MAC(p.SenderHardwareAddr) != a.SenderMAC() ||
		wire.MAC(p.TargetHardwareAddr) != a.TargetMAC() || p.SenderIP != a.SenderIP() || p.TargetIP != a.TargetIP() {
		t.Fatalf("mdlayher/arp reads %+v", p)
	}
}

// checkRead demands that Read takes what mdlayher/arp takes for a request by IPv4
// over Ethernet, and makes the same Packet of it.
func checkRead(t *testing.T, frame []byte) {
	t.Helper()
	var q Request
	v := q.Read(frame)
	var want arp.Packet
	ok := len(frame) >= wire.EthernetLen && wire.Ethernet(frame).Type() == wire.EtherTypeARP &&
		want.UnmarshalBinary(frame[wire.EthernetLen:]) == nil &&
		(want.HardwareType == 1 || want.HardwareType == 6) && want.ProtocolType == 0x0800 &&
		want.HardwareAddrLength == 6 && want.IPLength == 4 && want.Operation == arp.OperationRequest
	switch {
	case ok != (v == NotSpecified):
		t.Fatalf("read: %v; mdlayher/arp reads %+v", v, want)
	case !ok && !reflect.DeepEqual(q.Packet, arp.Packet{}):
		t.Fatalf("%v, and read %+v", v, q)
	case ok && !reflect.DeepEqual(q.Packet, want):
		t.Fatalf("read %+v; mdlayher/arp reads %+v", q.Packet, want)
	case v != DropTooSmall && (q.Dst != wire.MAC(frame[0:6]) || q.Src != wire.MAC(frame[6:12])):
		t.Fatalf("from %v to %v", q.Src, q.Dst)
	}
}

// FuzzUplink: only a well-formed request of another station is answered on an uplink,
// for an address of Uplink.Targets that Routes allows, with the device's MAC. What
// counts as a claim is what gopacket reads as one.
func FuzzUplink(f *testing.F) {
	seeds(f)
	for _, q := range []request{who(ownIP), who(remoteIP).with(func(r *request) { r.spa = netip.IPv4Unspecified() }),
		who(remoteIP).with(func(r *request) { r.op, r.spa = wire.ARPReply, remoteIP })} {
		f.Add(q.bytes())
	}
	p := uplinkPolicy()
	f.Fuzz(func(t *testing.T, req []byte) {
		reply := make([]byte, ReplyLen)
		n, v := answer(reply, req, p)
		if v == NotSpecified || v >= NumVerdicts || (v == Answered) != (n == ReplyLen) {
			t.Fatalf("%v with %d bytes", v, n)
		}
		if c, ok := readClaim(req, 8); ok {
			g, _ := gopacket.NewPacket(req, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeARP).(*layers.ARP)
			if g == nil || g.Operation != layers.ARPRequest && g.Operation != layers.ARPReply || wire.MAC(g.SourceHwAddress) != c.MAC ||
				[4]byte(g.SourceProtAddress) != c.IP.As4() {
				t.Fatalf("%+v; gopacket reads %+v", c, g)
			}
		}
		if v != Answered {
			return
		}
		q := wire.ARP(wire.Ethernet(req).Payload())
		if q.Op() != wire.ARPRequest || q.TargetIP() != remoteIP && q.TargetIP() != ownIP || q.SenderIP() == q.TargetIP() || q.SenderIP() == outsideIP ||
			p.isUs(q.SenderMAC()) || q.SenderMAC().IsMulticast() || q.TargetIP() == ownIP && q.SenderMAC() == podMAC {
			t.Fatalf("answered %x", req)
		}
		checkReply(t, reply[:n], req, deviceMAC)
	})
}
