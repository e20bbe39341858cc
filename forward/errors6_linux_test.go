package forward

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// TestHopOptionsOfTheKernel: what the options of a packet do to it is what the kernel does
// with the same packet: it forwards it, tells its source, or drops it.
func TestHopOptionsOfTheKernel(t *testing.T) {
	k := newKernel6(t)
	rng := rand.New(rand.NewPCG(6, 3))
	var packets []wire.IPv6
	for len(packets) < 3000 {
		if p := hopPacket(rng); len(p) < 1400 {
			packets = append(packets, p)
			k.send(p, uint32(len(packets)-1), 64)
		}
	}
	forwarded, told := k.results()
	counts := map[route.Verdict]int{}
	for i, p := range packets {
		var o hopOptions
		switch n := wire.IPv6Len + p.PayloadLen(); {
		case n > len(p):
			o.bad(route.DropPktTooSmall)
		case n > wire.IPv6Len:
			p = p[:n]
			fallthrough
		default:
			o.parse(p, 8, 1<<31-1)
		}
		var icmp route.ICMPError
		e := told[uint32(i)]
		if e != nil {
			msg := e.Payload()
			icmp = icmpError(msg[0], msg[1], binary.BigEndian.Uint32(msg[4:]))
		}
		f := forwarded[uint32(i)]
		if (f != nil) != (o.verdict == route.NotSpecified) || icmp != o.icmp {
			t.Errorf("% x: %v, %v; the kernel forwards: %t, tells %v", []byte(p), o.verdict, o.icmp, f != nil, icmp)
		}
		if f != nil {
			p[7]--
			if !bytes.Equal(f, p) {
				t.Errorf("% x\nthe kernel forwards\n% x", []byte(p), []byte(f))
			}
		}
		counts[o.verdict]++
	}
	t.Log(counts)
}

// TestErrorsOfTheKernel: about which packets there is an ICMPv6 error, and what it is, by
// the kernel's own.
func TestErrorsOfTheKernel(t *testing.T) {
	k := newKernel6(t)
	rng := rand.New(rand.NewPCG(6, 4))
	kinds := []uint8{wire.ProtoHopByHop, wire.ProtoDestOpts, wire.ProtoDestOpts, wire.ProtoRouting, wire.ProtoFragment, wire.ProtoFragment, wire.ProtoAH, wire.ProtoNone,
		wire.ProtoICMPv6, wire.ProtoICMPv6, wire.ProtoICMPv6, wire.ProtoUDP, wire.ProtoTCP, wire.ProtoESP, 200}
	var packets []wire.IPv6
	for i := range 3000 {
		p := make(wire.IPv6, wire.IPv6Len)
		p[0] = 6 << 4
		at := 6
		for j := 0; ; j++ {
			kind := kinds[rng.IntN(len(kinds))]
			if kind == wire.ProtoHopByHop && j > 0 {
				kind = wire.ProtoDestOpts
			}
			p[at] = kind
			if at = len(p); !wire.IPv6IsExtension(kind) || kind == wire.ProtoNone {
				break
			}
			words := rng.IntN(3)
			if kind == wire.ProtoHopByHop {
				p = append(p, 0, 0, 0x1e, 4, 0, 0, 0, 0)
				continue
			}
			length := 8 + 8*words
			if kind == wire.ProtoAH {
				length = 8 + 4*words
			}
			p = append(p, make([]byte, length)...)
			p[at+1] = byte(words)
			if kind == wire.ProtoFragment {
				p = p[:at+8]
				binary.BigEndian.PutUint16(p[at+2:], []uint16{0, 1, 8, 9, 0xfff8}[rng.IntN(5)])
			}
		}
		for range rng.IntN(1 + []int{1, 12, 200, 1350}[rng.IntN(4)]) {
			p = append(p, byte(rng.Uint32()))
		}
		if rng.IntN(4) == 0 {
			p = p[:wire.IPv6Len+rng.IntN(len(p)-wire.IPv6Len+1)]
		}
		if p[6] == wire.ProtoHopByHop && len(p) < wire.IPv6Len+8 || len(p) > 1500 {
			p = p[:wire.IPv6Len]
			p[6] = 200
		}
		p.SetPayloadLen(len(p) - wire.IPv6Len)
		packets = append(packets, p)
		k.send(p, uint32(i), 1)
	}
	_, told := k.results()
	counts := map[bool]int{}
	for i, p := range packets {
		e := route.ICMPError{Type: wire.ICMPv6TimeExceeded}
		want := mayReport6(p, packetHost, e)
		got := told[uint32(i)]
		counts[want]++
		if (got != nil) != want {
			t.Errorf("% x: told %t, by the kernel %t", []byte(p), want, got != nil)
		}
		if got == nil {
			continue
		}
		b := make([]byte, VnetLen+wire.EthernetLen+icmpv6Room)
		msg := icmpv6Report{ICMPError: e, about: p, source: got.Src(), dest: p.Src(), class: 0, label: got.FlowLabel(), hopLimit: 64}
		if n := msg.put(b); !bytes.Equal(b[VnetLen+wire.EthernetLen:n], got) {
			t.Errorf("about % x:\n% x; the kernel says\n% x", []byte(p), b[VnetLen+wire.EthernetLen:n], []byte(got))
		}
	}
	t.Log(counts)
}
