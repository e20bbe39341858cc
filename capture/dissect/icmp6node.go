package dissect

// What a node information query asks for, RFC 4620 5 and the drafts before.
const (
	nodeNoop      = 0
	nodeSupported = 1
	nodeName      = 2
	nodeAddresses = 3

	nodeHeaderLen = 16
)

// nodeAddrFlags are the flags of a query for addresses, in the order in which they are printed.
var nodeAddrFlags = []tok{{0x40, "a"}, {0x20, "G"}, {0x10, "S"}, {0x08, "L"}, {0x04, "C"}, {0x02, "A"}}

// icmp6NodeQuery prints a query.
func (p *Printer) icmp6NodeQuery(b []byte) {
	if len(b) == 12 {
		p.str(" who-are-you request")
		return
	}
	p.str(" node information query")
	if len(b) < nodeHeaderLen {
		p.trunc()
		return
	}
	p.str(" (")
	kind, flags := p.u16(b, 4), uint32(p.u16(b, 6))
	switch kind {
	case nodeNoop:
		p.str("noop")
	case nodeSupported:
		p.nodeSupported(flags)
	case nodeName:
		p.str("DNS name")
	case nodeAddresses:
		p.str("node addresses")
		if flags != 0 {
			p.printf(" [%s]", letters(nodeAddrFlags, flags))
		}
	default:
		p.str("unknown")
	}
	switch {
	case kind == nodeNoop || kind == nodeSupported:
		p.verboseIf(len(b) != nodeHeaderLen, ", invalid len")
	case len(b) == nodeHeaderLen:
		p.str(", 03 draft")
	default:
		p.nodeSubject(b[1], b[nodeHeaderLen:])
	}
	p.char(')')
}

func (p *Printer) nodeSupported(flags uint32) {
	p.str("supported qtypes")
	if flags != 0 {
		p.printf(" [%s]", flagStr(flags&1 != 0, "C", ""))
	}
}

// nodeSubject prints what a query is about, by its code.
func (p *Printer) nodeSubject(code uint8, b []byte) {
	addr := func(n int) {
		switch {
		case len(b) < n:
		case len(b) > n:
			p.verboseIf(true, ", invalid subject len")
		default:
			p.str(", subject=")
			p.addr(b)
		}
	}
	switch code {
	case 0:
		addr(16)
	case 1:
		p.str(", subject=DNS name")
		p.nodeNames(b)
	case 2:
		addr(4)
	default:
		p.str(", unknown subject")
	}
}

// nodeNames prints names without compression, or the drafts' single string.
func (p *Printer) nodeNames(b []byte) {
	if int(p.u8(b, 0)) == len(b)-1 {
		p.verboseIf(true, ", 03 draft")
		p.str(", \"")
		p.safe(b[1:])
		p.char('"')
		return
	}
	p.str(", \"")
	for len(b) > 0 {
		n := int(b[0])
		b = b[1:]
		if n == 0 {
			switch {
			case len(b) == 0:
				p.char('.')
			case len(b) != 1 || b[0] != 0:
				p.str("???")
			}
			break
		}
		if n > len(b) {
			p.str("???")
			break
		}
		p.safe(b[:n])
		b = b[n:]
		p.sep(len(b) > 1 && b[0] != 0, ".")
	}
	p.char('"')
}

// icmp6NodeReply prints a reply.
func (p *Printer) icmp6NodeReply(b []byte, length int) {
	if length > len(b) || len(b) < nodeHeaderLen {
		p.trunc()
		return
	}
	p.str(" node information reply (")
	switch b[1] {
	case 0:
		p.verboseIf(true, "success")
		p.verboseIf(true, ", ")
		p.nodeReply(b)
	case 1:
		p.str("refused")
		p.verboseIf(len(b) != nodeHeaderLen, ", invalid length")
	case 2:
		p.str("unknown")
		p.verboseIf(len(b) != nodeHeaderLen, ", invalid length")
	}
	p.char(')')
}

func (p *Printer) nodeReply(b []byte) {
	flags := uint32(p.u16(b, 6))
	switch p.u16(b, 4) {
	case nodeNoop:
		p.str("noop")
		p.verboseIf(len(b) != nodeHeaderLen, ", invalid length")
	case nodeSupported:
		p.nodeSupported(flags)
	case nodeName:
		p.str("DNS name")
		p.u8(b, nodeHeaderLen+4)
		p.nodeNames(b[nodeHeaderLen+4:])
		if flags&1 != 0 {
			p.printf(" [TTL=%d]", p.u32(b, nodeHeaderLen))
		}
	case nodeAddresses:
		p.str("node addresses")
		for i := nodeHeaderLen; i+20 <= len(b); i += 20 {
			p.addr6At(" ", b, i+4)
			p.printf("(%d)", p.u32(b, i))
		}
		if flags != 0 {
			p.printf(" [%s%s]", letters(nodeAddrFlags, flags), flagStr(flags&1 != 0, "T", ""))
		}
	default:
		p.str("unknown")
	}
}

var renumberCommands = []tok{{0, ", command"}, {1, ", result"}, {255, ", sequence number reset"}}

var (
	renumberFlags   = []tok{{0x80, "T"}, {0x40, "R"}, {0x20, "A"}, {0x10, "S"}, {0x08, "P"}}
	renumberMatches = []tok{{1, "add"}, {2, "change"}, {3, "setglobal"}}
	renumberUse     = []tok{{0x80, "V"}, {0x40, "P"}}
)

// icmp6Renumber prints router renumbering, RFC 2894.
func (p *Printer) icmp6Renumber(b []byte) {
	if len(b) < 16 {
		p.trunc()
		return
	}
	p.str(tokStr(renumberCommands, ", code-#%d", uint32(b[1])))
	p.printf(", seq=%d", p.u32(b, 4))
	if p.opt.Verbose > 0 {
		p.char('[')
		if flags := uint32(b[9]); flags != 0 {
			p.str(letters(renumberFlags, flags))
			p.char(',')
		}
		p.printf("seg=%d,maxdelay=%d", b[8], p.u16(b, 10))
		if rsv := p.u32(b, 12); rsv != 0 {
			p.printf("rsvd=0x%x", rsv)
		}
		p.char(']')
	}
	if b[1] != 0 {
		return
	}
	if !p.renumberMatch(b[16:]) {
		p.trunc()
	}
}

// renumberMatch prints which prefixes are meant and what becomes of them: RFC 2894 3.2.1.
func (p *Printer) renumberMatch(b []byte) bool {
	const matchLen, useLen = 24, 32
	newline := flagStr(p.opt.Verbose > 1, "\n\t", " ")
	if len(b) < matchLen {
		return false
	}
	p.printf("%smatch(%s", newline, tokStr(renumberMatches, "#%d", uint32(b[0])))
	if p.opt.Verbose > 0 {
		p.printf(",ord=%d,min=%d,max=%d", b[2], b[4], b[5])
	}
	p.char(',')
	p.addr6(b[8:24])
	p.printf("/%d)", b[3])
	n := int(b[1]) - 3
	if n%4 != 0 {
		return false
	}
	b = b[matchLen:]
	for i := 0; i < n; i += 4 {
		if len(b) < useLen {
			return false
		}
		p.printf("%suse(", newline)
		if b[12] != 0 {
			p.printf("%s,", letters(renumberUse, uint32(b[12])))
		}
		if p.opt.Verbose > 0 {
			p.printf("mask=0x%x,raflags=0x%x,vltime=%s,pltime=%s,", b[2], b[3],
				renumberTime(p.u32(b, 4)), renumberTime(p.u32(b, 8)))
		}
		p.addr6(b[16:32])
		p.printf("/%d/%d)", b[0], b[1])
		b = b[useLen:]
	}
	return true
}

func renumberTime(secs uint32) string {
	if secs == 0xffffffff {
		return "infty"
	}
	return sprintf1("%d", secs)
}
