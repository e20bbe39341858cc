package ndp

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"proxyarpd/arpd"
	"proxyarpd/internal/wire"
)

func seeds(f *testing.F) {
	for _, c := range asked {
		f.Add(c.s.bytes())
	}
	for _, c := range malformed {
		f.Add(c.frame)
	}
}

// FuzzAnswer: no frame makes Read or Answer panic or change the frame; only a well-formed
// solicitation is answered, for what may be answered, and gopacket reads the same in it
// and in the answer.
func FuzzAnswer(f *testing.F) {
	seeds(f)
	workload, uplink := testPolicy(), uplinkPolicy()
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) > 7 && frame[7]&1 == 0 { // of two frames one has the right checksum
			repair(frame)
		}
		before := bytes.Clone(frame)
		for _, p := range []*Policy{workload, uplink} {
			reply := make([]byte, AdvertisementLen)
			n, v := answer(reply, frame, p)
			if !bytes.Equal(frame, before) {
				t.Fatal("the frame was changed")
			}
			if v == arpd.NotSpecified || v >= arpd.NumVerdicts || v.OnlyARP() {
				t.Fatalf("verdict %d", v)
			}
			if (v == arpd.Answered) != (n == AdvertisementLen) || v != arpd.Answered && n != 0 {
				t.Fatalf("%v with %d bytes", v, n)
			}
			if v != arpd.Answered {
				continue
			}
			s := readByGopacket(t, frame)
			switch {
			case p.Uplink == nil && s.Target != gatewayIP && s.Target != remoteIP && s.Target != ownIP,
				p.Uplink != nil && s.Target != remoteIP && s.Target != ownIP:
				t.Fatalf("answered for %v", s.Target)
			case s.From.IsUnspecified() && p.Uplink == nil && s.Target != gatewayIP:
				t.Fatalf("answered duplicate address detection for %v", s.Target)
			case s.Src == p.Own || s.MAC == p.Own || s.Src == aliasMAC || s.MAC == aliasMAC || s.Src.IsMulticast() || s.MAC.IsMulticast():
				t.Fatalf("answered %v", s.Src)
			}
			checkReply(t, reply, &s, p.Answer, p.IsGateway(s.Target))
			adverts := layersOf(t, reply)
			advert, ok := adverts.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
			if !ok || !advert.TargetAddress.Equal(s.Target.AsSlice()) || !advert.Override() || advert.Router() != (s.Target == gatewayIP) || advert.Solicited() == s.From.IsUnspecified() {
				t.Fatalf("gopacket reads %+v", advert)
			}
		}
		readClaim(frame, 1)
	})
}

// repair gives a frame with an ICMPv6 message the checksum that it ought to have.
func repair(frame []byte) {
	eth := wire.Ethernet(frame)
	if !eth.Valid() {
		return
	}
	if ip, msg, _, v := message(eth); v == arpd.NotSpecified && len(msg) >= wire.ICMPv6Len {
		wire.PutICMPv6(msg, msg[0], msg[1], msg.Flags(), ip.Src(), ip.Dst())
	}
}

func layersOf(t *testing.T, frame []byte) gopacket.Packet {
	t.Helper()
	pkt := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	if e := pkt.ErrorLayer(); e != nil {
		t.Fatalf("%v: %x", e.Error(), frame)
	}
	return pkt
}

// readByGopacket reads a solicitation that was answered, without the code under test.
func readByGopacket(t *testing.T, frame []byte) (s Solicitation) {
	t.Helper()
	pkt := layersOf(t, frame)
	eth, _ := pkt.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	ip, _ := pkt.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
	icmp, _ := pkt.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
	ns, ok := pkt.Layer(layers.LayerTypeICMPv6NeighborSolicitation).(*layers.ICMPv6NeighborSolicitation)
	if !ok || ip.HopLimit != 255 || icmp.TypeCode != layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0) ||
		pkt.Layer(layers.LayerTypeIPv6Fragment) != nil {
		t.Fatalf("answered %v", pkt)
	}
	s = Solicitation{Dst: wire.MAC(eth.DstMAC), Src: wire.MAC(eth.SrcMAC), MAC: wire.MAC(eth.SrcMAC)}
	s.From, s.To, s.Target = netip.AddrFrom16([16]byte(ip.SrcIP)), netip.AddrFrom16([16]byte(ip.DstIP)), netip.AddrFrom16([16]byte(ns.TargetAddress))
	for _, o := range ns.Options {
		if o.Type == layers.ICMPv6OptSourceAddress {
			s.MAC = wire.MAC(o.Data)
			break
		}
	}
	return s
}
