package dissect

const vrrpSimple = 1 // authentication by a password in plain text, RFC 2338

var vrrpAuth = []tok{{0, "none"}, {vrrpSimple, "simple"}, {2, "ah"}}

// vrrp prints RFC 3768's and 5798's advertisements.
func (p *Printer) vrrp(b []byte, length int, h *ipHeader) {
	p.proto = "vrrp"
	p.str("VRRP")
	version, kind := p.u8(b, 0)>>4, p.u8(b, 0)&15
	p.printf("v%d, ", version)
	if kind == 1 {
		p.str("Advertisement")
	} else {
		p.printf("unknown type (%d)", kind)
	}
	if h.ttl != 255 {
		p.printf(", (ttl %d)", h.ttl)
	}
	if version < 2 || version > 3 || kind != 1 {
		return
	}
	p.printf(", vrid %d, prio %d", p.u8(b, 1), p.u8(b, 2))
	auth := uint32(0)
	if version == 2 {
		auth = uint32(p.u8(b, 4))
		p.printf(", authtype %s", tokStr(vrrpAuth, "", auth))
		p.printf(", intvl %ds, length %d", p.u8(b, 5), length)
	} else {
		p.printf(", intvl %dcs, length %d", p.u16(b, 4)&0xfff, length)
	}
	if p.opt.Verbose > 0 {
		p.vrrpVerbose(b, length, h, version, auth == vrrpSimple && version == 2)
	}
}

func (p *Printer) vrrpVerbose(b []byte, length int, h *ipHeader, version uint8, password bool) {
	n := int(p.u8(b, 3))
	sum := uint16(0)
	if version == 3 {
		sum, _ = pseudoChecksum(h, protoVRRP, b, length)
	} else if len(b) >= length {
		sum = checksum(b[:length])
	}
	if sum != 0 {
		p.printf(", (bad vrrp cksum %x)", p.u16(b, 6))
	}
	p.str(", addrs")
	if n > 1 {
		p.printf("(%d)", n)
	}
	p.char(':')
	at, before := 8, " "
	for range n {
		if h.version == 4 {
			p.addr4At(before, b, at)
			at += 4
		} else {
			p.addr6At(before, b, at)
			at += 16
		}
		before = ","
	}
	if password {
		p.str(" auth \"")
		p.paddedStr(b, at, 8)
		p.char('"')
	}
}
