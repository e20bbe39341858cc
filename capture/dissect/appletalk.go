package dissect

// Types of what DDP carries.
const (
	ddpNBP   = 2
	ddpATP   = 3
	ddpEIGRP = 88
)

var (
	ddpTypes = []tok{{1, "rtmp"}, {5, "rtmpReq"}, {4, "echo"}, {22, "IP"}, {23, "ARP"}, {0x4b, "KLAP"}}
	atpFlags = []tok{{0x20, "XO"}, {0x10, "EOM"}, {0x08, "STS"}}
)

// ddpEnd is a socket of a node.
type ddpEnd struct {
	net          uint16
	node, socket uint8
}

// appleTalk prints a datagram of AppleTalk's network protocol.
func (p *Printer) appleTalk(b []byte, length int) {
	const header = 13
	p.proto = "atalk"
	p.sep(!p.opt.Link, "AT ")
	switch {
	case length < header:
		p.printf(" [|ddp %d]", length)
		return
	case len(b) < header:
		p.str(" [|ddp]")
		return
	}
	src, dst := ddpEnd{p.u16(b, 6), b[9], b[11]}, ddpEnd{p.u16(b, 4), b[8], b[10]}
	p.ddpNode(src.net, src.node)
	p.printf(".%s > ", p.ddpSocket(src.socket))
	p.ddpNode(dst.net, dst.node)
	p.printf(".%s: ", p.ddpSocket(dst.socket))
	kind := b[12]
	b, length = b[header:], length-header
	switch kind {
	case ddpNBP:
		p.nbp(b, length, src)
	case ddpATP:
		p.atp(b, length)
	case ddpEIGRP:
		p.eigrp(b, length)
	default:
		p.printf(" at-%s %d", tokStr(ddpTypes, "", uint32(kind)), length)
	}
}

func (p *Printer) ddpNode(net uint16, node uint8) {
	p.dec(uint64(net))
	if node != 255 {
		p.printf(".%d", node)
	}
}

func (p *Printer) ddpSocket(socket uint8) string {
	known := []tok{{1, "rtmp"}, {2, "nis"}, {4, "echo"}, {6, "zip"}}
	if p.opt.Numeric > 0 {
		known = nil
	}
	return tokStr(known, "%d", uint32(socket))
}

// aarp prints how AppleTalk's addresses are resolved.
func (p *Printer) aarp(b []byte, length int) {
	const size = 28
	p.proto = "aarp"
	p.str("aarp ")
	switch {
	case len(b) < size:
		p.trunc()
		return
	case length < size:
		p.printf(" [|aarp %d]", length)
		return
	}
	hardware, proto, op := p.u16(b, 0), p.u16(b, 2), p.u16(b, 6)
	source, target := b[14:18], b[24:28]
	node := func(before string, a []byte) {
		p.str(before)
		p.ddpNode(p.u16(a, 1), a[3])
	}
	ethernet := hardware == 1 && proto == typeAppleTalk && b[4] == 6 && b[5] == 4
	switch {
	case ethernet && op == 1:
		node("who-has ", target)
		node(" tell ", source)
	case ethernet && op == 2:
		node("reply ", source)
		p.str(" is-at ")
		p.mac(b[8:14])
	case ethernet && op == 3:
		node("probe ", target)
		node(" tell ", source)
	default:
		p.printf("len %d op %d htype %d ptype %s halen %d palen %d", length, op, hardware, sharp(proto), b[4], b[5])
	}
}

// sharp is v as %#x has it.
func sharp(v uint16) string {
	return sprintf1(sharpHex(uint32(v)), uint32(v))
}

// atp prints a packet of AppleTalk's transactions.
func (p *Printer) atp(b []byte, length int) {
	const header = 8
	switch {
	case len(b) < header:
		p.trunc()
		return
	case length < header:
		p.printf(" [|atp %d]", length)
		return
	}
	length -= header
	control, bitmap, id := b[0], b[1], p.u16(b, 2)
	flags := func(of uint8, sep string) {
		if s := bitStr(atpFlags, " ", uint32(control&of), sep); s != " " {
			p.str(" [" + s + "]")
		}
	}
	switch control & 0xc0 {
	case 0x40:
		p.printf(" atp-req%s %d", flagStr(control&0x20 != 0, " ", "*"), id)
		p.atpBitmap(bitmap)
		if length != 0 {
			p.printf(" [len=%d]", length)
		}
		flags(0x18, ",")
	case 0x80:
		p.printf(" atp-resp%s%d:%d (%d)", flagStr(control&0x10 != 0, "*", " "), id, bitmap, length)
		flags(0x28, ",")
	case 0xc0:
		p.printf(" atp-rel  %d", id)
		p.atpBitmap(bitmap)
		if length != 0 {
			p.printf(" [len=%d]", length)
		}
		if s := bitStr(atpFlags, " ", uint32(control&0x38), ","); s != " " { // should be none
			p.str("[" + s + "]")
		}
	default:
		p.printf(" atp-0x%x  %d (%d)", control, id, length)
	}
	if data := p.u32(b, 4); data != 0 {
		p.printf(" 0x%x", data)
	}
}

// atpBitmap prints which packets are meant.
func (p *Printer) atpBitmap(m uint8) {
	if (m+1)&m == 0 { // the first ones
		n := 0
		for ; m > 0; m >>= 1 {
			n++
		}
		p.str(flagStr(n > 1, "<0-", "<0"))
		if n > 1 {
			p.num(n - 1)
		}
		p.char('>')
		return
	}
	sep := byte('<')
	for i := 0; m > 0; i, m = i+1, m>>1 {
		if m&1 != 0 {
			p.char(sep)
			p.num(i)
			sep = ','
		}
	}
	p.char('>')
}

const nbpTuple = 5 // bytes before a name

// nbp prints a message of AppleTalk's name binding.
func (p *Printer) nbp(b []byte, length int, src ddpEnd) {
	const header, least = 2, 8
	switch {
	case length < header+least:
		p.printf(" truncated-nbp %d", length)
		return
	case len(b) < header:
		p.trunc()
		return
	}
	control, id := b[0], b[1]
	tuples := int(control & 15)
	b = b[header:]
	switch control >> 4 {
	case 1, 2:
		p.printf(" %s %d:", flagStr(control>>4 == 2, "nbp-lkup", "nbp-brRq"), id)
		if len(b) < nbpTuple {
			p.trunc()
			return
		}
		p.nbpName(b)
		if tuples != 1 {
			p.printf(" [ntup=%d]", tuples)
		}
		if b[4] != 0 {
			p.printf(" [enum=%d]", b[4])
		}
		if net, node, socket := p.u16(b, 0), b[2], b[3]; (ddpEnd{net, node, socket}) != src {
			p.str(" [addr=")
			p.ddpNode(net, node)
			p.printf(".%d]", socket)
		}
	case 3:
		p.printf(" nbp-reply %d:", id)
		for ; tuples > 0 && b != nil; tuples-- {
			b = p.nbpReply(b, src)
		}
	default:
		p.printf(" nbp-0x%x  %d (%d)", control, id, length-header)
	}
}

// nbpReply prints a name and its address, and returns what follows; nil is that nothing can.
func (p *Printer) nbpReply(b []byte, src ddpEnd) []byte {
	if len(b) < nbpTuple {
		p.trunc()
		return nil
	}
	rest := p.nbpName(b)
	if b[4] != 1 {
		p.printf("(%d)", b[4])
	}
	if b[3] != src.socket {
		p.printf(" %d", b[3])
	}
	if net := p.u16(b, 0); net != src.net || b[2] != src.node {
		p.str(" [addr=")
		p.ddpNode(net, b[2])
		p.char(']')
	}
	return rest
}

// nbpName prints object, type and zone, each a counted string.
func (p *Printer) nbpName(b []byte) []byte {
	const longest = 32
	p.str(" \"")
	b = b[nbpTuple:]
	for _, end := range []string{":", "@", "\""} {
		if len(b) == 0 {
			p.trunc()
			return nil
		}
		n := int(b[0])
		if n > longest {
			p.printf("[len=%d]", n)
			return nil
		}
		p.safe(upto(b[1:], n))
		if len(b) < 1+n {
			p.trunc()
			return nil
		}
		p.str(end)
		b = b[1+n:]
	}
	return b
}
