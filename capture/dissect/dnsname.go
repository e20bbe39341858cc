package dissect

// skipName is where the name at off ends, without following pointers. It may lie beyond the capture.
func (d *dnsMessage) skipName(off int) int {
	for {
		if !has(d.b, off, 1) {
			return dnsNone
		}
		c := d.b[off]
		off++
		switch {
		case c == 0:
			return off
		case c&dnsLabelMask == dnsLabelPointer:
			return off + 1
		case c&dnsLabelMask == dnsLabelPlain:
			off += int(c)
		case c == dnsLabelExtended|dnsBitLabel:
			if !has(d.b, off, 1) {
				return dnsNone
			}
			off += 1 + (bitLabelBits(d.b[off])+7)/8
		default:
			return dnsNone
		}
	}
}

func bitLabelBits(count byte) int {
	if count == 0 {
		return 256
	}
	return int(count)
}

// label reads the first byte of the label at off, and how many bytes of it follow; it complains about kinds that
// nobody knows.
func (d *dnsMessage) label(off int) (c byte, n int, ok bool) {
	if !has(d.b, off, 1) {
		return 0, 0, false
	}
	c = d.b[off]
	switch c & dnsLabelMask {
	case dnsLabelPlain, dnsLabelPointer:
		return c, int(c), true
	case dnsLabelExtended:
		if kind := c &^ dnsLabelMask; kind != dnsBitLabel {
			d.p.printf("<ELT %d>", kind)
			return 0, 0, false
		}
		if !has(d.b, off+1, 1) {
			return 0, 0, false
		}
		return c, 1 + (bitLabelBits(d.b[off+1])+7)/8, true
	default:
		d.p.str("<BAD LABEL TYPE>")
		return 0, 0, false
	}
}

// name prints the name at off and returns where it ends. Pointers count from base, and have to lead to before where
// the last one led: so a name ends, as in BIND.
func (d *dnsMessage) name(off, base int) int {
	p, b := d.p, d.b
	c, n, ok := d.label(off)
	if !ok {
		return dnsNone
	}
	if c == 0 {
		p.char('.')
		return off + 1
	}
	limit := uint32(off - base)
	end, chars := dnsNone, 0
	off++
	if c&dnsLabelMask == dnsLabelPointer && off >= len(b) {
		return dnsNone
	}
	for c != 0 && off < len(b) {
		if d.steps++; d.steps > dnsMaxSteps {
			return dnsNone
		}
		if c&dnsLabelMask == dnsLabelPointer {
			if end == dnsNone {
				end = off + 1
			}
			to := uint32(c&^dnsLabelMask)<<8 | uint32(b[off])
			if to >= limit {
				p.str("<BAD PTR>")
				return dnsNone
			}
			limit = to
			off = base + int(to)
		} else {
			if !d.labelText(c, off, n, chars) {
				return dnsNone
			}
			if c&dnsLabelMask == dnsLabelPlain {
				chars += n
			}
			off += n
			if chars <= dnsMaxName {
				p.char('.')
			}
			chars++
		}
		if c, n, ok = d.label(off); !ok {
			return dnsNone
		}
		off++
	}
	if chars > dnsMaxName {
		p.str("<DOMAIN NAME TOO LONG>")
	}
	if end != dnsNone {
		return end
	}
	if c != 0 {
		off += n // the last label is beyond the capture
	}
	return off
}

// labelText prints a label of n bytes, as far as a name may be long.
func (d *dnsMessage) labelText(c byte, off, n, chars int) bool {
	if c&dnsLabelMask == dnsLabelExtended {
		d.bitLabel(off)
		return true
	}
	if n = min(n, dnsMaxName-chars); n <= 0 {
		return true
	}
	d.p.safe(upto(d.b[off:], n))
	return has(d.b, off, n)
}

// bitLabel prints RFC 2673's label of bits.
func (d *dnsMessage) bitLabel(off int) {
	p := d.p
	bits := bitLabelBits(p.u8(d.b, off))
	p.str("\\[x")
	i, left := off+1, bits
	for ; left > 7; left -= 8 {
		p.hex(uint64(p.u8(d.b, i)), 2)
		i++
	}
	switch {
	case left > 4:
		p.hex(uint64(p.u8(d.b, i)&(0xff<<(8-left))), 2)
	case left > 0:
		p.hex(uint64(p.u8(d.b, i)>>4&(0x0f<<(4-left))), 1)
	}
	p.printf("/%d]", bits)
}
