package differential

// errorTTL makes some of the datagrams be answered with an error.
func (g *gen) errorTTL(p *packet) { p.ttl = pick[byte](g, 1, 2, 64, 64, 64) }

func (g *gen) nops() []byte { return []byte{1, 1, 1, 1}[:g.IntN(4)] }

func limit(opts []byte) []byte { return opts[:min(len(opts), 40)] }

// optPad are no-operations, ends of the list, and garbage behind them.
func optPad(g *gen) packet {
	p := g.plain()
	g.errorTTL(&p)
	switch g.IntN(3) {
	case 0:
		for range 4 * (1 + g.IntN(10)) {
			p.opts = append(p.opts, 1)
		}
	case 1:
		p.opts = limit(append(g.nops(), append([]byte{0}, g.data(g.IntN(20))...)...))
	default:
		p.opts = append(g.nops(), 0, 0, 0)
	}
	return p
}

func optRecordRoute(g *gen) packet {
	p := g.plain()
	g.errorTTL(&p)
	slots := g.IntN(10)
	n := 3 + 4*slots
	if g.IntN(6) == 0 {
		n += 1 + g.IntN(3)
	}
	o := make([]byte, min(n, 39))
	copy(o[min(3, len(o)):], g.data(len(o)-3))
	o[0], o[1], o[2] = 7, byte(len(o)), byte(4+4*g.IntN(slots+1))
	switch g.IntN(10) {
	case 0:
		o[2] = byte(g.IntN(256))
	case 1:
		o[1] = byte(g.IntN(len(o) + 2))
	case 2:
		o[2] = byte(len(o) + 1)
	case 3:
		o = append(o, o...)
	}
	p.opts = limit(append(g.nops(), o...))
	return p
}

func optTimestamp(g *gen) packet {
	p := g.plain()
	g.errorTTL(&p)
	form := pick[byte](g, 0, 1, 3)
	each := 8
	if form == 0 {
		each = 4
	}
	slots := g.IntN(36/each + 1)
	o := make([]byte, min(4+each*slots+pick(g, 0, 0, 0, 0, 1, 4), 40))
	for at := 4; at+4 <= len(o); at += each {
		a := pick(g, hostOwn[0], hostOwn[1], hostOwn[4], podAddrs[0][0], g.within(remoteA[0]), ip("224.0.0.1"), ip("10.1.15.255"), ip("127.0.0.1"), ip("0.0.0.0"), ip("10.69.2.1"))
		if form != 0 {
			copy(o[at:], a[:])
		}
	}
	o[0], o[1], o[2], o[3] = 68, byte(len(o)), byte(5+each*g.IntN(slots+1)), form|byte(g.IntN(16))<<4
	switch g.IntN(10) {
	case 0:
		o[2] = byte(g.IntN(256))
	case 1:
		o[1] = byte(g.IntN(len(o) + 2))
	case 2:
		o[2] = byte(len(o) + 1)
	case 3:
		o[3] = byte(g.IntN(256))
	case 4:
		o = append(o, o...)
	}
	p.opts = limit(append(g.nops(), o...))
	return p
}

func optSourceRoute(g *gen) packet {
	p := g.plain()
	g.errorTTL(&p)
	hops := g.IntN(9)
	o := make([]byte, 3+4*hops)
	for i := range hops {
		a := pick(g, hostOwn[0], podAddrs[1][0], g.within(remoteA[0]), g.within(unrouted[0]))
		copy(o[3+4*i:], a[:])
	}
	o[0], o[1], o[2] = pick[byte](g, 131, 137), byte(len(o)), byte(4+4*g.IntN(hops+1))
	switch g.IntN(8) {
	case 0:
		o[2] = byte(g.IntN(256))
	case 1:
		o[1] = byte(g.IntN(len(o) + 2))
	case 2:
		o = append(o, o...)
	}
	switch g.IntN(4) {
	case 0:
		p.dst = pick(g, hostOwn...)
	case 1:
		p.dst = g.within(pick(g, unrouted...))
	}
	p.opts = limit(append(g.nops(), o...))
	return p
}

// optOther are options that a router does not act on, and router alert, which
// without a socket that wants it is none either.
func optOther(g *gen) packet {
	p := g.plain()
	g.errorTTL(&p)
	for range 1 + g.IntN(2) {
		o := pick(g, []byte{148, 4, 0, 0}, []byte{148, 4, 0, 1}, []byte{148, 3, 0}, []byte{148, 8, 0, 0, 1, 2, 3, 4},
			append([]byte{130, 11}, g.data(9)...), []byte{136, 4, 1, 2}, []byte{94, 6, 1, 2, 3, 4}, append([]byte{205, 12}, g.data(10)...),
			[]byte{134, 10, 0, 0, 0, 1, 1, 4, 0, 0}, []byte{82, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, []byte{25, 8, 0, 0, 0, 0, 0, 0})
		p.opts = append(p.opts, o...)
	}
	p.opts = limit(append(g.nops(), p.opts...))
	return p
}

// optBad are options whose lengths make no sense.
func optBad(g *gen) packet {
	p := g.plain()
	g.errorTTL(&p)
	p.opts = limit(append(g.nops(), g.data(1+g.IntN(40))...))
	switch g.IntN(3) {
	case 0:
		p.opts[0] = pick[byte](g, 7, 68, 131, 137, 148, 130, 134)
	case 1:
		p.opts[len(p.opts)-1] = pick[byte](g, 7, 68, 131, 94)
	}
	return p
}

// optError has options in packets about which an error is sent: the answer
// bears options too, and quotes what was changed.
func optError(g *gen) packet {
	p := pick(g, optPad, optRecordRoute, optTimestamp, optSourceRoute, optOther)(g)
	switch g.IntN(3) {
	case 0:
		p.ttl = pick[byte](g, 0, 1)
	case 1:
		p.dst = g.within(pick(g, unrouted...))
	default:
		p.frag = 0x4000
		p.port, p.src, p.dst = pod0, podAddrs[pod0][0], g.within(remoteB[0])
		g.layer4(&p, 1000+g.IntN(200))
	}
	return p
}
