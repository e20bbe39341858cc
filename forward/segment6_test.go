package forward

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// gso6 makes an IPv6 super-packet without a frame: extension headers, the first of type
// first and each naming the next, then TCP or UDP with payload bytes.
func gso6(proto, first uint8, extensions []byte, payload, size int) (wire.IPv6, Vnet) {
	src, dst := netip.MustParseAddr("2001:db8::1").As16(), netip.MustParseAddr("2001:db8:1::9").As16()
	l4len := 8
	if proto == wire.ProtoTCP {
		l4len = 32
	}
	total := wire.IPv6Len + len(extensions) + l4len + payload
	ip := make(wire.IPv6, total)
	if total-wire.IPv6Len > 65535 {
		wire.PutIPv6(ip, 3, 0x12345, 0, first, 60, src, dst)
	} else {
		wire.PutIPv6(ip, 3, 0x12345, total-wire.IPv6Len, first, 60, src, dst)
	}
	at := wire.IPv6Len + copy(ip[wire.IPv6Len:], extensions)
	l4 := ip[at:]
	for i := range l4[l4len:] {
		l4[l4len+i] = byte(i * 7)
	}
	binary.BigEndian.PutUint32(l4, 4000<<16|5000)
	v := make(Vnet, VnetLen)
	v[0] = vnetNeedsCsum
	v.setHeaderLen(wire.EthernetLen + at + l4len)
	binary.NativeEndian.PutUint16(v[4:], uint16(size))
	v.setCsumStart(wire.EthernetLen + at)
	partial := ^wire.Fold(wire.PseudoSum6(src, dst, proto, len(l4)))
	if proto == wire.ProtoTCP {
		binary.BigEndian.PutUint32(l4[4:], 0xffffff00)
		l4[12], l4[13] = 8<<4, 0x10|tcpPSH|tcpFIN|tcpCWR
		binary.BigEndian.PutUint16(l4[16:], partial)
		v[1] = gsoTCPv6
		binary.NativeEndian.PutUint16(v[8:], 16)
	} else {
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
		binary.BigEndian.PutUint16(l4[6:], partial)
		v[1] = gsoUDPL4
		binary.NativeEndian.PutUint16(v[8:], 6)
	}
	return ip, v
}

// TestSegments6: the segments of a super-packet are whole datagrams that have its data
// between them, behind the same extension headers.
func TestSegments6(t *testing.T) {
	options := []byte{wire.ProtoDestOpts, 0, 5, 2, 0, 0, 1, 0, 0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	options[8] = wire.ProtoTCP
	options = options[:8+16]
	jumbo := binary.BigEndian.AppendUint32([]byte{wire.ProtoTCP, 0, wire.IPv6OptJumbo, 4}, 100_000+32+8)
	for _, c := range []struct {
		name           string
		proto, first   uint8
		extensions     []byte
		payload, size  int
		left           int // of extensions
		count, longest int
	}{
		{"TCP", wire.ProtoTCP, wire.ProtoTCP, nil, 5000, 1400, 0, 4, 1472},
		{"TCP, whole segments", wire.ProtoTCP, wire.ProtoTCP, nil, 4200, 1400, 0, 3, 1472},
		{"TCP behind options", wire.ProtoTCP, wire.ProtoHopByHop, options, 3000, 1000, 24, 3, 1096},
		{"BIG TCP", wire.ProtoTCP, wire.ProtoHopByHop, jumbo, 100_000, 1428, 0, 71, 1500},
		{"BIG TCP without an option", wire.ProtoTCP, wire.ProtoTCP, nil, 100_000, 1428, 0, 71, 1500},
		{"UDP", wire.ProtoUDP, wire.ProtoUDP, nil, 5000, 1200, 0, 5, 1248},
	} {
		ip, v := gso6(c.proto, c.first, c.extensions, c.payload, c.size)
		if got := segmentLen(ip, v); got != c.longest {
			t.Errorf("%s: segments of %d bytes, want %d", c.name, got, c.longest)
		}
		var data []byte
		n := 0
		l4len := 8
		if c.proto == wire.ProtoTCP {
			l4len = 32
		}
		segments(ip, v, make([]byte, pieceSize), func(seg []byte) {
			p := wire.IPv6(seg)
			if p.PayloadLen() != len(p)-wire.IPv6Len || !bytes.Equal(p[:4], ip[:4]) || !bytes.Equal(p[7:40], ip[7:40]) {
				t.Fatalf("%s, segment %d: %d bytes, header % x", c.name, n, len(p), []byte(p[:40]))
			}
			off, next, _, ok := p.Upper()
			if !ok || next != c.proto || off != wire.IPv6Len+c.left || !bytes.Equal(p[40:off], c.extensions[:c.left]) {
				t.Fatalf("%s, segment %d: protocol %d at %d", c.name, n, next, off)
			}
			l4 := p[off:]
			pseudo := slices.Concat(p[8:40], []byte{0, 0, byte(len(l4) >> 8), byte(len(l4)), 0, 0, 0, c.proto}, l4)
			if onesSum(pseudo) != 0xffff {
				t.Errorf("%s, segment %d: checksum", c.name, n)
			}
			if c.proto == wire.ProtoTCP {
				if seq := binary.BigEndian.Uint32(l4[4:]); seq != 0xffffff00+uint32(len(data)) {
					t.Errorf("%s, segment %d: sequence number %#x", c.name, n, seq)
				}
				want := byte(0x10)
				if n == 0 {
					want |= tcpCWR
				}
				if n == c.count-1 {
					want |= tcpPSH | tcpFIN
				}
				if l4[13] != want {
					t.Errorf("%s, segment %d: flags %#x, want %#x", c.name, n, l4[13], want)
				}
			} else if int(binary.BigEndian.Uint16(l4[4:])) != len(l4) {
				t.Errorf("%s, segment %d: UDP length", c.name, n)
			}
			data = append(data, l4[l4len:]...)
			n++
		})
		if n != c.count || !bytes.Equal(data, ip[len(ip)-c.payload:]) {
			t.Errorf("%s: %d segments with %d bytes, want %d with %d", c.name, n, len(data), c.count, c.payload)
		}
	}
}

// TestSegmentsRouted6: with a routing header the checksum is over the last destination.
func TestSegmentsRouted6(t *testing.T) {
	routing := append([]byte{wire.ProtoTCP, 2, 4, 1, 0, 0, 0, 0}, make([]byte, 16)...)
	last := netip.MustParseAddr("2001:db8:ffff::7").As16()
	copy(routing[8:], last[:])
	ip, v := gso6(wire.ProtoTCP, wire.ProtoRouting, routing, 3000, 1400)
	l4 := ip[wire.IPv6Len+len(routing):]
	binary.BigEndian.PutUint16(l4[16:], ^wire.Fold(wire.PseudoSum6(ip.Src(), last, wire.ProtoTCP, len(l4))))
	n := 0
	segments(ip, v, make([]byte, pieceSize), func(seg []byte) {
		n++
		l4 := seg[wire.IPv6Len+len(routing):]
		if wire.Fold(wire.Sum(l4, wire.PseudoSum6(ip.Src(), last, wire.ProtoTCP, len(l4)))) != 0 {
			t.Errorf("segment %d: checksum", n)
		}
	})
	if n != 3 {
		t.Errorf("%d segments, want 3", n)
	}
}

// TestSegmentLen6: type and packet have to fit together.
func TestSegmentLen6(t *testing.T) {
	later := []byte{wire.ProtoTCP, 0, 1, 0, 0, 0, 0, 1}
	for name, c := range map[string]struct {
		proto, first uint8
		extensions   []byte
		gso          uint8
		size         int
	}{
		"IPv4's type":   {wire.ProtoTCP, wire.ProtoTCP, nil, gsoTCPv4, 1400},
		"UDP as TCP":    {wire.ProtoUDP, wire.ProtoUDP, nil, gsoTCPv6, 1400},
		"TCP as UDP":    {wire.ProtoTCP, wire.ProtoTCP, nil, gsoUDPL4, 1400},
		"no size":       {wire.ProtoTCP, wire.ProtoTCP, nil, gsoTCPv6, 0},
		"a fragment":    {wire.ProtoTCP, wire.ProtoFragment, later, gsoTCPv6, 1400},
		"nothing there": {wire.ProtoTCP, wire.ProtoNone, nil, gsoTCPv6, 1400},
		"other type":    {wire.ProtoTCP, wire.ProtoTCP, nil, 3, 1400},
	} {
		ip, v := gso6(c.proto, c.first, c.extensions, 3000, 1400)
		v[1] = c.gso
		binary.NativeEndian.PutUint16(v[4:], uint16(c.size))
		if got := segmentLen(ip, v); got != -1 {
			t.Errorf("%s: %d", name, got)
		}
	}
	ip, v := gso6(wire.ProtoTCP, wire.ProtoTCP, nil, 100, 50)
	for n := wire.IPv6Len; n < wire.IPv6Len+32; n++ {
		if got := segmentLen(ip[:n], v); got != -1 {
			t.Errorf("cut to %d bytes: %d", n, got)
		}
	}
}

// TestSendsBigTCP6: a super-packet of more than 64 KB leaves as several that a packet socket may send, which stand
// for the same segments.
func TestSendsBigTCP6(t *testing.T) {
	jumbo := binary.BigEndian.AppendUint32([]byte{wire.ProtoTCP, 0, wire.IPv6OptJumbo, 4}, 185_000+32+8)
	for _, c := range []struct {
		name       string
		first      uint8
		extensions []byte
		payload    int
		size       int
		sent       int
	}{
		{"with an option", wire.ProtoHopByHop, jumbo, 185_000, 1428, 3},
		{"without an option", wire.ProtoTCP, nil, 185_000, 1428, 3},
		{"the last is one segment", wire.ProtoTCP, nil, 46 * 1428, 1428, 2},
		{"of 64 KB", wire.ProtoTCP, nil, 65535 - VnetLen - wire.EthernetLen - wire.IPv6Len - 32, 1428, 1},
		{"its segments are of 64 KB", wire.ProtoTCP, nil, 2*65463 + 1, 65463, 3},
	} {
		ip, v := gso6(wire.ProtoTCP, c.first, c.extensions, c.payload, c.size)
		var want, got [][]byte
		segments(ip, v, make([]byte, pieceSize), func(seg []byte) { want = append(want, bytes.Clone(seg)) })
		conn := new(sentFrames)
		e := emitter{conn: conn, turn: new(turn), counters: new(Counters), drops: new(dropper)}
		e.join.reset()
		for range 2 { // its memory is used again
			got = nil
			conn.frames = nil
			e.send(framed6(v, ip), &route.Link{Ifindex: ifPod2, Flags: route.LinkUp | route.LinkEthernet}, route.Forward)
			e.flush()
			for i, f := range conn.frames {
				p, v := f[VnetLen+wire.EthernetLen:], Vnet(f)
				if len(f) > maxSuper && v.gso() != gsoNone || v.csumStart() != wire.EthernetLen+wire.IPv6Len || v.csumOffset() != 16 || v.headerLen() != wire.EthernetLen+wire.IPv6Len+32 {
					t.Errorf("%s: frame %d of %d bytes: % x", c.name, i, len(f), f[:VnetLen])
				}
				if v.gso() == gsoNone {
					if !completeChecksum(p, v, wire.EthernetLen) {
						t.Errorf("%s: frame %d: no checksum", c.name, i)
					}
					got = append(got, p)
					continue
				}
				segments(p, v, make([]byte, pieceSize), func(seg []byte) { got = append(got, bytes.Clone(seg)) })
			}
		}
		if len(conn.frames) != c.sent || !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%s: %d frames of %d segments, want %d of %d", c.name, len(conn.frames), len(got), c.sent, len(want))
		}
		if n := e.counters.Read().ByVerdict[route.Forward]; n != 2 {
			t.Errorf("%s: %d forwarded, want 2", c.name, n)
		}
	}
}

// sentFrames keeps what is sent.
type sentFrames struct {
	Conn
	frames [][]byte
}

func (c *sentFrames) Send(out []Out) {
	for i := range out {
		c.frames = append(c.frames, bytes.Clone(out[i].Buf))
		out[i].Err = route.Forward
	}
}
