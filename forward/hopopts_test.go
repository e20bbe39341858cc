package forward

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"proxyarpd/forward/route"
	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

// tlvModel is net/ipv6/exthdrs.c, ipv6_parse_hopopts and ip6_parse_tlv, in the kernel's
// words: what it does with a packet, and how long it then is.
func tlvModel(p []byte, maxCount, maxLength int) (total int, v route.Verdict, icmp route.ICMPError) {
	bad := func(v route.Verdict) (int, route.Verdict, route.ICMPError) { return 0, v, route.ICMPError{} }
	problem := func(v route.Verdict, code uint8, at int) (int, route.Verdict, route.ICMPError) {
		return 0, v, icmpError(4, code, uint32(at))
	}
	if len(p) < 48 || len(p) < 40+(int(p[41])+1)<<3 || (int(p[41])+1)<<3 > maxLength {
		return bad(route.DropIPInHdr)
	}
	disallow := maxCount < 0
	if disallow {
		maxCount = -maxCount
	}
	off, left, pads, count := 42, (int(p[41])+1)<<3-2, 0, 0
	for left > 0 {
		if p[off] == 0 {
			if pads++; pads > 7 {
				return bad(route.DropIPInHdr)
			}
			off, left = off+1, left-1
			continue
		}
		if left < 2 {
			return bad(route.DropIPInHdr)
		}
		length := int(p[off+1]) + 2
		if length > left {
			return bad(route.DropIPInHdr)
		}
		if p[off] == 1 {
			if pads += length; pads > 7 {
				return bad(route.DropIPInHdr)
			}
			for i := 2; i < length; i++ {
				if p[off+i] != 0 {
					return bad(route.DropIPInHdr)
				}
			}
		} else {
			if count++; count > maxCount {
				return bad(route.DropIPInHdr)
			}
			pads = 0
			switch p[off] {
			case 5:
				if p[off+1] != 2 {
					return bad(route.DropIPInHdr)
				}
			case 0x31:
				if off%4 != 0 {
					return bad(route.DropIPInHdr)
				}
			case 7:
				return bad(route.DropIPInHdr)
			case 0xc2:
				if p[off+1] != 4 || off%4 != 2 {
					return bad(route.DropIPInHdr)
				}
				n := int(binary.BigEndian.Uint32(p[off+2:]))
				if n < 65536 {
					return problem(route.DropIPInHdr, 0, off+2)
				}
				if p[4] != 0 || p[5] != 0 {
					return problem(route.DropIPInHdr, 0, off)
				}
				if n > len(p)-40 {
					return bad(route.DropPktTooSmall)
				}
				total = n + 40
				p = p[:total]
			default:
				if disallow {
					return bad(route.DropUnhandledProto)
				}
				switch p[off] >> 6 {
				case 1:
					return bad(route.DropUnhandledProto)
				case 2:
					return problem(route.DropUnhandledProto, 2, off)
				case 3:
					if p[24] == 0xff {
						return bad(route.DropUnhandledProto)
					}
					return problem(route.DropUnhandledProto, 2, off)
				}
			}
		}
		off, left = off+length, left-length
	}
	return total, route.NotSpecified, route.ICMPError{}
}

// hopPacket draws a packet with hop-by-hop options, some of them sound.
func hopPacket(rng *rand.Rand) wire.IPv6 {
	p := make(wire.IPv6, 42)
	p[0], p[24] = 6<<4, 0x20
	if rng.IntN(8) == 0 {
		p[24] = 0xff
	}
	kinds := []byte{0, 0, 0, 1, 1, 1, 1, 5, 5, 7, 0x31, 0xc2, 0xc2, 0x1e, 0x5e, 0x9e, 0xde, byte(rng.Uint32())}
	jumbo := false
	for range rng.IntN(6) {
		switch kind := kinds[rng.IntN(len(kinds))]; kind {
		case 0:
			p = append(p, 0)
		case 1:
			n := rng.IntN(6)
			p = append(p, 1, byte(n))
			p = append(p, make([]byte, n)...)
			if rng.IntN(16) == 0 {
				p[len(p)-1]++
			}
		case 5:
			p = append(p, 5, 2, 0, byte(rng.IntN(3)))
		case 0xc2:
			for len(p)%4 != 2 && rng.IntN(8) != 0 {
				p = append(p, 0)
			}
			jumbo = true
			p = binary.BigEndian.AppendUint32(append(p, 0xc2, 4), []uint32{65535, 65536, 65600, 70000, 0}[rng.IntN(5)])
		default:
			n := rng.IntN(9)
			p = append(p, kind, byte(n))
			for range n {
				p = append(p, byte(rng.Uint32()))
			}
		}
	}
	for len(p)%8 != 0 {
		p = append(p, 0)
	}
	p[41] = byte((len(p) - 40 - 8) / 8)
	switch rng.IntN(12) {
	case 0:
		p[41]++
	case 1:
		if p[41] > 0 {
			p[41]--
		}
	}
	if jumbo && rng.IntN(2) == 0 {
		p = append(p, make([]byte, 65700)...)
	} else if !jumbo || rng.IntN(2) == 0 {
		p.SetPayloadLen(len(p) - 40)
	}
	if rng.IntN(16) == 0 {
		p = p[:40+rng.IntN(len(p)-39)]
	}
	return p
}

func compareHopOptions(t *testing.T, p wire.IPv6, most, longest int) route.Verdict {
	t.Helper()
	var o hopOptions
	ok := o.parse(p, most, longest)
	total, v, icmp := tlvModel(p, most, longest)
	if v != route.NotSpecified {
		total, o.total = 0, 0
	}
	if o.total != total || o.verdict != v || o.icmp != icmp || ok != (v == route.NotSpecified) {
		t.Fatalf("% x, %d options, %d bytes: %t, %+v; want %d bytes, %v, %+v", []byte(p[:min(len(p), 200)]), most, longest, ok, o, total, v, icmp)
	}
	return o.verdict
}

// TestHopOptionsModel holds the options against the kernel's text.
func TestHopOptionsModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 1))
	counts := map[route.Verdict]int{}
	for range nstest.Rounds(30_000) {
		most, longest := 8, 1<<31-1
		switch rng.IntN(10) {
		case 0:
			most = rng.IntN(7) - 3
		case 1:
			longest = 8 * rng.IntN(5)
		}
		counts[compareHopOptions(t, hopPacket(rng), most, longest)]++
	}
	for _, v := range []route.Verdict{route.NotSpecified, route.DropIPInHdr, route.DropUnhandledProto, route.DropPktTooSmall} {
		if counts[v] < 50 {
			t.Errorf("%v came %d times", v, counts[v])
		}
	}
}

func FuzzHopOptions(f *testing.F) {
	rng := rand.New(rand.NewPCG(6, 2))
	for range 20 {
		f.Add([]byte(hopPacket(rng)), int8(8))
	}
	f.Fuzz(func(t *testing.T, p []byte, most int8) {
		if len(p) >= wire.IPv6Len {
			compareHopOptions(t, p, int(most), 1<<31-1)
		}
	})
}
