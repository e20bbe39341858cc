package arpd

import (
	"net"
	"testing"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"

	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

func BenchmarkAnswer(b *testing.B) {
	for _, c := range []struct {
		name string
		req  request
	}{
		{"gateway", who(gatewayIP)},
		{"proxy", who(remoteIP)},
		{"not-proxied", who(outsideIP)},
		{"otherhost", who(gatewayIP).with(func(r *request) { r.dst = otherMAC })},
		{"reply", who(gatewayIP).with(func(r *request) { r.op = wire.ARPReply })},
	} {
		b.Run(c.name, func(b *testing.B) {
			p, req, reply := testPolicy(), c.req.bytes(), make([]byte, ReplyLen)
			b.ReportAllocs()
			for b.Loop() {
				Answer(reply, req, p)
			}
		})
	}
}

// BenchmarkCodec is the reason for the choice in Answer: the same request decoded
// and the same reply encoded, without any decision.
func BenchmarkCodec(b *testing.B) {
	req, out := who(gatewayIP).bytes(), make([]byte, 64)
	hw := net.HardwareAddr(answerMAC[:])
	reply := func(q *arp.Packet) arp.Packet {
		return arp.Packet{
			HardwareType: 1, ProtocolType: 0x0800, HardwareAddrLength: 6, IPLength: 4,
			Operation: arp.OperationReply, SenderHardwareAddr: hw, SenderIP: q.TargetIP,
			TargetHardwareAddr: q.SenderHardwareAddr, TargetIP: q.SenderIP,
		}
	}
	b.Run("mdlayher-arp", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var q arp.Packet
			_ = q.UnmarshalBinary(req[wire.EthernetLen:])
			p := reply(&q)
			w, _ := p.MarshalBinary()
			copy(out, w)
		}
	})
	b.Run("mdlayher-arp-ethernet", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var f ethernet.Frame
			var q arp.Packet
			_ = f.UnmarshalBinary(req)
			_ = q.UnmarshalBinary(f.Payload)
			p := reply(&q)
			w, _ := p.MarshalBinary()
			f = ethernet.Frame{Destination: q.SenderHardwareAddr, Source: hw, EtherType: ethernet.EtherTypeARP, Payload: w}
			w, _ = f.MarshalBinary()
			copy(out, w)
		}
	})
	b.Run("wire", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			a := wire.ARP(req[wire.EthernetLen:])
			if !a.Valid() || !a.IsIPv4OverEthernet() {
				b.Fatal("not valid")
			}
			sha, spa, tpa := a.SenderMAC(), a.SenderIP().As4(), a.TargetIP().As4()
			copy(out, a[:wire.ARPLen])
			out[7] = 2
			copy(out[8:], hw)
			copy(out[14:], tpa[:])
			copy(out[18:], sha[:])
			copy(out[24:], spa[:])
		}
	})
}

// TestAnswerAllocations holds the price of mdlayher/arp where it was measured:
// one slice to decode, one to encode, nothing where no decoding is needed.
func TestAnswerAllocations(t *testing.T) {
	if raceEnabled {
		nstest.Excused(t, nstest.RaceDetector, "it allocates")
	}
	for _, c := range []struct {
		req  request
		most float64
	}{
		{who(gatewayIP), 2},
		{who(outsideIP), 1},
		{who(gatewayIP).with(func(r *request) { r.op = wire.ARPReply }), 0},
		{who(gatewayIP).with(func(r *request) { r.hlen = 8 }), 0},
	} {
		p, req, reply := testPolicy(), c.req.bytes(), make([]byte, ReplyLen)
		_, v := Answer(reply, req, p)
		if n := testing.AllocsPerRun(100, func() { Answer(reply, req, p) }); n > c.most {
			t.Errorf("%v: %v allocations, want at most %v", v, n, c.most)
		}
	}
}
