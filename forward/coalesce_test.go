package forward_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"proxyarpd/forward"
	"proxyarpd/forward/route"
	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

// datagrams gives what a receiver makes of the frames that left.
func datagrams(t *testing.T, f func() []byte) (all [][]byte) {
	t.Helper()
	for b := f(); b != nil; b = f() {
		h := wire.IPv4(wire.Ethernet(b[forward.VnetLen:]).Payload())
		if !h.ChecksumOK() || h.TotalLen() != len(h) {
			t.Fatalf("bad header %x", []byte(h[:20]))
		}
		if b[1] == 0 {
			all = append(all, append([]byte(nil), h...))
			continue
		}
		forward.Segments(h, forward.Vnet(b), make([]byte, 1<<16), func(seg []byte) {
			all = append(all, append([]byte(nil), seg...))
		})
	}
	return all
}

// meaning blanks the ID, which means nothing where DF is set (RFC 6864).
func meaning(all [][]byte) string {
	s := ""
	for _, d := range all {
		if h := wire.IPv4(d); h.DontFragment() {
			h.SetID(0)
			h.UpdateHeaderChecksum()
		}
		s += fmt.Sprintf("%x\n", d)
	}
	return s
}

func flowOf(ip []byte) string {
	return fmt.Sprintf("%x", append(append([]byte{}, ip[12:24]...), ip[9]))
}

// TestCoalesceSame: whatever is joined, the receiver gets the datagrams that
// would have come one by one, each flow in order.
func TestCoalesceSame(t *testing.T) {
	for seed := range uint64(nstest.Rounds(200)) {
		r := rand.New(rand.NewPCG(seed, 1))
		l, p, _, _ := newLoop(t)
		want := map[string][][]byte{}
		ids := map[uint16]uint16{}
		n := 8 + r.IntN(57)
		if seed%4 == 0 { // more than are taken at a time
			n = 500 + r.IntN(1500)
		}
		flows := 4 + r.IntN(40)*int(seed%2)
		for range n {
			port := uint16(r.IntN(flows))
			size := 18
			if r.IntN(6) == 0 {
				size = 1 + r.IntN(40)
			}
			buf := forward.Packet("10.65.0.1", "10.65.1.9", size, func(v forward.Vnet, ip wire.IPv4) {
				switch r.IntN(12) {
				case 0:
					ids[port] += uint16(r.IntN(3))
				default:
					ids[port]++
				}
				ip.SetID(ids[port])
				if port != 3 {
					ip.SetFrag(wire.IPv4DF)
				}
				if r.IntN(30) == 0 {
					ip[8] = 40
				}
				udp := ip.Payload()
				binary.BigEndian.PutUint16(udp[0:], 4000+port)
				switch r.IntN(25) {
				case 0:
					binary.BigEndian.PutUint16(udp[6:], 0) // no checksum
				case 1:
					binary.BigEndian.PutUint16(udp[6:], 0xbad) // must arrive as bad as it came
				default:
					forward.PutL4Checksum(ip, udp, 6)
				}
			})
			sent := wire.IPv4(append([]byte(nil), buf[forward.VnetLen+14:]...))
			sent.DecrementTTL()
			want[flowOf(sent)] = append(want[flowOf(sent)], sent)
			p.Inject(forward.IfPod1, buf)
		}
		for range n/forward.BatchUsual + 1 {
			once(t, l)
		}
		frames := p.Sent()
		i := 0
		got := map[string][][]byte{}
		for _, d := range datagrams(t, func() []byte {
			if i == len(frames) {
				return nil
			}
			i++
			return frames[i-1].Buf
		}) {
			got[flowOf(d)] = append(got[flowOf(d)], d)
		}
		for flow, w := range want {
			if g := got[flow]; meaning(g) != meaning(w) {
				t.Fatalf("seed %d, flow %s: got %d datagrams, want %d\n%s\n%s", seed, flow, len(g), len(w), meaning(g), meaning(w))
			}
		}
		if n := counts(l, route.Forward); n != uint64(len(datagramsOf(want))) {
			t.Errorf("seed %d: %d counted, %d sent", seed, n, len(datagramsOf(want)))
		}
	}
}

// TestSuperLengths: each super-packet counts in the class of its length.
func TestSuperLengths(t *testing.T) {
	l, p, _, _ := newLoop(t)
	lengths := []int{2, 3, 4, 7, 8, 15, 16, 1, 1}
	for flow, n := range lengths {
		for i := range n {
			p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.65.1.9", 18, func(_ forward.Vnet, ip wire.IPv4) {
				ip.SetID(uint16(i))
				binary.BigEndian.PutUint16(ip.Payload(), 4000+uint16(flow))
				forward.PutL4Checksum(ip, ip.Payload(), 6)
			}))
		}
	}
	once(t, l)
	want := forward.Super{Packets: 7, Datagrams: 55, Lengths: [forward.SuperClasses]uint64{2, 2, 2, 1, 0, 0}}
	if s := l.Counters().Read(); s.Super != want || s.PacketsOut != 57 || len(p.Sent()) != len(lengths) {
		t.Errorf("%+v, want %+v; %d packets out", s.Super, want, s.PacketsOut)
	}
}

func datagramsOf(m map[string][][]byte) (all [][]byte) {
	for _, d := range m {
		all = append(all, d...)
	}
	return all
}

// TestCoalesceJoins: a backlog of one flow leaves as one frame; few frames, or
// frames that must not be joined, don't.
func TestCoalesceJoins(t *testing.T) {
	id := uint16(0)
	count := func(v forward.Vnet, ip wire.IPv4) { id++; ip.SetID(id) }
	fixed := func(v forward.Vnet, ip wire.IPv4) { ip.SetFrag(wire.IPv4DF) }
	tests := []struct {
		name   string
		n      int
		edit   func(forward.Vnet, wire.IPv4)
		frames int
	}{
		{"backlog", 64, count, 1},
		{"no backlog", 4, count, 4},
		{"fixed ID with DF", 64, fixed, 1},
		{"fixed ID without DF", 64, func(forward.Vnet, wire.IPv4) {}, 64},
		{"options", 20, func(_ forward.Vnet, ip wire.IPv4) { count(nil, ip); ip[0] = 0x46; copy(ip[20:], "\x01\x01\x01\x01") }, 20},
	}
	for _, tt := range tests {
		l, p, _, _ := newLoop(t)
		for range tt.n {
			p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.65.1.9", 18, tt.edit))
		}
		once(t, l)
		if got := len(p.Sent()); got != tt.frames {
			t.Errorf("%s: %d frames for %d datagrams, want %d", tt.name, got, tt.n, tt.frames)
		}
		want := forward.Super{}
		if tt.frames == 1 {
			want = forward.Super{Packets: 1, Datagrams: uint64(tt.n)}
			want.Lengths[forward.SuperClasses-1] = 1
		}
		if s := l.Counters().Read(); s.Super != want {
			t.Errorf("%s: super-packets %+v, want %+v", tt.name, s.Super, want)
		}
		if s := l.Counters().Read(); s.PacketsOut != uint64(tt.n) || s.BytesOut != uint64(tt.n*46) {
			t.Errorf("%s: counted %d packets, %d bytes", tt.name, s.PacketsOut, s.BytesOut)
		}
	}
}
