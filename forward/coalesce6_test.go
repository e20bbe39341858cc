package forward_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"proxyarpd/forward"
	"proxyarpd/forward/route"
	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

// datagrams6 gives what a receiver makes of the frames that left.
func datagrams6(t *testing.T, frames [][]byte) (all [][]byte) {
	t.Helper()
	for _, b := range frames {
		h := wire.IPv6(b[forward.VnetLen+wire.EthernetLen:])
		if h.PayloadLen() != len(h)-wire.IPv6Len {
			t.Fatalf("bad header % x", []byte(h[:40]))
		}
		if b[1] == 0 {
			all = append(all, bytes.Clone(h))
			continue
		}
		forward.Segments(h, forward.Vnet(b), make([]byte, 1<<16), func(seg []byte) { all = append(all, bytes.Clone(seg)) })
	}
	return all
}

// flowOf6 is what must not be reordered: addresses and ports.
func flowOf6(p []byte) string { return fmt.Sprintf("%x", p[8:44]) }

// TestCoalesceSame6: whatever is joined, the receiver gets the datagrams that would have come
// one by one, each flow in order.
func TestCoalesceSame6(t *testing.T) {
	for seed := range uint64(nstest.Rounds(100)) {
		r := rand.New(rand.NewPCG(seed, 6))
		l, p, _, _ := newLoop6(t)
		want := map[string][][]byte{}
		n := 8 + r.IntN(57)
		if seed%4 == 0 {
			n = 500 + r.IntN(1500)
		}
		flows := 4 + r.IntN(40)*int(seed%2)
		for range n {
			size := 18
			if r.IntN(6) == 0 {
				size = 1 + r.IntN(40)
			}
			port := uint16(4000 + r.IntN(flows))
			buf := forward.Packet6(pod1, far, size, func(_ forward.Vnet, ip wire.IPv6) {
				switch r.IntN(40) {
				case 0:
					ip[7] = 40
				case 1:
					ip[1] ^= 0x10 // traffic class
				case 2:
					ip[3] ^= 1 // flow label
				}
				udp := ip.Payload()
				binary.BigEndian.PutUint16(udp, port)
				forward.PutL4Checksum(ip, udp, 6)
				switch r.IntN(25) {
				case 0:
					binary.BigEndian.PutUint16(udp[6:], 0) // no checksum (RFC 6935)
				case 1:
					udp[6]++ // must arrive as bad as it came
				}
			})
			if r.IntN(25) == 0 {
				buf = forward.WithOptions(buf, 5, 2, 0, 0)
			}
			sent := wire.IPv6(bytes.Clone(buf[forward.VnetLen+wire.EthernetLen:]))
			sent.DecrementHopLimit()
			want[flowOf6(sent)] = append(want[flowOf6(sent)], sent)
			p.Inject(forward.IfPod1, buf)
		}
		for range n/forward.BatchUsual + 1 {
			once(t, l)
		}
		var frames [][]byte
		for _, s := range p.Sent() {
			frames = append(frames, s.Buf)
		}
		got := map[string][][]byte{}
		for _, d := range datagrams6(t, frames) {
			got[flowOf6(d)] = append(got[flowOf6(d)], d)
		}
		for flow, w := range want {
			if g := got[flow]; fmt.Sprintf("%x", g) != fmt.Sprintf("%x", w) {
				t.Fatalf("seed %d, flow %s: got %d datagrams, want %d\n%x\n%x", seed, flow, len(g), len(w), g, w)
			}
		}
		if sent := counts(l, route.Forward); sent != uint64(n) {
			t.Errorf("seed %d: %d counted, %d sent", seed, sent, n)
		}
	}
}

// TestCoalesceJoins6: a backlog of one flow leaves as one frame; what must not be joined
// leaves as it came.
func TestCoalesceJoins6(t *testing.T) {
	label := uint16(0)
	for name, c := range map[string]struct {
		edit   func(forward.Vnet, wire.IPv6)
		frames int
	}{
		"backlog":           {func(forward.Vnet, wire.IPv6) {}, 1},
		"without checksum":  {func(_ forward.Vnet, ip wire.IPv6) { copy(ip[46:], []byte{0, 0}) }, 64},
		"other flow labels": {func(_ forward.Vnet, ip wire.IPv6) { label++; binary.BigEndian.PutUint16(ip[2:], label) }, 64},
	} {
		l, p, _, _ := newLoop6(t)
		for range 64 {
			p.Inject(forward.IfPod1, forward.Packet6(pod1, far, 18, c.edit))
		}
		once(t, l)
		sent := p.Sent()
		s := l.Counters().Read()
		if len(sent) != c.frames || s.PacketsOut != 64 || s.BytesOut != 64*66 {
			t.Errorf("%s: %d frames, want %d; %d packets out, %d bytes", name, len(sent), c.frames, s.PacketsOut, s.BytesOut)
		}
	}
	// Those of both families side by side.
	l, p, _, _ := newLoop6(t)
	id := uint16(0)
	for range 32 {
		p.Inject(forward.IfPod1, forward.Packet6(pod1, far, 18))
		p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.65.1.9", 18, func(_ forward.Vnet, ip wire.IPv4) { id++; ip.SetID(id) }))
	}
	once(t, l)
	sent := p.Sent()
	if len(sent) != 2 || sent[0].Type != wire.EtherTypeIPv6 || sent[1].Type != wire.EtherTypeIPv4 {
		t.Errorf("%d frames of two flows", len(sent))
	}
	if bytes := l.Counters().Read().BytesOut; bytes != 32*66+32*46 {
		t.Errorf("%d bytes out", bytes)
	}
}
