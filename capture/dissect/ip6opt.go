package dissect

// Options of hop-by-hop and destination options headers.
const (
	ip6OptPad1        = 0x00
	ip6OptPadN        = 0x01
	ip6OptRouterAlert = 0x05 // RFC 2711
	ip6OptJumbo       = 0xc2 // RFC 2675
	ip6OptHomeAddress = 0xc9 // RFC 6275
)

// ip6OptionHeader is the options in a header, or nil if the header was not captured whole.
func (p *Printer) ip6OptionHeader(b []byte) []byte {
	n := 8 + 8*int(p.u8(b, 1))
	if len(b) < n {
		p.trunc()
		return nil
	}
	return b[2:n]
}

func (k *ip6Packet) hopByHopOptions() int {
	p := k.p
	p.proto = "hbhopt"
	opts := p.ip6OptionHeader(from(k.b, k.off))
	if opts == nil {
		return -1
	}
	p.str("HBH ")
	if !p.ip6Options(opts, k) {
		p.trunc()
		return -1
	}
	return len(opts) + 2
}

func (p *Printer) ip6DestOptions(b []byte) int {
	p.proto = "dstopt"
	opts := p.ip6OptionHeader(b)
	if opts == nil {
		return -1
	}
	p.str("DSTOPT ")
	if p.opt.Verbose > 0 && !p.ip6Options(opts, nil) {
		p.trunc()
		return -1
	}
	return len(opts) + 2
}

// ip6Options prints options; false is that one does not fit. k is nil for destination options.
func (p *Printer) ip6Options(b []byte, k *ip6Packet) bool {
	jumbo := false
	for len(b) > 0 {
		if b[0] == ip6OptPad1 {
			p.verboseStr("(pad1)")
			b = b[1:]
			continue
		}
		if len(b) < 2 || len(b) < int(b[1])+2 {
			return false
		}
		o := b[:int(b[1])+2]
		b = b[len(o):]
		switch o[0] {
		case ip6OptPadN:
			p.verboseStr("(padn)")
		case ip6OptRouterAlert:
			if !p.ip6OptionLen("rtalert", o, len(b), 2) {
				return false
			}
			if p.opt.Verbose > 0 {
				p.printf("(rtalert: 0x%04x) ", p.u16(o, 2))
			}
		case ip6OptJumbo:
			if !p.ip6OptionLen("jumbo", o, len(b), 4) {
				return false
			}
			p.ip6JumboOption(p.u32(o, 2), k, jumbo)
			jumbo = true
		case ip6OptHomeAddress:
			if !p.ip6HomeAddress(o, len(b)) {
				return false
			}
		default:
			if p.opt.Verbose > 0 {
				p.printf("(opt_type 0x%02x: len=%d)", o[0], o[1])
			}
		}
	}
	p.verboseStr(" ")
	return true
}

// ip6OptionLen complains if option o has not want bytes of data. What is wrong depends on whether that many would
// fit: rest bytes follow the option.
func (p *Printer) ip6OptionLen(name string, o []byte, rest, want int) bool {
	if len(o)+rest < want+2 {
		p.printf("(%s: trunc)", name)
		return false
	}
	if int(o[1]) != want {
		p.printf("(%s: invalid len %d)", name, o[1])
		return false
	}
	return true
}

// ip6JumboOption takes the payload length of a jumbogram. It counts if it is the first hop-by-hop one, in a packet
// that has no length of its own.
func (p *Printer) ip6JumboOption(n uint32, k *ip6Packet, seen bool) {
	remark := ""
	switch {
	case seen:
		remark = " - already seen"
	case k == nil:
		remark = " - not a hop-by-hop option"
	case k.payload != 0:
		remark = " - payload len != 0"
	case n < 65536:
		remark = " - < 65536"
	default:
		k.jumbo, k.payload = true, int(n)
	}
	if p.opt.Verbose > 0 {
		p.printf("(jumbo: %d%s) ", n, remark)
	}
}

func (p *Printer) ip6HomeAddress(o []byte, rest int) bool {
	if len(o)+rest < 18 {
		p.str("(homeaddr: trunc)")
		return false
	}
	if o[1] < 16 {
		p.printf("(homeaddr: invalid len %d)", o[1])
		return false
	}
	if p.opt.Verbose == 0 {
		return true
	}
	p.str("(homeaddr: ")
	p.addr(o[2:18])
	if !p.ip6SubOptions(o[18:]) {
		return false
	}
	p.char(')')
	return true
}

// ip6SubOptions prints options in an option.
func (p *Printer) ip6SubOptions(b []byte) bool {
	for len(b) > 0 {
		if b[0] == ip6OptPad1 {
			p.str(", pad1")
			b = b[1:]
			continue
		}
		if len(b) < 2 || len(b) < int(b[1])+2 {
			return false
		}
		if b[0] == ip6OptPadN {
			p.str(", padn")
		} else {
			p.printf(", sopt_type 0x%02x: len=%d", b[0], b[1])
		}
		b = b[int(b[1])+2:]
	}
	return true
}

// Types of routing headers.
const (
	ip6SourceRoute    = 0 // RFC 5095 forbids it
	ip6HomeRoute      = 2 // RFC 6275
	ip6SegmentRouting = 4 // RFC 8754
)

func (p *Printer) ip6Routing(b []byte) int {
	p.proto = "rt6"
	p.str("RT6")
	words := int(p.u8(b, 1))
	p.printf(" (len=%d", words)
	kind := p.u8(b, 2)
	p.printf(", type=%d", kind)
	p.sep(kind == ip6SourceRoute, " [Deprecated]")
	p.printf(", segleft=%d", p.u8(b, 3))
	switch kind {
	case ip6SourceRoute, ip6HomeRoute:
		if rsv := p.u32(b, 4); rsv != 0 || p.opt.Verbose > 0 {
			p.printf(", rsv=0x%x", rsv)
		}
	case ip6SegmentRouting:
		p.printf(", last-entry=%d", p.u8(b, 4))
		if flags := p.u8(b, 5); flags != 0 || p.opt.Verbose > 0 {
			p.printf(", flags=0x%x", flags)
		}
		p.printf(", tag=%x", p.u16(b, 6))
	default:
		p.str(" (unknown type)")
		p.invalid()
		return -1
	}
	if words%2 == 1 {
		p.printf(" (invalid length %d)", words)
		p.invalid()
		return -1
	}
	for i := range words / 2 {
		a := p.part(b, 8+16*i, 16)
		p.printf(", [%d]", i)
		p.addr(a)
	}
	p.str(") ")
	return 8 + 8*words
}
