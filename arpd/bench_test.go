package arpd

import (
	"errors"
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
				answer(reply, req, p)
			}
		})
	}
}

// BenchmarkCodec is the reason for the choice in the package's documentation: the
// same request read and the same reply written, without any decision.
func BenchmarkCodec(b *testing.B) {
	req, out := who(gatewayIP).bytes(), make([]byte, ReplyLen)
	p := testPolicy()
	b.Run("arpd", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var q Request
			if v := q.Read(req); v != NotSpecified {
				b.Fatal(v)
			}
			write(out, &q, p)
		}
	})
	b.Run("mdlayher-arp", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var q arp.Packet
			if err := q.UnmarshalBinary(req[wire.EthernetLen:]); err != nil {
				b.Fatal(err)
			}
			w, _ := replyTo(&q).MarshalBinary()
			copy(out[wire.EthernetLen:], w)
		}
	})
	b.Run("mdlayher-arp-ethernet", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var f ethernet.Frame
			var q arp.Packet
			if err := errors.Join(f.UnmarshalBinary(req), q.UnmarshalBinary(f.Payload)); err != nil {
				b.Fatal(err)
			}
			w, _ := replyTo(&q).MarshalBinary()
			f = ethernet.Frame{
				Destination: q.SenderHardwareAddr, Source: answerMAC[:],
				EtherType: ethernet.EtherTypeARP, Payload: w,
			}
			w, _ = f.MarshalBinary()
			copy(out, w)
		}
	})
}

// TestAnswerDoesNotAllocate, whatever it says.
func TestAnswerDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		nstest.Excused(t, nstest.RaceDetector, "it allocates")
	}
	for _, q := range []request{
		who(gatewayIP),
		who(outsideIP),
		who(gatewayIP).with(func(r *request) { r.op = wire.ARPReply }),
		who(gatewayIP).with(func(r *request) { r.hlen = 8 }),
	} {
		p, req, reply := testPolicy(), q.bytes(), make([]byte, ReplyLen)
		_, v := answer(reply, req, p)
		if n := testing.AllocsPerRun(100, func() { answer(reply, req, p) }); n != 0 {
			t.Errorf("%v: %v allocations", v, n)
		}
	}
}
