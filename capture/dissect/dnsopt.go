package dissect

// options prints the options of an OPT record, RFC 6891 6.1.2.
func (d *dnsMessage) options(off, end int) bool {
	if off >= end {
		return true
	}
	d.p.str(" [")
	for off < end {
		if off = d.option(off); off == dnsNone {
			return false
		}
		if off < end {
			d.p.char(',')
		}
	}
	d.p.char(']')
	return true
}

func (d *dnsMessage) option(off int) int {
	p, b := d.p, d.b
	if !has(b, off, 2) {
		return dnsNone
	}
	opt := p.u16(b, off)
	p.str(tokStr(dnsOptions, "Opt%d", uint32(opt)))
	if !has(b, off+2, 2) {
		return dnsNone
	}
	n := int(p.u16(b, off+2))
	off += 4
	if !has(b, off, n) {
		return dnsNone
	}
	if n > 0 {
		p.char(' ')
		d.optionData(opt, off, b[off:off+n])
	}
	return off + n
}

func (d *dnsMessage) optionData(opt uint16, off int, v []byte) {
	p := d.p
	valid := true
	switch opt {
	case dnsOptSubnet:
		valid = d.clientSubnet(v)
	case dnsOptCookie:
		if valid = len(v) == 8 || len(v) >= 16 && len(v) <= 40; valid {
			p.hexBytes(v[:8])
			if len(v) > 8 {
				p.char(' ')
				p.hexBytes(v[8:])
			}
		}
	case dnsOptKeepAlive:
		if valid = len(v) == 2; valid {
			p.printf("%.1f sec", float64(p.u16(v, 0))/10)
		}
	case dnsOptExpire:
		if valid = len(v) == 4; valid {
			p.printf("%d sec", p.u32(v, 0))
		}
	case dnsOptPadding:
		p.printf("(%d)", len(v))
	case dnsOptKeyTag:
		if valid = len(v)%2 == 0; valid {
			for i := 0; i < len(v); i += 2 {
				p.sep(i > 0, " ")
				p.dec(uint64(p.u16(v, i)))
			}
		}
	case dnsOptDAU:
		p.algorithms(dnsAlgorithms, v)
	case dnsOptDHU:
		p.algorithms(dnsDigests, v)
	case dnsOptN3U:
		p.algorithms(dnsHashes, v)
	case dnsOptChain:
		d.name(off, off+len(v))
	default:
		p.hexBytes(v)
	}
	if !valid {
		p.invalid()
	}
}

func (p *Printer) algorithms(names []tok, v []byte) {
	for i, c := range v {
		p.sep(i > 0, " ")
		p.str(tokStr(names, "Alg_%d", uint32(c)))
	}
}

// clientSubnet is RFC 7871 6.
func (d *dnsMessage) clientSubnet(v []byte) bool {
	if len(v) < 4 {
		return false
	}
	family, source, scope := d.p.u16(v, 0), int(v[2]), int(v[3])
	size := 0
	switch family {
	case 1:
		size = 4
	case 2:
		size = 16
	default:
		return false
	}
	v = v[4:]
	if len(v) > size || source > size*8 || scope > size*8 || (source+7)/8 != len(v) {
		return false
	}
	var a [16]byte
	copy(a[:], v)
	d.p.addrNumber(a[:size])
	d.p.printf("/%d/%d", source, scope)
	return true
}
