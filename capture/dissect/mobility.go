package dissect

// mobilityMin are the least lengths of RFC 6275's messages, by type.
var mobilityMin = [...]int{8, 16, 16, 24, 24, 12, 12, 24}

var mobilityTypes = []tok{
	{0, "BRR"}, {1, "HoTI"}, {2, "CoTI"}, {3, "HoT"}, {4, "CoT"}, {5, "BU"}, {6, "BA"}, {7, "BE"},
}

var mobilityUpdateFlags = []tok{{8, "A"}, {4, "H"}, {2, "L"}, {1, "K"}}

// mobility prints a mobility header, RFC 6275 6.1.
func (p *Printer) mobility(b []byte) {
	p.proto = "mobility"
	if len(b) < 2 {
		p.trunc()
		return
	}
	n := 8 + 8*int(b[1])
	kind := p.u8(b, 2)
	if int(kind) < len(mobilityMin) && n < mobilityMin[kind] {
		p.printf("(header length %d is too small for type %d)", n, kind)
		p.trunc()
		return
	}
	p.printf("mobility: %s", tokStr(mobilityTypes, "type-#%d", uint32(kind)))
	if int(kind) >= len(mobilityMin) {
		p.printf(" len=%d", b[1])
		return
	}
	if !p.mobilityMessage(kind, b) ||
		p.opt.Verbose > 0 && !p.mobilityOptions(from(b, mobilityMin[kind]), n-mobilityMin[kind]) {
		p.trunc()
	}
}

func (p *Printer) mobilityMessage(kind uint8, b []byte) bool {
	cookie := func(off int, what string) {
		if p.opt.Verbose > 0 {
			p.printf(" %s %s=%08x:%08x", flagStr(kind%2 == 1, "Home", "Care-of"), what, p.u32(b, off), p.u32(b, off+4))
		}
	}
	switch kind {
	case 1, 2: // test init
		cookie(8, "Init Cookie")
	case 3, 4: // test
		p.printf(" nonce id=0x%x", p.u16(b, 6))
		cookie(8, "Init Cookie")
		cookie(16, "Keygen Token")
	case 5: // binding update
		p.printf(" seq#=%d", p.u16(b, 6))
		if !has(b, 8, 2) {
			return false
		}
		if bits := b[8] >> 4; bits != 0 {
			p.printf(" %s", bitStr(mobilityUpdateFlags, "bits-#0x%x", uint32(bits), ""))
		}
		p.printf(" lifetime=%d", uint32(p.u16(b, 10))<<2)
	case 6: // binding acknowledgement
		p.printf(" status=%d", p.u8(b, 6))
		p.sep(p.u8(b, 7)&0x80 != 0, " K")
		p.printf(" seq#=%d", p.u16(b, 8))
		p.printf(" lifetime=%d", uint32(p.u16(b, 10))<<2)
	case 7: // binding error
		p.printf(" status=%d", p.u8(b, 6))
		p.addr6At(" homeaddr ", b, 8)
	}
	return true
}

// mobilityOptions prints RFC 6275 6.2's options in n bytes. tcpdump wants a byte more than the options have.
func (p *Printer) mobilityOptions(b []byte, n int) bool {
	for i, size := 0, 0; i < n; i += size {
		if p.u8(b, i) == ip6OptPad1 {
			size = 1
		} else if i+1 >= n {
			return false
		} else {
			size = 2 + int(p.u8(b, i+1))
		}
		if i+size > n || !has(b, i+size, 1) {
			return false
		}
		if !p.mobilityOption(b[i:], n-i) {
			return false
		}
	}
	return true
}

func (p *Printer) mobilityOption(b []byte, left int) bool {
	short := func(min int, name string) bool {
		if left >= min {
			return false
		}
		p.printf("(%s: trunc)", name)
		return true
	}
	switch b[0] {
	case 0:
		p.str("(pad1)")
	case 1:
		p.str("(padn)")
	case 2:
		if short(4, "refresh") {
			return false
		}
		p.printf("(refresh: %d)", uint32(p.u16(b, 2))<<2)
	case 3:
		if short(18, "altcoa") {
			return false
		}
		p.addr6At("(alt-CoA: ", b, 2)
		p.char(')')
	case 4:
		if short(6, "ni") {
			return false
		}
		p.printf("(ni: ho=0x%04x co=0x%04x)", p.u16(b, 2), p.u16(b, 4))
	case 5:
		if short(12, "auth") {
			return false
		}
		p.str("(auth)")
	default:
		p.printf("(type-0x%02x: len=%d)", b[0], b[1])
	}
	return true
}
