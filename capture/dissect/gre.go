package dissect

// Flags of the GRE header (RFC 1701, RFC 2637).
const (
	greChecksum = 0x8000
	greRouting  = 0x4000
	greKey      = 0x2000
	greSequence = 0x1000
	greAck      = 0x0080
	greVersion  = 0x0007
)

var greFlags = []tok{
	{greChecksum, "checksum present"}, {greRouting, "routing present"}, {greKey, "key present"},
	{greSequence, "sequence# present"}, {0x0800, "source routing present"}, {greAck, "ack present"},
}

// greReader reads a GRE header: both of what was captured and of what the header of IP says is there.
type greReader struct {
	b      []byte
	length int
}

func (r *greReader) has(n int) bool { return len(r.b) >= n && r.length >= n }

func (r *greReader) skip(n int) {
	r.b, r.length = r.b[n:], r.length-n
}

// gre prints a packet of RFC 2784 or RFC 2890, or, version 1, of PPTP (RFC 2637).
func (p *Printer) gre(b []byte, length int) {
	p.proto = "gre"
	r := greReader{b, length}
	if !r.has(2) {
		p.trunc()
		return
	}
	flags := p.u16(b, 0)
	version := flags & greVersion
	p.printf("GREv%d", version)
	if version > 1 {
		p.str(" ERROR: unknown-version")
		return
	}
	if p.opt.Verbose > 0 {
		p.str(", Flags [")
		p.str(bitStr(greFlags, "none", uint32(flags), ", "))
		p.char(']')
	}
	if !r.has(4) {
		p.trunc()
		return
	}
	proto := p.u16(b, 2)
	r.skip(4)
	fields := p.greFields
	if version == 1 {
		fields = p.pptpFields
	}
	if !fields(&r, flags) {
		p.trunc()
		return
	}
	if p.opt.Link {
		p.printf(", proto %s (0x%04x)", tokStr(etherTypes, "unknown", uint32(proto)), proto)
	}
	p.str(", length ")
	p.num(length)
	if version == 1 && flags&greSequence == 0 {
		return
	}
	if p.opt.Verbose > 0 {
		p.str("\n\t")
	} else {
		p.str(": ")
	}
	switch {
	case version == 1 && proto == typePPP:
		p.ppp(r.b, r.length)
	case version == 1 || !p.grePayload(proto, r.b, r.length):
		p.str("gre-proto-0x")
		p.hex(uint64(proto), 1)
	}
}

// greFields prints the optional fields, and says whether they are all there.
func (p *Printer) greFields(r *greReader, flags uint16) bool {
	if flags&(greChecksum|greRouting) != 0 {
		if !r.has(2) {
			return false
		}
		if p.opt.Verbose > 0 {
			p.printf(", sum 0x%x", p.u16(r.b, 0))
		}
		r.skip(2)
		if !r.has(2) {
			return false
		}
		p.printf(", off 0x%x", p.u16(r.b, 0))
		r.skip(2)
	}
	if flags&greKey != 0 {
		if !r.has(4) {
			return false
		}
		p.printf(", key=0x%x", p.u32(r.b, 0))
		r.skip(4)
	}
	return p.greNumber(r, flags&greSequence != 0, ", seq ") && (flags&greRouting == 0 || p.greRoutes(r))
}

// greNumber prints a number of 4 bytes if there should be one.
func (p *Printer) greNumber(r *greReader, present bool, name string) bool {
	if !present {
		return true
	}
	if !r.has(4) {
		return false
	}
	p.str(name)
	p.dec(uint64(p.u32(r.b, 0)))
	r.skip(4)
	return true
}

// pptpFields is greFields of version 1.
func (p *Printer) pptpFields(r *greReader, flags uint16) bool {
	if flags&greKey != 0 {
		if !r.has(4) {
			return false
		}
		p.printf(", call %d", p.u16(r.b, 2))
		r.skip(4)
	}
	if !p.greNumber(r, flags&greSequence != 0, ", seq ") || !p.greNumber(r, flags&greAck != 0, ", ack ") {
		return false
	}
	if flags&greSequence == 0 {
		p.str(", no-payload")
	}
	return true
}

// greRoutes prints the source routes of RFC 1701.
func (p *Printer) greRoutes(r *greReader) bool {
	for {
		if !r.has(4) {
			return false
		}
		family, off, size := p.u16(r.b, 0), int(r.b[2]), int(r.b[3])
		r.skip(4)
		if family == 0 && size == 0 {
			return true
		}
		if !p.greRoute(r, family, off, size) || !r.has(size) {
			return false
		}
		r.skip(size)
	}
}

func (p *Printer) greRoute(r *greReader, family uint16, off, size int) bool {
	const ip, asn = 0x0800, 0xfffe
	step := 4
	switch family {
	case ip:
		p.str(", (rtaf=ip")
	case asn:
		p.str(", (rtaf=asn")
		step = 2
	default:
		p.printf(", (rtaf=0x%x)", family)
		return true
	}
	ok := true
	switch {
	case off%step != 0:
		p.printf(", badoffset=%d", off)
	case size%step != 0:
		p.printf(", badlength=%d", size)
	case off >= size:
		p.printf(", badoff/len=%d/%d", off, size)
	default:
		for i := 0; i < size && ok; i += step {
			if ok = r.has(i + step); !ok {
				break
			}
			p.char(' ')
			if i == off {
				p.char('*')
			}
			if family == ip {
				p.addrNumber(r.b[i : i+4])
			} else {
				p.hex(uint64(p.u16(r.b, i)), 1)
			}
		}
	}
	p.char(')')
	return ok
}
