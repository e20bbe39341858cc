package dissect

// ah prints an authentication header, RFC 4302, and what it protects.
func (p *Printer) ah(b []byte, length int, h *ipHeader) {
	p.proto = "ah"
	if len(b) == 0 {
		p.trunc()
		return
	}
	p.str("AH")
	words := int(p.u8(b, 1))
	n := (words + 2) * 4
	p.char('(')
	if p.opt.Verbose > 0 {
		p.printf("length=%d(%d-bytes),", words, n)
	}
	if rsv := p.u16(b, 2); rsv != 0 {
		p.printf("reserved=0x%x[MustBeZero],", rsv)
	}
	p.printf("spi=0x%08x,", p.u32(b, 4))
	p.printf("seq=0x%x,icv=0x", p.u32(b, 8))
	for i := 12; i < n; i++ {
		p.hex(uint64(p.u8(b, i)), 2)
	}
	p.str("): ")
	inner := *h
	inner.direct = false
	p.ipProtocol(b[0], from(b, n), length-n, &inner)
}

// esp prints RFC 4303's header; keys are not known here.
func (p *Printer) esp(b []byte, length int) {
	p.proto = "esp"
	if len(b) <= 8 {
		p.trunc()
		return
	}
	p.printf("ESP(spi=0x%08x,seq=0x%x), length %d", p.u32(b, 0), p.u32(b, 4), length)
}

// ipComp prints RFC 3173's header.
func (p *Printer) ipComp(b []byte) {
	p.proto = "ipcomp"
	p.printf("IPComp(cpi=0x%04x)", p.u16(b, 2))
}
