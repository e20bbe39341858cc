package dissect

var (
	nshMetadata = []tok{{0, "reserved"}, {1, "1"}, {2, "2"}, {0xf, "experimental"}}
	nshNext     = []tok{
		{1, "IPv4"}, {2, "IPv6"}, {3, "Ethernet"}, {4, "NSH"}, {5, "MPLS"}, {0xfe, "Experiment 1"},
		{0xff, "Experiment 2"},
	}
)

// nsh prints a network service header, RFC 8300, and the packet behind it.
func (p *Printer) nsh(b []byte, length int) {
	const least, word = 8, 4
	p.proto = "nsh"
	if length < least {
		p.printf(" (packet length %d < %d)", length, least)
		p.invalid()
		return
	}
	base := p.u32(b, 0)
	version, words, metadata, next := base>>30, int(base>>16&0x3f), base>>8&0xf, base&0xff
	p.str("NSH, ")
	if p.opt.Verbose > 1 {
		p.printf("ver %d, ", version)
	}
	if version != 0 {
		return
	}
	p.printf("flags [%s], ", flagStr(base>>28&2 != 0, "O", "none"))
	if p.opt.Verbose > 2 {
		p.printf("TTL %d, length %d, md type %s, ", base>>22&0x3f, words,
			tokStr(nshMetadata, "unknown (0x%02x)", metadata))
	}
	if p.opt.Verbose > 1 {
		p.printf("next-protocol %s, ", tokStr(nshNext, "unknown (0x%02x)", next))
	}
	if length < words*word {
		p.printf(" (too many headers for packet length %d)", length)
		p.invalid()
		return
	}
	p.printf("service-path-id 0x%06x, ", p.u24(b, 4))
	p.printf("service-index 0x%x", p.u8(b, 7))
	switch {
	case words < 2:
		p.str(" (less than two headers)")
		p.invalid()
		return
	case p.opt.Verbose > 2 && metadata == 1:
		if words != 6 {
			p.str(" (invalid length for the MD type)")
			p.invalid()
			return
		}
		for i := range words - 2 {
			p.printf("\n        Context[%02d]: 0x%08x", i, p.u32(b, least+word*i))
		}
	case p.opt.Verbose > 2 && metadata == 2:
		if !p.nshContext(b[least:], words-2) {
			p.invalid()
			return
		}
	}
	p.need(b, words*word)
	p.str(flagStr(p.opt.Verbose > 0, "\n    ", ": "))
	b, length = b[words*word:], length-words*word
	switch next {
	case 1:
		p.ipv4(b, length)
	case 2:
		p.ip6(b, length)
	case 3:
		p.ethernet(b, length)
	default:
		p.str("ERROR: unknown-next-protocol")
	}
}

// nshContext prints metadata of variable length, in so many words, and says whether they fit.
func (p *Printer) nshContext(b []byte, words int) bool {
	for n := 0; n < words; {
		at := 4 * n
		size := int(p.u8(b, at+3) & 0x7f)
		p.printf("\n        TLV Class %d, Type %d, Len %d", p.u16(b, at), p.u8(b, at+2), size)
		n += 1 + (size+3)/4
		if n > words {
			p.str(" (length too big)")
			return false
		}
		if size == 0 {
			continue
		}
		p.str("\n            Value: ")
		for i := range size {
			p.printf("%s%02x", flagStr(i == 0, "0x", ":"), p.u8(b, at+4+i))
		}
		p.need(b, 4*n)
	}
	return true
}
