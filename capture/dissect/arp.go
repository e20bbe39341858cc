package dissect

var arpHardware = []tok{
	{1, "Ethernet"}, {6, "TokenRing"}, {7, "ArcNet"}, {15, "FrameRelay"}, {23, "Strip"}, {24, "IEEE 1394"},
	{19, "ATM"}, {32, "InfiniBand"},
}

var arpOperations = []tok{
	{1, "Request"}, {2, "Reply"}, {3, "Reverse Request"}, {4, "Reverse Reply"}, {8, "Inverse Request"},
	{9, "Inverse Reply"}, {10, "NACK Reply"},
}

// Hardware types whose addresses are not like Ethernet's.
const (
	arpFrameRelay = 15
	arpATM        = 19
)

// arp prints a packet of RFC 826, RFC 903 (reverse) or RFC 2390 (inverse).
func (p *Printer) arp(b []byte, length int) {
	p.proto = "arp"
	p.need(b, 8)
	hw, proto, hlen, plen, op := p.u16(b, 0), p.u16(b, 2), int(b[4]), int(b[5]), p.u16(b, 6)
	if hw == arpATM {
		p.atmARP(b, length)
		return
	}
	p.need(b, 8+2*hlen+2*plen)
	sha, spa := b[8:8+hlen], b[8+hlen:][:plen]
	tha, tpa := b[8+hlen+plen:][:hlen], b[8+2*hlen+plen:][:plen]
	if !p.opt.Link {
		p.str("ARP, ")
	}
	verbose := p.opt.Verbose > 0
	if !isARPProtocol(proto) || plen != 4 || hlen == 0 || verbose {
		p.printf("%s (len %d), %s (len %d)", tokStr(arpHardware, "Unknown Hardware (%d)", uint32(hw)), hlen,
			tokStr(etherTypes, "Unknown Protocol (0x%04x)", uint32(proto)), plen)
		if !verbose {
			p.arpLength(length)
			return
		}
		p.str(", ")
	}
	p.str(tokStr(arpOperations, "Unknown (%d)", uint32(op)))
	p.char(' ')
	ip := func(a []byte) { p.arpProtocol(a, proto, "<wrong len>") }
	hardware := p.hardware
	if hw == arpFrameRelay {
		hardware = p.q922
	}
	switch op {
	case 1:
		p.str("who-has ")
		ip(tpa)
		if !isZero(tha) {
			p.str(" (")
			hardware(tha)
			p.char(')')
		}
		p.str(" tell ")
		ip(spa)
	case 2:
		ip(spa)
		p.str(" is-at ")
		hardware(sha)
	case 3, 8:
		p.str("who-is ")
		hardware(tha)
		p.str(" tell ")
		hardware(sha)
	case 4:
		hardware(tha)
		p.str(" at ")
		ip(tpa)
	case 9:
		hardware(sha)
		p.str(" at ")
		ip(spa)
	default:
		p.hexASCII("\n\t", b, 0)
		return
	}
	p.arpLength(length)
}

func isARPProtocol(proto uint16) bool { return proto == typeIPv4 || proto == typeTrail }

// arpProtocol prints an address of the protocol; wrong is what is printed of one that is not as long as IPv4's.
func (p *Printer) arpProtocol(a []byte, proto uint16, wrong string) {
	switch {
	case !isARPProtocol(proto):
		p.str("<wrong proto type>")
	case len(a) != 4:
		p.str(wrong)
	default:
		p.addr(a)
	}
}

// atmAddress is a number and a subaddress.
type atmAddress struct{ number, sub []byte }

// atmARP prints a packet of RFC 2225, which has lengths of its own for each address. The upper bits of those of
// numbers and subaddresses say of what kind they are.
func (p *Printer) atmARP(b []byte, length int) {
	const header, lengths = 12, 0x3f
	p.need(b, header)
	rest := b[header:]
	take := func(n uint8) []byte {
		p.need(rest, int(n))
		a := rest[:n:n]
		rest = rest[n:]
		return a
	}
	proto, op := p.u16(b, 2), p.u16(b, 6)
	source := atmAddress{take(b[4] & lengths), take(b[5] & lengths)}
	spa := take(b[8])
	target := atmAddress{take(b[9] & lengths), take(b[10] & lengths)}
	tpa := take(b[11])
	if !p.opt.Link {
		p.str("ARP, ")
	}
	if !isARPProtocol(proto) || len(spa) != 4 || len(tpa) != 4 || p.opt.Verbose > 0 {
		p.printf("ATM, %s (len %d/%d)", tokStr(etherTypes, "Unknown Protocol (0x%04x)", uint32(proto)), len(spa), len(tpa))
		if p.opt.Verbose == 0 {
			p.arpLength(length)
			return
		}
		p.str(", ")
	}
	p.str(tokStr(arpOperations, "Unknown (%d)", uint32(op)))
	p.char(' ')
	sender := func() { p.arpProtocol(spa, proto, "<wrong splen>") }
	switch op {
	case 1:
		p.str("who-has ")
		p.arpProtocol(tpa, proto, "<wrong tplen>")
		if len(target.number) > 0 {
			p.str(" (")
			p.atmAddress(target)
			p.char(')')
		}
		p.str(" tell ")
		sender()
	case 2:
		sender()
		p.str(" is-at ")
		p.atmAddress(source)
	case 8:
		p.str("who-is ")
		p.atmAddress(target)
		p.str(" tell ")
		p.atmAddress(source)
	case 9:
		p.atmAddress(source)
		p.str("at ")
		sender()
	case 10:
		p.str("for ")
		sender()
	default:
		p.hexASCII("\n\t", b, 0)
		return
	}
	p.arpLength(length)
}

func (p *Printer) atmAddress(a atmAddress) {
	if len(a.number) == 0 {
		p.str("<No address>")
		return
	}
	p.colons(a.number)
	if len(a.sub) > 0 {
		p.char(',')
		p.colons(a.sub)
	}
}

// q922 prints the address of a Frame Relay circuit (ITU-T Q.922, 3.2): two, three or four bytes, the last of which is odd.
func (p *Printer) q922(a []byte) {
	const more = 0 // of the lowest bit: a byte follows
	dlci := func() (n uint32, wrong string) {
		switch {
		case len(a) < 1:
			return 0, "<Truncated>"
		case a[0]&1 != more:
			return 0, "<Invalid DLCI>"
		case len(a) < 2:
			return 0, "<Truncated>"
		}
		n = uint32(a[0]&0xfc)<<2 | uint32(a[1]>>4)
		if a[1]&1 != more {
			return n, ""
		}
		a := a[2:]
		if len(a) > 0 && a[0]&1 == more {
			n = n<<7 | uint32(a[0]>>1)
			a = a[1:]
		}
		switch {
		case len(a) < 1:
			return 0, "<Truncated>"
		case a[0]&1 == more:
			return 0, "<Invalid DLCI>"
		}
		return n<<6 | uint32(a[0]>>2), ""
	}
	if len(a) == 0 {
		p.str("<empty>")
		return
	}
	if n, wrong := dlci(); wrong != "" {
		p.str(wrong)
	} else {
		p.printf("DLCI %d", n)
	}
}

func (p *Printer) arpLength(length int) {
	p.str(", length ")
	p.num(length)
}

// hardware prints an address of the link level of any length.
func (p *Printer) hardware(a []byte) {
	switch len(a) {
	case 0:
		p.str("<empty>")
	case 6:
		p.mac(a)
	default:
		p.colons(a)
	}
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
