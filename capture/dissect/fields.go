package dissect

// has says whether n bytes were captured from i on.
func has(b []byte, i, n int) bool {
	return i >= 0 && n >= 0 && i+n <= len(b)
}

func flagStr(set bool, yes, no string) string {
	if set {
		return yes
	}
	return no
}

// letters are the names of the bits that are set in v, one after the other.
func letters(toks []tok, v uint32) string {
	var s string
	for _, t := range toks {
		if v&t.v != 0 {
			s += t.s
		}
	}
	return s
}

// sharpHex is v as %#x prints it.
func sharpHex(v uint32) string {
	if v == 0 {
		return "0"
	}
	return sprintf1("0x%x", v)
}

// sep prints s if set: what stands between the items of a list.
func (p *Printer) sep(set bool, s string) {
	if set {
		p.str(s)
	}
}

func (p *Printer) verboseStr(s string) {
	if p.opt.Verbose > 0 {
		p.str(s)
	}
}

// verboseIf prints s with -v, if set.
func (p *Printer) verboseIf(set bool, s string) {
	p.sep(set && p.opt.Verbose > 0, s)
}

// addrAt prints the address of size bytes at off of b, with before in front; nothing if the packet ends there.
func (p *Printer) addrAt(before string, b []byte, off, size int) {
	a := p.part(b, off, size)
	p.str(before)
	p.addr(a)
}

// addr4At is addrAt for IPv4.
func (p *Printer) addr4At(before string, b []byte, off int) { p.addrAt(before, b, off, 4) }

// addr6At is addrAt for IPv6.
func (p *Printer) addr6At(before string, b []byte, off int) { p.addrAt(before, b, off, 16) }

// addrText is what addr prints.
func (p *Printer) addrText(a []byte) string {
	start := len(p.out)
	p.addr(a)
	s := string(p.out[start:])
	p.out = p.out[:start]
	return s
}

// inQuotes prints b in quotes.
func (p *Printer) inQuotes(b []byte) {
	p.char('"')
	p.safe(b)
	p.char('"')
}

// paddedStr prints a string of at most n bytes at off, which NULs fill.
func (p *Printer) paddedStr(b []byte, off, n int) {
	for i := off; i < off+n && p.u8(b, i) != 0; i++ {
		p.safeChar(b[i])
	}
}

// stringZ prints a string that a NUL ends, and says how long it was with it; 0 if there is no NUL.
func (p *Printer) stringZ(b []byte, length int) int {
	for i, c := range upto(b, length) {
		if c == 0 {
			return i + 1
		}
		p.safeChar(c)
	}
	return 0
}

// A numberField is a number of some bytes in network byte order, and the verb to print it with.
type numberField struct {
	format string
	size   int
}

// numbers prints fields that follow each other, and gives what follows them.
func (p *Printer) numbers(b []byte, fields []numberField) []byte {
	for _, f := range fields {
		v := uint64(0)
		for _, c := range p.part(b, 0, f.size) {
			v = v<<8 | uint64(c)
		}
		p.printf(f.format, v)
		b = b[f.size:]
	}
	return b
}
