package dissect_test

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
)

func le16(v int) []byte { return binary.LittleEndian.AppendUint16(nil, uint16(v)) }

// makeIPv4 is a packet with a UDP datagram, or bytes of another protocol.
func makeIPv4(r *rand.Rand, options []byte) []byte {
	payload := oneOf(r, join(be16(1111), be16(2222), be16(13), be16(0), []byte("hello")), makeBytes(0, 20)(r))
	proto := oneOf[byte](r, 17, 17, 1, 47, 99)
	b := join([]byte{0x45 + byte(len(options)/4), 0}, be16(20+len(options)+len(payload)), be16(1), be16(oneOf(r, 0, 0, 0x2000, 5)),
		[]byte{64, proto}, be16(0), []byte{10, 0, 0, 1, 10, 0, 0, 2}, options, payload)
	if r.IntN(4) > 0 {
		binary.BigEndian.PutUint16(b[10:], sum(b[:20+len(options)]))
	}
	return b
}

func makeIP(r *rand.Rand) []byte {
	if r.IntN(3) == 0 {
		return join([]byte{0x60, 0, 0, 0}, be16(13), []byte{17, 64}, someBytes(r, 32), be16(1111), be16(2222), be16(13), be16(0), []byte("hello"))
	}
	return makeIPv4(r, nil)
}

// makeIPOptions is a packet with options, of which some run into what follows or are cut.
func makeIPOptions(r *rand.Rand) []byte {
	var o []byte
	for range r.IntN(4) {
		n := r.IntN(5)
		size := 3 + 4*n + oneOf(r, 0, 0, 0, 1, 2, 3)
		route := join([]byte{oneOf[byte](r, 7, 131, 137), byte(size), byte(4 * (1 + r.IntN(n+1)))}, someBytes(r, 4*n))
		stamp := join([]byte{68, byte(4 + 8*n + oneOf(r, 0, 0, 0, 2)), byte(5 + 8*r.IntN(n+1)), oneOf[byte](r, 0, 1, 3, 2, 0x31)}, someBytes(r, 8*n))
		o = join(o, oneOf(r, route, route, stamp, []byte{1}, []byte{148, 4, 0, oneOf[byte](r, 0, 9)}, []byte{130, 4, 1, 2}, []byte{82, 2}, []byte{0}))
	}
	o = append(o, make([]byte, -len(o)&3)...)
	return makeIPv4(r, o[:min(len(o), 40)])
}

func makeARP(r *rand.Rand) []byte {
	proto := oneOf(r, 0x0800, 0x0800, 0x0800, 0x1000, 0x86dd)
	op := oneOf(r, 1, 1, 2, 3, 4, 8, 9, 10, 7)
	if r.IntN(2) == 0 { // over ATM
		number := func() (kind byte, b []byte) {
			n := oneOf(r, 0, 6, 20)
			return byte(n) | oneOf[byte](r, 0, 0x40), someBytes(r, n)
		}
		sht, sha := number()
		sst, ssa := number()
		tht, tha := number()
		tst, tsa := number()
		spl, tpl := oneOf(r, 4, 4, 0), oneOf(r, 4, 4, 0)
		return join(be16(19), be16(proto), []byte{sht, sst}, be16(op), []byte{byte(spl), tht, tst, byte(tpl)}, sha, ssa, someBytes(r, spl), tha, tsa, someBytes(r, tpl))
	}
	h, p := oneOf(r, 6, 6, 2, 3, 4, 0, 20), oneOf(r, 4, 4, 4, 6)
	return join(be16(oneOf(r, 1, 15, 15, 6, 32, 77)), be16(proto), []byte{byte(h), byte(p)}, be16(op), someBytes(r, h), someBytes(r, p),
		oneOf(r, someBytes(r, h), make([]byte, h)), someBytes(r, p), make([]byte, oneOf(r, 0, 18)))
}

func makeOpenFlow(r *rand.Rand) (b []byte) {
	for range 1 + r.IntN(3) {
		body := makeBytes(0, 12)(r)
		if r.IntN(2) == 0 {
			body = someBytes(r, oneOf(r, 0, 4, 8, 16, 24, 32, 56, 72, 80))
		}
		b = join(b, []byte{oneOf[byte](r, 1, 1, 4, 4, 2, 9), byte(r.IntN(32))}, be16(8+len(body)+oneOf(r, 0, 0, 0, 0, 5, -9)), be32(r.Uint32()), body)
	}
	return b[:len(b)-oneOf(r, 0, 0, 0, min(len(b), 5))]
}

func makePPTP(r *rand.Rand) []byte {
	text := func(n int) []byte { return append([]byte(oneOf(r, "host", "", "a\x80b")), make([]byte, n-4)...)[:n] }
	kind := r.IntN(17)
	body := join(someBytes(r, oneOf(r, 4, 8, 16, 24, 28)), text(64), text(64), text(64))
	for range 12 { // small numbers
		body[r.IntN(24)%len(body)] = byte(r.IntN(5))
	}
	return join(be16(156), be16(oneOf(r, 1, 1, 2, 3)), be32(oneOf[uint32](r, 0x1a2b3c4d, 0x1a2b3c4d, 5)), be16(kind), be16(oneOf(r, 0, 0, 7)), body)
}

func makeAODV(r *rand.Rand) []byte {
	b := join([]byte{oneOf[byte](r, 1, 2, 3, 4, 16, 17, 18, 19, 40), byte(r.Uint32()), byte(r.Uint32()), byte(r.IntN(4))}, makeBytes(0, 60)(r))
	return join(b, oneOf(r, nil, []byte{1, 4, 0, 0, 3, 0xe8}, []byte{9, 2, 0, 0}))
}

func makeHNCP(r *rand.Rand) (b []byte) {
	kind := r.IntN(50)
	for range r.IntN(6) {
		if r.IntN(2) == 0 {
			kind = oneOf(r, r.IntN(50), 0, 6, 7, 100, 800, 2000)
		}
		n := r.IntN(9)
		b = join(b, be16(kind), be16(n+oneOf(r, 0, 0, 0, 0, 0, 0, 3)), someBytes(r, n), make([]byte, -n&3))
	}
	return b
}

func makeLISP(r *rand.Rand) []byte {
	auth := oneOf(r, 0, 20)
	b := join([]byte{oneOf[byte](r, 0x30, 0x32, 0x40, 0x48, 0x10, 0x80, 0xf0), 0, 0, byte(r.IntN(3))}, someBytes(r, 8), be16(1), be16(auth), someBytes(r, auth))
	address := func() []byte {
		return oneOf(r, join(be16(1), someBytes(r, 4)), join(be16(1), someBytes(r, 4)), join(be16(2), someBytes(r, 16)), be16(16387))
	}
	for range r.IntN(3) {
		n := r.IntN(3)
		b = join(b, be32(1440), []byte{byte(n), 24, 0x10, 0, 0, 0}, address())
		for range n {
			b = join(b, []byte{1, 100, 255, 0, 0, 5}, address())
		}
	}
	return join(b, makeBytes(0, 30)(r))
}

func makeMSTP(r *rand.Rand) []byte {
	trees := r.IntN(3)
	len3 := 64 + 16*trees + oneOf(r, 0, 0, 0, 0, 5)
	b := join([]byte{0x42, 0x42, 3, 0, 0, oneOf[byte](r, 3, 3, 4), 2}, someBytes(r, 30), []byte{0}, be16(len3), []byte{0}, append([]byte("region"), make([]byte, 26)...), someBytes(r, 31))
	for range trees {
		b = append(b, someBytes(r, 16)...)
	}
	return join(b, be16(oneOf(r, 85, 3)), someBytes(r, 90))
}

func makeLLC(r *rand.Rand) []byte {
	sap := oneOf[byte](r, 0x42, 0xaa, 0xe0, 0xfe, 0x06, 0xf0, 0xff)
	body := oneOf(r, makeIPX(r), makeOSI(r), makeIPv4(r, nil), makeBytes(0, 20)(r),
		join([]byte{0, 0, 0}, be16(oneOf(r, 0x809b, 0x80f3, 0x8137, 0x0800)), makeAppleTalk(r)), join([]byte{8, 0, 7}, be16(0x809b), makeAppleTalk(r)),
		join([]byte{0, 0x80, 0xc2}, be16(oneOf(r, 1, 7, 14, 2)), be16(0), someBytes(r, 12), be16(0x0800), makeIPv4(r, nil)))
	return join([]byte{sap, sap | oneOf[byte](r, 0, 0, 0, 1), oneOf[byte](r, 3, 3, 3, 3, 0x0f, 0x1f, 0x43, 0x63, 0xaf, 0x87, 1, 5, 0)}, body)
}

func makeIPX(r *rand.Rand) []byte {
	socket := oneOf(r, 0x451, 0x452, 0x453, 0x455, 0x456, 0x553, 0x85be, 0x4000)
	body := makeBytes(0, 20)(r)
	switch socket {
	case 0x452:
		body = join(be16(1+r.IntN(5)), be16(4))
		if r.IntN(2) == 0 {
			body = be16(oneOf(r, 2, 4))
			for range r.IntN(3) {
				body = join(body, be16(4), append([]byte("SERVER"), make([]byte, 42)...), someBytes(r, 14))
			}
		}
	case 0x453:
		body = join(be16(1+r.IntN(3)), someBytes(r, 8*r.IntN(3)+oneOf(r, 0, 0, 3)))
	}
	n := 30 + len(body) + oneOf(r, 0, 0, 0, 1, -31)
	return join(be16(0xffff), be16(n), []byte{0, 1}, someBytes(r, 10), be16(socket), someBytes(r, 12), body)
}

func makeAppleTalk(r *rand.Rand) []byte {
	kind := oneOf[byte](r, 1, 2, 2, 2, 3, 3, 4, 5, 22, 75, 99)
	src := someBytes(r, 3)
	body := makeBytes(0, 20)(r)
	switch kind {
	case 2:
		n := 1 + r.IntN(3)
		body = []byte{oneOf[byte](r, 0x10, 0x20, 0x30, 0x40) | byte(n), 7}
		for range n {
			body = join(body, oneOf(r, join(src[:2], src[2:3], []byte{9, 1}), someBytes(r, 5)))
			for range 3 {
				s := oneOf(r, "printer", "*", "", "caf\x8e")
				body = join(body, []byte{byte(len(s)) + oneOf[byte](r, 0, 0, 0, 0, 0, 40)}, []byte(s))
			}
		}
	case 3:
		body = join([]byte{byte(r.IntN(4))<<6 | byte(r.IntN(8))<<3, oneOf[byte](r, 1, 3, 7, 5, 0, 0xff, 0xf0)}, be16(5), oneOf(r, be32(0), be32(r.Uint32())), makeBytes(0, 5)(r))
	}
	return join(be16(13+len(body)), be16(0), someBytes(r, 2), src[:2], []byte{oneOf[byte](r, 3, 255)}, src[2:3], []byte{oneOf[byte](r, 2, 1, 4, 6, 99), 9, kind}, body)
}

func makeAARP(r *rand.Rand) []byte {
	return join(be16(oneOf(r, 1, 1, 1, 2)), be16(oneOf(r, 0x809b, 0x809b, 0)), []byte{6, 4}, be16(1+r.IntN(4)), someBytes(r, oneOf(r, 20, 20, 20, 10)))
}

func makeOSI(r *rand.Rand) []byte {
	id := someBytes(r, 8)
	nsap := func() []byte { n := oneOf(r, 0, 1, 8, 20, 21); return join([]byte{byte(n)}, someBytes(r, n)) }
	switch r.IntN(4) {
	case 0:
		a := join(nsap(), nsap())
		return join([]byte{0, 0x81, byte(9 + len(a) + oneOf(r, 0, 0, 0, -3)), oneOf[byte](r, 1, 1, 1, 2), 20, oneOf[byte](r, 28, 1, 0x9e, 31, 29, 5)}, be16(50), be16(0), a, makeBytes(0, 9)(r))
	case 1:
		return join([]byte{0, 0x82, byte(oneOf(r, 12, 11, 9, 90)), oneOf[byte](r, 1, 1, 2), 0, oneOf[byte](r, 2, 4, 6, 9)}, be16(60), be16(0), id)
	case 2:
		kind := oneOf[byte](r, 15, 16, 17, 18, 20, 24, 25, 26, 27, 9)
		fixed := map[byte]byte{15: 27, 16: 27, 17: 20, 18: 27, 20: 27, 24: 33, 25: 33, 26: 17, 27: 17}[kind] + oneOf[byte](r, 0, 0, 0, 0, 1)
		return join([]byte{0, 0x83, fixed, oneOf[byte](r, 1, 1, 1, 1, 2), oneOf[byte](r, 0, 6, 0, 8), kind, oneOf[byte](r, 1, 1, 1, 3), 0, oneOf[byte](r, 0, 3, 255)}, someBytes(r, oneOf(r, 30, 30, 12)))
	}
	return join([]byte{0, oneOf[byte](r, 0, 0xcc, 0x8e, 0xcf, 0x80, 0x99)}, makeIP(r))
}

func makeGeoNet(r *rand.Rand) []byte {
	return join([]byte{byte(r.IntN(6)), byte(r.IntN(8))<<4 | byte(r.IntN(4)), 0, 0}, be16(30), []byte{0, 9}, someBytes(r, 28), makeBytes(0, 50)(r))
}

func makeCFM(r *rand.Rand) []byte {
	return join([]byte{oneOf[byte](r, 0, 0x60, 0xe0, 1), byte(r.IntN(7)), 0, 0}, makeBytes(0, 9)(r))
}

func makeRRCP(r *rand.Rand) []byte {
	return join([]byte{oneOf[byte](r, 1, 1, 1, 1, 2, 3, 4, 0x23, 0x95, 0xa1, 0x77), oneOf[byte](r, 0, 0x80, 1, 0x81, 2, 9)}, someBytes(r, oneOf(r, 16, 16, 7)))
}

func makeTIPC(r *rand.Rand) []byte {
	return join(be32(uint32(r.IntN(16))<<25|uint32(r.IntN(12))<<21|uint32(r.IntN(5))<<29|77), be32(uint32(r.IntN(8))<<29|5), someBytes(r, oneOf(r, 36, 36, 36, 8)))
}

func makeMACsec(r *rand.Rand) []byte {
	tci := byte(r.IntN(4)) | oneOf[byte](r, 0, 0, 0x20, 0x20, 0x0c, 0x2c, 0x50, 0x80)
	inside := join(be16(0x0800), makeIPv4(r, nil))
	size := oneOf(r, 0, 0, 0, min(len(inside), 63), 1, 77)
	b := join([]byte{tci, byte(size)}, be32(7))
	if tci&0x20 != 0 {
		b = append(b, someBytes(r, 8)...)
	}
	return join(b, inside, someBytes(r, oneOf(r, 16, 16, 3)))
}

func makeArista(r *rand.Rand) []byte {
	form := byte(1 + r.IntN(3))
	b := join(be16(oneOf(r, 1, 1, 1, 2)), []byte{byte(r.IntN(3)), form<<4 | byte(r.IntN(3))})
	switch form {
	case 1:
		b = join(b, be32(1700000000), be32(uint32(r.IntN(2e9))))
	case 2:
		b = join(b, be16(5), be32(uint32(r.IntN(2e9))))
	}
	return join(b, oneOf(r, join(be16(0x0800), makeIPv4(r, nil)), join(be16(0x8100), be16(10), be16(0x0800), makeIPv4(r, nil)), be16(0x9999)))
}

func makePPPLink(r *rand.Rand) []byte {
	head := oneOf(r, []byte{0xff, 3}, []byte{0xff, 3}, []byte{0xff, 3}, []byte{0, 3}, []byte{1, 3}, []byte{0x0f, 0}, []byte{0x8f, 0}, nil)
	payload := oneOf(r, join(be16(0x21), makeIPv4(r, nil)), join([]byte{0x21}, makeIPv4(r, nil)), join(be16(0x57), makeIP(r)), join(be16(0xc021), []byte{1, 1, 0, 14, 1, 4, 5, 0xdc, 5, 6, 1, 2, 3, 4}),
		join(be16(0x2b), makeIPX(r)), join(be16(0x7e21), makeIPv4(r, nil)), join(be16(0x7eff), []byte{0x7d, 0x23}, be16(0x21), makeIPv4(r, nil)),
		join(be16(0x281), be32(0x00010140), makeIPv4(r, nil)), join(be16(r.IntN(0x10000)), makeBytes(0, 20)(r)), join(be16(0x0800), makeIPv4(r, nil)),
		join(be16(0x8035), be32(uint32(r.IntN(4))), someBytes(r, oneOf(r, 10, 14, 18, 3))))
	return join(head, payload)
}

func makePPPoE(r *rand.Rand) []byte {
	if r.IntN(3) == 0 {
		tags := join(be16(0x0101), be16(0), be16(0x0103), be16(4), someBytes(r, 4))
		return join([]byte{0x11, oneOf[byte](r, 9, 7, 0x19, 0x65, 0xa7)}, be16(r.IntN(3)), be16(len(tags)), tags)
	}
	b := makePPPLink(r)
	return join([]byte{0x11, 0}, be16(7), be16(len(b)+oneOf(r, 0, 0, 0, 4, -4)), b)
}

func makeNFLOG(r *rand.Rand) []byte {
	attribute := func(kind int, v []byte) []byte {
		return join(le16(4+len(v)+oneOf(r, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 300)), le16(kind), v, make([]byte, -len(v)&3))
	}
	b := []byte{oneOf[byte](r, 2, 2, 10, 7), oneOf[byte](r, 0, 0, 0, 0, 1), 0, 5}
	for range r.IntN(4) {
		b = join(b, attribute(oneOf(r, 1, 3, 4, 5, 8, 10, 11, 16), makeBytes(0, 16)(r)))
	}
	payload := makeIPv4(r, nil)
	if b[0] == 10 {
		payload = makeIP(r)
	}
	return join(b, attribute(9, payload))
}

func makeNull(r *rand.Rand) []byte {
	family := be32(oneOf[uint32](r, 2, 2, 2, 24, 28, 30, 7, 16, 23, 10))
	if r.IntN(2) == 0 {
		slices.Reverse(family)
	}
	return join(family, oneOf(r, makeIP(r), makeIPX(r), makeAppleTalk(r), makeOSI(r)[1:]))
}

// cooked is what a cooked header says of its payload, and the payload.
func cooked(r *rand.Rand) (kind, payload []byte) {
	switch r.IntN(6) {
	case 0:
		return be16(0x8100), join(be16(r.Int()), be16(oneOf(r, 0x0800, 0x8100, 0x9999, 50)), makeIPv4(r, nil))
	case 1:
		return be16(4), makeLLC(r)
	case 2:
		return be16(oneOf(r, 1, 0x8137)), makeIPX(r)
	case 3:
		return be16(oneOf(r, 0x9999, 0x88a8, 0x0806)), makeARP(r)
	}
	return be16(0x0800), makeIPv4(r, nil)
}

func makeCooked2(r *rand.Rand) []byte {
	kind, payload := cooked(r)
	return join(kind, be16(0), be32(0xffffff), be16(1), []byte{byte(r.IntN(6)), oneOf[byte](r, 6, 6, 0)}, someBytes(r, 8), payload)
}

func makeCooked(r *rand.Rand) []byte {
	kind, payload := cooked(r)
	return join(be16(r.IntN(6)), be16(1), be16(oneOf(r, 6, 6, 0)), someBytes(r, 8), kind, payload)
}
