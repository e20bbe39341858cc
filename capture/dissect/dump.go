package dissect

// dump prints the bytes of the packet as -X, -x or -A say.
func (p *Printer) dump(b []byte) {
	body := func(level int) []byte {
		if level > 1 {
			return b
		}
		return from(b, p.linkLen)
	}
	switch {
	case p.opt.HexASCII > 0:
		p.hexASCII("\n\t", body(p.opt.HexASCII), 0)
	case p.opt.Hex > 0:
		p.hexLines("\n\t", body(p.opt.Hex), 0)
	case p.opt.ASCII > 0:
		p.ascii(body(p.opt.ASCII))
	}
}

// unknown dumps a payload that nothing here knows.
func (p *Printer) unknown(b []byte) {
	if p.dumpsUnknown() {
		p.hexASCII("\n\t", b, 0)
	}
}

// dumpsUnknown says whether unknown dumps: not if the packet is dumped anyway or is not to be told much of.
func (p *Printer) dumpsUnknown() bool {
	return p.opt.HexASCII == 0 && p.opt.Hex == 0 && p.opt.Quiet == 0
}

// hexLine is the number of bytes a line of a dump.
const hexLine = 16

// hexLines dumps b as hexadecimal digits, each line after indent; offset is that of b's first byte.
func (p *Printer) hexLines(indent string, b []byte, offset int) {
	for len(b) > 0 {
		line := upto(b, hexLine)
		p.offset(indent, offset)
		p.hexColumns(line)
		offset, b = offset+len(line), b[len(line):]
	}
}

// hexASCII dumps b as hexadecimal digits and characters.
func (p *Printer) hexASCII(indent string, b []byte, offset int) {
	for len(b) > 0 {
		line := upto(b, hexLine)
		p.offset(indent, offset)
		start := len(p.out)
		p.hexColumns(line)
		for len(p.out) < start+hexLine/2*5 {
			p.char(' ')
		}
		p.str("  ")
		for _, c := range line {
			if c <= ' ' || c >= 0x7f {
				c = '.'
			}
			p.char(c)
		}
		offset, b = offset+len(line), b[len(line):]
	}
}

func (p *Printer) offset(indent string, offset int) {
	p.str(indent)
	p.str("0x")
	p.hex(uint64(offset), 4)
	p.str(": ")
}

func (p *Printer) hexColumns(line []byte) {
	for i, c := range line {
		if i%2 == 0 {
			p.char(' ')
		}
		p.hex(uint64(c), 2)
	}
}

// ascii prints b's characters from a new line on.
func (p *Printer) ascii(b []byte) {
	if len(b) == 0 {
		return
	}
	p.char('\n')
	for i, c := range b {
		switch {
		case c == '\r':
			// A carriage return before a newline is left out, lest there be two of them; so are those in the last
			// two bytes, which tcpdump does not look beyond.
			if i+2 < len(b) && b[i+1] != '\n' {
				p.char('.')
			}
		case c == '\n', c == '\t', c >= ' ' && c < 0x7f:
			p.char(c)
		default:
			p.char('.')
		}
	}
}
