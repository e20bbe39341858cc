package dissect

// Subtypes of the Multipath TCP option (RFC 8684, section 8.2).
const (
	mpCapable = iota
	mpJoin
	mpDSS
	mpAddAddr
	mpRemoveAddr
	mpPrio
	mpFail
	mpFastClose
	mpUnknown
)

var mptcpNames = [...]string{
	mpCapable: "capable", mpJoin: "join", mpDSS: "dss", mpAddAddr: "add-addr", mpRemoveAddr: "rem-addr", mpPrio: "prio",
	mpFail: "fail", mpFastClose: "fast-close", mpUnknown: "unknown",
}

// mptcp prints the data of a Multipath TCP option, and says whether it has the form of its subtype. tcpdump counts
// the option's two first bytes into the length, which RFC 8684's figures do as well: so do the checks here.
func (p *Printer) mptcp(b []byte, flags uint8) bool {
	p.proto = "mptcp"
	if len(b) < 1 {
		return false
	}
	subtype := min(int(b[0]>>4), mpUnknown)
	size := len(b) + 2
	p.printf(" %d %s", size, mptcpNames[subtype])
	switch subtype {
	case mpCapable:
		return p.mpCapable(b, size, flags)
	case mpJoin:
		return p.mpJoin(b, size, flags)
	case mpDSS:
		return p.mpDSS(b, size, flags)
	case mpAddAddr:
		return p.mpAddAddr(b, size)
	case mpRemoveAddr:
		return p.mpRemoveAddr(b, size)
	case mpPrio:
		return p.mpPrio(b, size)
	case mpFail:
		if size == 12 {
			p.printf(" seq %d", p.u64(b, 2))
		}
		return size == 12
	case mpFastClose:
		if size == 12 {
			p.printf(" key 0x%x", p.u64(b, 2))
		}
		return size == 12
	}
	return true
}

// mpCapable is RFC 8684, section 3.1, and RFC 6824, section 3.1.
func (p *Printer) mpCapable(b []byte, size int, flags uint8) bool {
	const checksums = 0x80
	syn, ack := flags&tcpSYN != 0, flags&tcpACK != 0
	if !((size == 12 || size == 4) && syn || (size == 20 || size == 22) && ack && !syn) {
		return false
	}
	version := b[0] & 15
	if version > 1 {
		p.printf(" Unknown Version (%d)", version)
		return true
	}
	p.printf(" v%d", version)
	if b[1]&checksums != 0 {
		p.str(" csum")
	}
	if size < 12 {
		return true
	}
	p.printf(" {0x%x", p.u64(b, 2))
	if size >= 20 {
		p.printf(",0x%x", p.u64(b, 10))
	}
	p.char('}')
	return true
}

// mpJoin is RFC 8684, section 3.2.
func (p *Printer) mpJoin(b []byte, size int, flags uint8) bool {
	syn, ack := flags&tcpSYN != 0, flags&tcpACK != 0
	if !(size == 12 && syn || size == 16 && syn && ack || size == 24 && ack) {
		return false
	}
	if size != 24 {
		if b[0]&1 != 0 {
			p.str(" backup")
		}
		p.printf(" id %d", b[1])
	}
	switch size {
	case 12:
		p.printf(" token 0x%x nonce 0x%x", p.u32(b, 2), p.u32(b, 6))
	case 16:
		p.printf(" hmac 0x%x nonce 0x%x", p.u64(b, 2), p.u32(b, 10))
	case 24:
		p.str(" hmac 0x")
		p.hexBytes(b[2:])
	}
	return true
}

// mpDSS is RFC 8684, section 3.3: the data acknowledgement and the mapping of sequence numbers.
func (p *Printer) mpDSS(b []byte, size int, flags uint8) bool {
	const (
		ack, longAck, mapping, longSeq, fin = 0x01, 0x02, 0x04, 0x08, 0x10
	)
	if size < 4 || flags&tcpSYN != 0 {
		return false
	}
	what := b[1]
	if what&fin != 0 {
		p.str(" fin")
	}
	b = b[2:]
	number := func(long bool) bool {
		switch {
		case long && len(b) >= 8:
			p.dec(p.u64(b, 0))
			b = b[8:]
		case !long && len(b) >= 4:
			p.dec(uint64(p.u32(b, 0)))
			b = b[4:]
		default:
			return false
		}
		return true
	}
	if what&ack != 0 {
		p.str(" ack ")
		if !number(what&longAck != 0) {
			return false
		}
	}
	if what&mapping != 0 {
		p.str(" seq ")
		if !number(what&longSeq != 0) || len(b) < 4 {
			return false
		}
		p.printf(" subseq %d", p.u32(b, 0))
		if b = b[4:]; len(b) < 2 {
			return false
		}
		p.printf(" len %d", p.u16(b, 0))
		if b = b[2:]; len(b) >= 2 {
			p.printf(" csum 0x%x", p.u16(b, 0))
			b = b[2:]
		}
	}
	return len(b) == 0
}

// mpAddresses are what the low bits say of an address: RFC 6824 has the version of IP there, RFC 8684 an echo flag.
var mpAddresses = []tok{{6, "v0-ip6"}, {4, "v0-ip4"}, {0, "v1"}, {1, "v1-echo"}}

// mpAddAddr is RFC 8684, section 3.4.1. Its length tells which of address, port and HMAC are there.
func (p *Printer) mpAddAddr(b []byte, size int) bool {
	n := 4
	switch size {
	case 8, 10, 16, 18:
	case 20, 22, 28, 30:
		n = 16
	default:
		return false
	}
	p.printf(" %s id %d ", tokStr(mpAddresses, "[bad version/echo]", uint32(b[0]&15)), b[1])
	p.addr(b[2 : 2+n])
	rest := b[2+n:]
	if len(rest)%8 == 2 {
		p.printf(":%d", p.u16(rest, 0))
		rest = rest[2:]
	}
	if len(rest) == 8 {
		p.printf(" hmac 0x%x", p.u64(rest, 0))
	}
	return true
}

func (p *Printer) mpRemoveAddr(b []byte, size int) bool {
	if size < 4 {
		return false
	}
	p.str(" id")
	for _, id := range b[1:] {
		p.char(' ')
		p.dec(uint64(id))
	}
	return true
}

func (p *Printer) mpPrio(b []byte, size int) bool {
	if size != 3 && size != 4 {
		return false
	}
	if b[0]&1 != 0 {
		p.str(" backup")
	} else {
		p.str(" non-backup")
	}
	if size == 4 {
		p.printf(" id %d", b[1])
	}
	return true
}
