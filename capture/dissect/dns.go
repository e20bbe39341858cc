package dissect

// dnsMessage is a message of RFC 1035. Offsets are from its first byte; the captured bytes may go on after the
// message, and end before it.
type dnsMessage struct {
	p     *Printer
	b     []byte
	mdns  bool
	steps int // labels and pointers of names that were followed
}

// dnsNone is what methods give for "where it ends" if it does not: the message is cut there, or wrong.
const dnsNone = -1

const (
	dnsHeaderLen = 12
	dnsMaxName   = 255 // octets of a name, RFC 1035 2.3.4

	// dnsMaxSteps bounds the time that a message takes. Thousands of records that point to chains of pointers would
	// take a second; tcpdump lets them.
	dnsMaxSteps = 1 << 20

	dnsLabelMask     = 0xc0
	dnsLabelPlain    = 0x00
	dnsLabelExtended = 0x40 // RFC 2671 3; withdrawn by RFC 6891
	dnsLabelPointer  = 0xc0
	dnsBitLabel      = 1 // RFC 2673

	dnsClassIN  = 1
	dnsClassBit = 0x8000 // mDNS: unicast answer wanted, or flush the cache: RFC 6762 18.12, 18.13
)

// domain prints DNS over UDP.
func (p *Printer) domain(b []byte, length int, mdns bool) {
	p.proto = "domain"
	p.dnsMessage(b, length, mdns)
}

// domainTCP prints DNS over TCP, if a segment holds exactly one message: RFC 1035 4.2.2.
func (p *Printer) domainTCP(b []byte, length int) {
	p.proto = "domain"
	if length < 2 {
		p.printf(" [DNS over TCP: length %d < 2]", length)
		p.invalid()
		return
	}
	length -= 2
	if prefix := int(p.u16(b, 0)); prefix != length {
		p.printf(" [prefix length(%d) != length(%d)]", prefix, length)
		p.invalid()
		return
	}
	p.char(' ')
	p.dnsMessage(b[2:], length, false)
}

func (p *Printer) dnsMessage(b []byte, length int, mdns bool) {
	if length < dnsHeaderLen {
		p.printf("%s [length %d < %d]", p.proto, length, dnsHeaderLen)
		p.invalid()
		return
	}
	if len(b) < dnsHeaderLen {
		p.trunc()
		return
	}
	d := &dnsMessage{p: p, b: b, mdns: mdns}
	done := false
	if p.u16(b, 2)&0x8000 != 0 {
		done = d.response()
	} else {
		done = d.request()
	}
	if !done {
		p.trunc()
		return
	}
	p.printf(" (%d)", length)
}

// counts are the numbers of entries in the four sections.
func (d *dnsMessage) counts() (questions, answers, authorities, additional int) {
	at := func(i int) int { return int(d.p.u16(d.b, i)) }
	return at(4), at(6), at(8), at(10)
}

func (d *dnsMessage) response() bool {
	p, flags := d.p, d.p.u16(d.b, 2)
	qd, an, ns, ar := d.counts()
	p.dec(uint64(p.u16(d.b, 0)))
	p.str(dnsOps[flags>>11&15])
	p.str(dnsRcode(d.rcode()))
	p.str(flagStr(flags&0x0400 != 0, "*", ""))
	p.str(flagStr(flags&0x0080 != 0, "", "-"))
	p.str(flagStr(flags&0x0200 != 0, "|", ""))
	p.str(flagStr(flags&0x0020 != 0, "$", ""))
	if qd != 1 {
		p.printf(" [%dq]", qd)
	}
	off := dnsHeaderLen
	for i := range qd {
		if i > 0 {
			p.char(',')
		}
		if p.opt.Verbose > 1 {
			p.str(" q:")
			off = d.question(off)
		} else if off = d.skipName(off); off != dnsNone {
			off += 4
		}
		if off == dnsNone {
			return false
		}
	}
	p.printf(" %d/%d/%d", an, ns, ar)
	if off = d.section(off, an); off == dnsNone {
		return false
	}
	return d.verboseSections(off, ns, ar)
}

func (d *dnsMessage) request() bool {
	p, flags := d.p, d.p.u16(d.b, 2)
	qd, an, ns, ar := d.counts()
	op := flags >> 11 & 15
	p.dec(uint64(p.u16(d.b, 0)))
	p.str(dnsOps[op])
	p.str(flagStr(flags&0x0100 != 0, "+", ""))
	p.str(flagStr(flags&0x0010 != 0, "%", ""))
	if flags&0x6cf != 0 {
		p.printf(" [b2&3=0x%x]", flags)
	}
	odd := func(n, usual int, unit string) {
		if n != usual {
			p.printf(" [%d%s]", n, unit)
		}
	}
	if op == 1 { // inverse query: the answer is what is asked
		odd(qd, 0, "q")
		odd(an, 1, "a")
	} else {
		odd(an, 0, "a")
		odd(qd, 1, "q")
	}
	odd(ns, 0, "n")
	odd(ar, 0, "au")
	off := dnsHeaderLen
	for i := 0; qd > 0 && (i == 0 || off < len(d.b)); i++ {
		if off = d.question(off); off == dnsNone {
			return false
		}
		qd--
	}
	if qd > 0 {
		return false
	}
	if p.opt.Verbose < 2 {
		return true
	}
	if off = d.section(off, an); off == dnsNone {
		return false
	}
	return d.verboseSections(off, ns, ar)
}

// section prints n records from off on, the first even if nothing is left of the capture.
func (d *dnsMessage) section(off, n int) int {
	for i := 0; n > 0 && (i == 0 || off < len(d.b)); i++ {
		if i > 0 {
			d.p.char(',')
		}
		if off = d.record(off); off == dnsNone {
			return dnsNone
		}
		n--
	}
	if n > 0 {
		return dnsNone
	}
	return off
}

// verboseSections prints what follows the answers, for -vv.
func (d *dnsMessage) verboseSections(off, ns, ar int) bool {
	if d.p.opt.Verbose < 2 {
		return true
	}
	for _, s := range []struct {
		name string
		n    int
	}{{" ns:", ns}, {" ar:", ar}} {
		if s.n == 0 {
			continue
		}
		if off >= len(d.b) {
			return false
		}
		d.p.str(s.name)
		if off = d.section(off, s.n); off == dnsNone {
			return false
		}
	}
	return true
}

// rcode is the response code with what an OPT record adds to it: RFC 6891 6.1.3.
func (d *dnsMessage) rcode() uint {
	rcode := uint(d.p.u16(d.b, 2) & 15)
	qd, an, ns, ar := d.counts()
	off := dnsHeaderLen
	left := func(n int) bool { return off != dnsNone && off+n <= len(d.b) }
	for range qd {
		if off = d.skipName(off); off == dnsNone {
			return rcode
		}
		if off += 4; !left(1) {
			return rcode
		}
	}
	for i := range an + ns + ar {
		if off = d.skipName(off); !left(2) {
			return rcode
		}
		if i >= an+ns && d.p.u16(d.b, off) == dnsOPT {
			if left(5) {
				rcode |= uint(d.b[off+4]) << 4
			}
			return rcode
		}
		if off += 8; !left(2) {
			return rcode
		}
		if off += 2 + int(d.p.u16(d.b, off)); !left(1) {
			return rcode
		}
	}
	return rcode
}

// dnsRcode is the text of a response code. Two of tcpdump's lack the blank.
func dnsRcode(r uint) string {
	if r < uint(len(dnsRcodes)) {
		return dnsRcodes[r]
	}
	return sprintf1(" Resp%d", uint32(r&0xfff))
}

func (d *dnsMessage) question(off int) int {
	p := d.p
	at := d.skipName(off)
	if at == dnsNone || !has(d.b, at, 4) {
		return dnsNone
	}
	p.char(' ')
	p.str(tokStr(dnsTypes, "Type%d", uint32(p.u16(d.b, at))))
	d.class(p.u16(d.b, at+2))
	if d.mdns {
		p.str(flagStr(p.u16(d.b, at+2)&dnsClassBit != 0, " (QU)", " (QM)"))
	}
	p.str("? ")
	if at = d.name(off, 0); at == dnsNone {
		return dnsNone
	}
	return at + 4
}

// class prints a class that is not IN.
func (d *dnsMessage) class(c uint16) {
	if d.mdns {
		c &^= dnsClassBit
	}
	if c != dnsClassIN {
		d.p.char(' ')
		d.p.str(tokStr(dnsClasses, "(Class %d)", uint32(c)))
	}
}

// record prints a resource record and returns where it ends. One that is cut before its data ends the message in
// silence; so does tcpdump.
func (d *dnsMessage) record(off int) int {
	p, b := d.p, d.b
	if p.opt.Verbose > 0 {
		p.char(' ')
		if off = d.name(off, 0); off == dnsNone {
			return dnsNone
		}
	} else {
		off = d.skipName(off)
	}
	if off == dnsNone || !has(b, off, 10) {
		return len(b)
	}
	typ, class := p.u16(b, off), p.u16(b, off+2)
	if typ != dnsOPT {
		d.class(class)
	}
	if d.mdns && class&dnsClassBit != 0 {
		p.str(" (Cache flush)")
	}
	if typ != dnsOPT && p.opt.Verbose > 2 {
		p.str(" [")
		p.relativeTime(p.u32(b, off+4))
		p.char(']')
	}
	length := int(p.u16(b, off+8))
	data := off + 10
	end := data + length
	p.char(' ')
	p.str(tokStr(dnsTypes, "Type%d", uint32(typ)))
	if end > len(b) {
		return dnsNone
	}
	if typ == dnsOPT {
		if d.mdns {
			class &^= dnsClassBit
		}
		p.printf(" UDPsize=%d", class)
		if p.u16(b, off+6)&0x8000 != 0 {
			p.str(" DO")
		}
		if !d.options(data, end) {
			return dnsNone
		}
		return end
	}
	if !d.data(typ, data, end) {
		return dnsNone
	}
	return end
}

// data prints the data of the types that tcpdump knows.
func (d *dnsMessage) data(typ uint16, off, end int) bool {
	p, b := d.p, d.b
	switch typ {
	case dnsA:
		return d.addr(off, 4)
	case dnsAAAA:
		return d.addr(off, 16)
	case dnsA6:
		return d.a6(off)
	case dnsNS, dnsCNAME, dnsPTR, dnsDNAME:
		p.char(' ')
		return d.name(off, 0) != dnsNone
	case dnsSOA:
		return p.opt.Verbose == 0 || d.soa(off)
	case dnsMX:
		p.char(' ')
		if !has(b, off, 2) || d.name(off+2, 0) == dnsNone {
			return false
		}
		p.printf(" %d", p.u16(b, off))
	case dnsTXT:
		for off < end {
			p.str(" \"")
			if off = d.text(off); off == dnsNone {
				return false
			}
			p.char('"')
		}
	case dnsSRV:
		p.char(' ')
		if !has(b, off, 6) || d.name(off+6, 0) == dnsNone {
			return false
		}
		p.printf(":%d %d %d", p.u16(b, off+4), p.u16(b, off), p.u16(b, off+2))
	case dnsURI:
		p.printf(" %d %d ", p.u16(b, off), p.u16(b, off+2))
		if end < off+4 {
			// The length of the text is below zero, which to tcpdump is all that was captured.
			p.safe(b[off+4:])
			return false
		}
		p.safe(b[off+4 : end])
	case dnsUNSPECA:
		p.safe(b[off:end])
	case dnsTSIG:
		return p.opt.Verbose == 0 || d.tsig(off)
	}
	return true
}

func (d *dnsMessage) addr(off, n int) bool {
	if !has(d.b, off, n) {
		return false
	}
	d.p.char(' ')
	d.p.addrNumber(d.b[off : off+n])
	return true
}

// a6 is RFC 2874's address in pieces.
func (d *dnsMessage) a6(off int) bool {
	p := d.p
	if !has(d.b, off, 1) {
		return false
	}
	bits := int(d.b[off])
	if bits > 128 {
		p.printf(" %d(bad plen)", bits)
		return true
	}
	n := bits / 8
	if bits < 128 {
		var a [16]byte
		copy(a[n:], p.part(d.b, off+1, 16-n))
		p.printf(" %d ", bits)
		p.addrNumber(a[:])
	}
	if bits > 0 {
		p.char(' ')
		return d.name(off+1+16-n, 0) != dnsNone
	}
	return true
}

func (d *dnsMessage) soa(off int) bool {
	for range 2 {
		d.p.char(' ')
		if off = d.name(off, 0); off == dnsNone {
			return false
		}
	}
	if !has(d.b, off, 20) {
		return false
	}
	for i := range 5 {
		d.p.printf(" %d", d.p.u32(d.b, off+4*i))
	}
	return true
}

// tsig is RFC 8945 4.2.
func (d *dnsMessage) tsig(off int) bool {
	d.p.char(' ')
	if off = d.name(off, 0); off == dnsNone {
		return false
	}
	off += 6
	for _, field := range []string{"fudge", "maclen", "origid", "error", "otherlen"} {
		if !has(d.b, off, 2) {
			return false
		}
		v := d.p.u16(d.b, off)
		d.p.printf(" %s=%d", field, v)
		off += 2
		if field == "maclen" {
			off += int(v)
		}
	}
	return true
}

// text prints a character-string.
func (d *dnsMessage) text(off int) int {
	if !has(d.b, off, 1) {
		return dnsNone
	}
	n := int(d.b[off])
	d.p.safe(upto(d.b[off+1:], n))
	if !has(d.b, off+1, n) {
		return dnsNone
	}
	return off + 1 + n
}
