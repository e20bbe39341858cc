package filter

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// frame is what Match gets.
type frame struct {
	data []byte
	len  int // on the wire
}

// frameGen makes frames of what the expressions of exprGen ask for.
type frameGen struct {
	*rand.Rand
	link LinkType
}

// frames returns n frames, each whole and cut to 60 and to 30 bytes.
func frames(seed uint64, link LinkType, n int) []frame {
	g := &frameGen{rand.New(rand.NewPCG(seed, uint64(link))), link}
	var all []frame
	for range n {
		b := g.frame()
		for _, snap := range []int{len(b), 60, 30} {
			all = append(all, frame{b[:min(snap, len(b))], len(b)})
		}
	}
	return all
}

func one[T any](g *frameGen, of ...T) T { return of[g.IntN(len(of))] }

func (g *frameGen) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = one(g, 0, 0, 1, byte(g.Uint32()))
	}
	return b
}

func (g *frameGen) u16(of ...uint16) []byte { return binary.BigEndian.AppendUint16(nil, one(g, of...)) }

func cat(parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func (g *frameGen) frame() []byte {
	switch g.link {
	case RawDLT, IPv4, IPv6, NFLOG:
		return g.ip()
	case Null, NullBig, Loop:
		family := []byte{one[byte](g, 2, 2, 7, 10, 24, 28, 30), 0, 0, 0}
		if g.link != Null {
			slices.Reverse(family)
		}
		return cat(family, g.ip())
	case PPP, PPPSerial:
		return cat([]byte{0xff, 0x03}, g.pppFrame())
	case PPPPppd:
		return cat([]byte{one[byte](g, 0, 1, 0xff), 0x03}, g.pppFrame())
	case PPPEther:
		return cat([]byte{0x11, 0, 0, 7, 0, 40}, g.pppFrame())
	case PPPBSDOS:
		return cat(g.bytes(5), g.u16(0x21, 0x2d, 0x2f, 0x57), g.bytes(17), g.ip())
	case LinuxSLL:
		typ, payload := g.payload(1)
		return cat([]byte{0, one[byte](g, 0, 1, 4)}, g.bytes(12), typ, payload)
	case LinuxSLL2:
		typ, payload := g.payload(1)
		return cat(typ, []byte{0, 0, 0, 0, 0, one[byte](g, 2, 7), 0, 1, 0, 6}, []byte{one[byte](g, 0, 4)}, g.bytes(9), payload)
	}
	typ, payload := g.payload(2)
	return cat(g.mac(), g.mac(), typ, payload)
}

func (g *frameGen) ip() []byte { return one(g, g.ip4, g.ip4, g.ip6)() }

func (g *frameGen) pppFrame() []byte {
	return one(g, cat(g.u16(0x21, 0x21, 0x2d, 0x57, 0x25, 0x27, 0x29), g.ip()), cat(g.u16(0x281), g.mpls()), cat(g.u16(0x23, 0x2b, 0x31, 0xc021), g.llc()))
}

func (g *frameGen) mac() []byte {
	return one(g, []byte{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, []byte{0, 1, 2, 3, 4, 5},
		[]byte{0x0a, 0x58, 0x0a, 0xe9, 0x40, 0x05}, []byte{1, 0, 0x5e, 0, 0, 1})
}

// payload returns a type field and what it announces.
func (g *frameGen) payload(depth int) (typ, payload []byte) {
	switch g.IntN(12) {
	case 0:
		return g.u16(0x0806, 0x8035), cat([]byte{0, 1, 8, 0, 6, 4, 0, one[byte](g, 1, 2)}, g.mac(), g.addr4(), g.mac(), g.addr4())
	case 1, 2:
		return g.u16(0x86dd), g.ip6()
	case 3:
		return g.u16(46, 1500, 4), g.llc()
	case 4:
		return g.u16(0x8137, 0x809b, 0x80f3, 0x6003, 0x6004, 0x9000), cat(g.decnet(), g.bytes(40))
	case 5, 6:
		if depth > 0 {
			typ, payload := g.payload(depth - 1)
			return g.u16(0x8100, 0x88a8, 0x9100), cat(g.u16(10, 100, 0x600a), typ, payload)
		}
	case 7:
		return g.u16(0x8847), g.mpls()
	case 8:
		return g.u16(0x8863, 0x8864), cat([]byte{0x11, 0, 0, 7, 0, 40}, one(g, cat(g.u16(0x21), g.ip4()), cat(g.u16(0x57), g.ip6())))
	}
	return g.u16(0x0800), g.ip4()
}

func (g *frameGen) llc() []byte {
	return cat(one(g, []byte{0xfe, 0xfe, 0x03, 0x83}, []byte{0x42, 0x42, 0x03}, []byte{0xe0, 0xe0, 0x03}, []byte{0xff, 0xff}, []byte{0xf0, 0xf0, 0x7f},
		[]byte{0xaa, 0xaa, 0x03, 8, 0, 7, 0x80, 0x9b}, []byte{0xaa, 0xaa, 0x03, 0, 0, 0, 0x80, 0xf3}, []byte{0xaa, 0xaa, 0x03, 0, 0, 0, 0x81, 0x37},
		[]byte{6, 6, 1}, []byte{6, 6, 5}, []byte{6, 6, 0xaf}), []byte{one[byte](g, 0x81, 0x82, 0x83), 0, 0, 0, one[byte](g, 15, 17, 18, 26, 27)}, g.bytes(40))
}

func (g *frameGen) decnet() []byte {
	return cat([]byte{0, 0}, one(g, []byte{0x81, 0x06}, []byte{0x06}, []byte{0x81, 0x02}, []byte{0x02}), g.bytes(20))
}

func (g *frameGen) mpls() []byte {
	top := one(g, uint32(100)<<12, uint32(7)<<12)
	var b []byte
	if g.IntN(2) == 0 {
		b = binary.BigEndian.AppendUint32(b, top|64)
	}
	return cat(binary.BigEndian.AppendUint32(b, top|0x100|64), one(g, g.ip4, g.ip6)())
}

func (g *frameGen) addr4() []byte {
	return netip.MustParseAddr(one(g, "10.233.64.5", "10.96.0.10", "169.254.1.1", "172.17.8.102", "0.0.0.0", "255.255.255.255", "10.0.0.1", "10.1.2.3", "224.0.0.5", "127.0.0.1")).AsSlice()
}

func (g *frameGen) addr6() []byte {
	return netip.MustParseAddr(one(g, "fe80::1", "fe80::2", "::1", "::", "2001:db8::102:304", "ff02::1", "fd00:10::1")).AsSlice()
}

func (g *frameGen) ip4() []byte {
	proto := one[byte](g, 6, 6, 17, 17, 1, 2, 132, 4, 51, 103, 112, 9)
	options := g.bytes(4 * one(g, 0, 0, 0, 1, 10))
	fragment := g.u16(0, 0, 0x4000, 0x2000, 0x2001, 0x00b9)
	payload := g.transport(proto)
	n := 20 + len(options) + len(payload)
	return cat([]byte{0x45 + byte(len(options)/4), one[byte](g, 0, 0xb8)}, binary.BigEndian.AppendUint16(nil, uint16(n)), g.bytes(2), fragment,
		[]byte{one[byte](g, 1, 64), proto, 0, 0}, g.addr4(), g.addr4(), options, payload)
}

func (g *frameGen) ip6() []byte {
	next := one[byte](g, 6, 17, 58, 58, 132, 51)
	payload := g.transport(next)
	for g.IntN(3) == 0 {
		extension := one[byte](g, 0, 60, 43, 44)
		payload = cat([]byte{next, 0, 0, one[byte](g, 0, 1, 8), 0, 0, 0, 1}, payload)
		next = extension
	}
	return cat([]byte{0x60, 0, 0, 0}, binary.BigEndian.AppendUint16(nil, uint16(len(payload))), []byte{next, 64}, g.addr6(), g.addr6(), payload)
}

func (g *frameGen) port() []byte {
	return g.u16(80, 443, 53, 22, 8080, 65535, 0, 179, 40000, 6081, 31000)
}

func (g *frameGen) transport(proto byte) []byte {
	rest := g.bytes(one(g, 8, 20, 40, 100))
	switch proto {
	case 6:
		return cat(g.port(), g.port(), g.bytes(8), []byte{0x50, one[byte](g, 0x02, 0x12, 0x10, 0x04, 0x11, 0x18)}, g.bytes(6), rest)
	case 17:
		if g.IntN(3) == 0 {
			return cat(g.port(), g.u16(6081), g.u16(60), g.u16(0), g.genevePacket())
		}
		return cat(g.port(), g.port(), g.u16(60, 108), g.u16(0), rest)
	case 1, 58:
		return cat([]byte{one[byte](g, 8, 0, 3, 135, 128), one[byte](g, 0, 1, 4)}, rest)
	case 51:
		return cat([]byte{6, 4, 0, 0}, rest, rest)
	}
	return cat(g.port(), g.port(), rest)
}

func (g *frameGen) genevePacket() []byte {
	options := g.bytes(4 * g.IntN(3))
	header := cat([]byte{byte(len(options) / 4), 0})
	if g.IntN(2) == 0 {
		return cat(header, g.u16(0x0800), []byte{0, 0, 5, 0}, options, g.ip4())
	}
	typ, payload := g.payload(0)
	return cat(header, g.u16(0x6558), []byte{0, 0, 5, 0}, options, g.mac(), g.mac(), typ, payload)
}
