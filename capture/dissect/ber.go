package dissect

// berKind is what an element of BER holds, as SNMP uses it.
type berKind int

const (
	berAny berKind = iota // a context-specific primitive that SNMP has not
	berOctets
	berNull
	berOID
	berInt
	berUnsigned
	berUnsigned64
	berString
	berSequence
	berAddress
	berPDU
	berException
)

// berElement is an element that was captured whole.
type berElement struct {
	kind    berKind
	id      uint8
	data    []byte
	tail    []byte // what was captured from data on
	integer int32
	value   uint64
}

// berReader goes through the elements in length bytes at b, which may hold less, or more.
type berReader struct {
	p      *Printer
	b      []byte
	length int
}

// The names of the tags, by class: universal, application, context-specific and private. tcpdump's name of a class is
// x: a macro of old does not put in what it was meant to.
var (
	berTags = [4][]string{
		{
			"U-0", "Boolean", "Integer", "Bitstring", "String", "Null", "ObjID", "ObjectDes", "U-8", "U-9", "U-10",
			"U-11", "U-12", "U-13", "U-14", "U-15", "Sequence", "Set",
		},
		{"IpAddress", "Counter", "Gauge", "TimeTicks", "Opaque", "C-5", "Counter64"},
		{
			"GetRequest", "GetNextRequest", "GetResponse", "SetRequest", "Trap", "GetBulk", "Inform", "V2Trap",
			"Report",
		},
		{"P-0"},
	}
	berExceptions = [3]string{"noSuchObject", "noSuchInstance", "endOfMibView"}
)

// descend gives a reader of what an element holds. What was captured behind it stays in sight: tcpdump may look at a
// byte too much.
func (r *berReader) descend(e *berElement) *berReader {
	return &berReader{p: r.p, b: e.tail, length: len(e.data)}
}

// skip drops the first byte.
func (r *berReader) skip() {
	r.b, r.length = r.b[1:], r.length-1
}

// next reads an element. If it can't it says why in brackets, and false.
func (r *berReader) next(e *berElement) bool {
	p := r.p
	*e = berElement{}
	if r.length < 1 {
		p.str("[nothing to parse]")
		return false
	}
	first := p.u8(r.b, 0)
	r.skip()
	class, constructed := first>>6, first&0x20 != 0
	form := flagStr(constructed, "C", "P")
	if e.id = first & 0x1f; e.id == 0x1f && !r.longTag(e) {
		return false
	}
	if r.length < 1 {
		p.str("[no asnlen]")
		return false
	}
	n, ok := r.size()
	if !ok {
		return false
	}
	if uint32(r.length) < n {
		p.printf("[len%d<asnlen%d]", r.length, n)
		return false
	}
	if int(e.id) >= len(berTags[class]) {
		p.printf("[id?%s/x/%d]", form, e.id)
		return false
	}
	if len(r.b) < int(n) {
		p.trunc()
		return false
	}
	e.data, e.tail = r.b[:n], r.b
	r.b, r.length = r.b[n:], r.length-int(n)
	name := berTags[class][e.id]
	if constructed {
		p.berConstructed(e, class, name)
		return true
	}
	return p.berPrimitive(e, class, name)
}

// longTag reads a tag number of several bytes.
func (r *berReader) longTag(e *berElement) bool {
	e.id = 0
	for {
		c := r.p.u8(r.b, 0)
		if r.length < 1 {
			r.p.str("[Xtagfield?]")
			return false
		}
		r.skip()
		e.id = e.id<<7 | c&0x7f
		if c&0x80 == 0 {
			return true
		}
	}
}

func (r *berReader) size() (uint32, bool) {
	n := uint32(r.p.u8(r.b, 0))
	r.skip()
	if n&0x80 == 0 {
		return n, true
	}
	octets := int(n & 0x7f)
	if r.length < octets {
		r.p.printf("[asnlen? %d<%d]", r.length, octets)
		return 0, false
	}
	if len(r.b) < octets {
		r.p.trunc()
		return 0, false
	}
	n = 0
	for range octets {
		n = n<<8 | uint32(r.b[0])
		r.skip()
	}
	return n, true
}

func (p *Printer) berConstructed(e *berElement, class uint8, name string) {
	switch {
	case class == 0 && name == "Sequence":
		e.kind = berSequence
	case class == 2:
		e.kind = berPDU
	case class == 0:
		e.kind = berOctets
		p.printf("C/U/%s", name)
	default:
		e.kind = berOctets
		p.printf("C/x/%s", name)
	}
}

func (p *Printer) berPrimitive(e *berElement, class uint8, name string) bool {
	for _, c := range e.data {
		e.value = e.value<<8 + uint64(c)
	}
	e.kind = berOctets
	switch {
	case class == 0:
		switch name {
		case "String":
			e.kind = berString
		case "Integer":
			if len(e.data) == 0 {
				p.str("[asnlen=0]")
				return false
			}
			e.kind, e.integer = berInt, int32(e.value)
			if len(e.data) < 4 && e.data[0]&0x80 != 0 {
				e.integer |= -1 << (8 * len(e.data))
			}
		case "ObjID":
			e.kind = berOID
		case "Null":
			e.kind = berNull
		default:
			p.printf("[P/U/%s]", name)
		}
	case class == 1:
		switch name {
		case "IpAddress":
			e.kind = berAddress
		case "Counter", "Gauge", "TimeTicks":
			e.kind, e.value = berUnsigned, e.value&0xffffffff
		case "Counter64":
			e.kind = berUnsigned64
		default:
			p.printf("[P/A/%s]", name)
		}
	case class == 2:
		e.kind = berAny
		if int(e.id) < len(berExceptions) {
			e.kind = berException
		}
	default:
		p.printf("[P/x/%s]", name)
	}
	return true
}

// ber prints an element.
func (p *Printer) ber(e *berElement) {
	switch e.kind {
	case berOctets:
		p.berOctets(e.data)
	case berNull:
	case berOID:
		p.berOID(e.data)
	case berInt:
		p.num(int(e.integer))
	case berUnsigned, berUnsigned64:
		p.dec(e.value)
	case berString:
		p.berString(e.data)
	case berSequence:
		p.printf("Seq(%d)", len(e.data))
	case berAddress:
		if len(e.data) != 4 {
			p.str("[inetaddr len!=4]")
		}
		for i, c := range e.data {
			p.sep(i > 0, ".")
			p.dec(uint64(c))
		}
	case berException:
		p.printf("[%s]", berExceptions[e.id])
	case berPDU:
		p.printf("%s(%d)", berTags[2][e.id], len(e.data))
	default:
		p.str("[BE_ANY!?]")
	}
}

func (p *Printer) berOctets(b []byte) {
	for _, c := range b {
		p.char('_')
		p.hex(uint64(c), 2)
	}
}

// berString prints text in quotes, other strings as digits.
func (p *Printer) berString(b []byte) {
	for _, c := range b {
		if c < ' ' || c > '~' {
			p.hex(uint64(b[0]), 2)
			p.berOctets(b[1:])
			return
		}
	}
	p.char('"')
	p.str(string(b))
	p.char('"')
}

// berOID prints an object identifier, X.690 8.19.
func (p *Printer) berOID(b []byte) {
	id, first := int32(0), true
	for _, c := range b {
		id = id<<7 + int32(c&0x7f)
		if c&0x80 != 0 {
			continue
		}
		if first {
			top := min(id/40, 2)
			id -= top * 40
			p.printf(".%d", uint32(top))
			first = false
		}
		p.printf(".%d", uint32(id))
		id = 0
	}
}
