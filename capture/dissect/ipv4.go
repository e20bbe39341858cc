package dissect

import "encoding/binary"

// ipv4 prints a packet of RFC 791.
func (p *Printer) ipv4(b []byte, length int) {
	p.proto = "ip"
	if v := p.u8(b, 0) >> 4; v != 4 {
		if v == 6 {
			p.str("IP6, wrong link-layer encapsulation")
		} else {
			p.printf("IP%d", v)
		}
		p.invalid()
		return
	}
	if !p.opt.Link {
		p.str("IP ")
	}
	if len(b) < 20 {
		p.trunc()
		return
	}
	if length < 20 {
		p.printf("truncated-ip %d", length)
		return
	}
	header := int(b[0]&15) * 4
	if header < 20 {
		p.printf("bad-hlen %d", header)
		return
	}
	total := int(p.u16(b, 2))
	if length < total {
		p.printf("truncated-ip - %d bytes missing! ", total-length)
	}
	if total < header {
		p.printf("bad-len %d", total)
		return
	}
	b = upto(b, total)
	off := p.u16(b, 6)
	h := ipHeader{version: 4, src: b[12:16], dst: b[16:20], ttl: b[8], fragment: off&ipMoreFragments != 0, direct: true}
	h.last = sourceRouteEnd(b, header)
	if p.opt.Verbose > 0 && !p.ipv4Verbose(b, header, off) {
		p.fromTo(&h)
		p.str(": ")
		p.trunc()
		return
	}
	if off&ipOffset == 0 {
		p.firstFragment(b, header, total-header, &h)
	} else if p.opt.Quiet <= 1 {
		p.fromTo(&h)
		p.char(':')
		p.protocolNumber(b[9])
	}
}

// The fragment field of the header (RFC 791, section 3.1).
const (
	ipReserved      = 0x8000
	ipDontFragment  = 0x4000
	ipMoreFragments = 0x2000
	ipOffset        = 0x1fff
)

// firstFragment prints the payload of a packet that is not a later fragment.
func (p *Printer) firstFragment(b []byte, header, length int, h *ipHeader) {
	proto := b[9]
	switch proto {
	case protoTCP, protoUDP, protoSCTP, protoDCCP:
	default:
		p.fromTo(h)
		p.str(": ")
	}
	if len(b) < header {
		p.remaining(len(b), header)
	}
	p.ipProtocol(proto, b[header:], length, h)
}

// remaining ends a packet whose header was not captured whole.
func (p *Printer) remaining(captured, header int) {
	p.printf(" [remaining caplen(%d) < header length(%d)]", captured, header)
	p.cut()
}

// fromTo prints the addresses of an IP header.
func (p *Printer) fromTo(h *ipHeader) {
	p.addr(h.src)
	p.str(" > ")
	p.addr(h.dst)
}

// protocolNumber prints an IP protocol that has no printer.
func (p *Printer) protocolNumber(proto uint8) {
	p.char(' ')
	if name := protocolNames[proto]; p.opt.Numeric == 0 && name != "" {
		p.str(name)
		return
	}
	p.str("ip-proto-")
	p.dec(uint64(proto))
}

var (
	ipECN       = [4]string{"", ",ECT(1)", ",ECT(0)", ",CE"}
	ipFragments = []tok{{ipMoreFragments, "+"}, {ipDontFragment, "DF"}, {ipReserved, "rsvd"}}
)

// ipv4Verbose prints the line of the header that -v adds, and says whether the options were captured whole.
func (p *Printer) ipv4Verbose(b []byte, header int, off uint16) bool {
	p.str("(tos 0x")
	p.hex(uint64(b[1]), 1)
	p.str(ipECN[b[1]&3])
	if b[8] >= 1 {
		p.str(", ttl ")
		p.dec(uint64(b[8]))
	}
	p.str(", id ")
	p.dec(uint64(p.u16(b, 4)))
	p.str(", offset ")
	p.dec(uint64(off&ipOffset) * 8)
	p.str(", flags [")
	p.str(bitStr(ipFragments, "none", uint32(off&^ipOffset), ", "))
	p.str("], proto ")
	p.str(tokStr(ipProtocols, "unknown", uint32(b[9])))
	p.str(" (")
	p.dec(uint64(b[9]))
	p.str("), length ")
	p.dec(uint64(p.u16(b, 2)))
	whole := true
	if header > 20 {
		p.str(", options (")
		if whole = p.ipv4Options(b[20:], header-20); !whole {
			p.str(" [truncated-option]")
		}
		p.char(')')
	}
	if !p.opt.NoChecksum && len(b) >= header {
		if sum := checksum(b[:header]); sum != 0 {
			was := p.u16(b, 10)
			p.printf(", bad cksum %x (->%x)!", was, shouldBe(was, sum))
		}
	}
	p.str(")\n    ")
	return whole
}

// Options of RFC 791, RFC 2113 (router alert) and RFC 1393 (traceroute).
const (
	optionEnd       = 0
	optionNop       = 1
	optionRecord    = 7
	optionTimeStamp = 68
	optionLoose     = 131
	optionStrict    = 137
	optionAlert     = 148
)

var ipOptions = []tok{
	{optionEnd, "EOL"}, {optionNop, "NOP"}, {optionTimeStamp, "timestamp"}, {130, "security"}, {optionRecord, "RR"},
	{optionStrict, "SSRR"}, {optionLoose, "LSRR"}, {optionAlert, "RA"}, {82, "traceroute"},
}

// ipv4Options prints the options, length bytes of b, and says whether they were captured whole.
func (p *Printer) ipv4Options(b []byte, length int) bool {
	sep := ""
	for length > 0 {
		p.str(sep)
		sep = ","
		code := p.u8(b, 0)
		p.str(tokStr(ipOptions, "unknown %d", uint32(code)))
		n := 1
		if code != optionNop && code != optionEnd {
			n = int(p.u8(b, 1))
			if n < 2 {
				p.printf(" [bad length %d]", n)
				return true
			}
		}
		if n > length {
			p.printf(" [bad length %d]", n)
			return true
		}
		if len(b) < n {
			return false
		}
		switch code {
		case optionEnd:
			return true
		case optionTimeStamp:
			if !p.timeStampOption(b, n) {
				return false
			}
		case optionRecord, optionStrict, optionLoose:
			if !p.routeOption(b, n) {
				return false
			}
		case optionAlert:
			p.alertOption(b[:n])
		}
		b, length = b[n:], length-n
	}
	return true
}

func (p *Printer) alertOption(b []byte) {
	if len(b) < 4 {
		p.printf(" [bad length %d]", len(b))
	} else if v := p.u16(b, 2); v != 0 {
		p.printf(" value %d", v)
	}
}

// routeOption prints the addresses of a recorded or a source route, n bytes of b; the last may lie behind it. A comma
// follows those before the pointer. It says whether all was captured.
func (p *Printer) routeOption(b []byte, n int) bool {
	if n < 3 {
		p.printf(" [bad length %d]", n)
		return true
	}
	if (n+1)%4 != 0 {
		p.printf(" [bad length %d]", n)
	}
	ptr := int(b[2]) - 1
	if ptr < 3 || (ptr+1)%4 != 0 || ptr > n+1 {
		p.printf(" [bad ptr %d]", b[2])
	}
	for i := 3; i < n; i += 4 {
		if len(b) < i+4 {
			return false
		}
		p.char(' ')
		p.addr(b[i : i+4])
		if ptr < 0 || ptr > i {
			p.char(',')
		}
	}
	return true
}

var timeStampKinds = []tok{{0, "TSONLY"}, {1, "TS+ADDR"}, {3, "PRESPEC"}}

// timeStampOption prints the option, n bytes of b; its last time stamp may lie behind it. It says whether all was captured.
func (p *Printer) timeStampOption(b []byte, n int) bool {
	if n < 4 {
		p.printf("[bad length %d]", n)
		return true
	}
	p.str(" TS{")
	kind, hop := b[3]&15, 8
	if kind == 0 {
		hop = 4
	}
	if (n-4)%hop != 0 {
		p.printf("[bad length %d]", n)
	}
	// The pointer is unsigned in tcpdump: 0 counts as very far.
	ptr := int(uint32(b[2]) - 1)
	if ptr < 4 || (ptr-4)%hop != 0 || ptr > n+1 {
		p.printf("[bad ptr %d]", b[2])
	}
	i := 0
	if kind > 1 && kind != 3 {
		p.printf("[bad ts type %d]", kind)
	} else {
		p.str(tokStr(timeStampKinds, "", uint32(kind)))
		for i = 4; i < n; i += hop {
			if len(b) < i+hop {
				return false
			}
			p.char(' ')
			if ptr == i {
				p.str("^ ")
			}
			stamp := b[i : i+hop]
			p.dec(uint64(binary.BigEndian.Uint32(stamp[hop-4:])))
			p.char('@')
			if hop == 8 {
				p.addr(stamp[:4])
			}
		}
	}
	if ptr == i {
		p.str(" ^ ")
	}
	if b[3]>>4 != 0 {
		p.printf(" [%d hops not recorded]} ", b[3]>>4)
	} else {
		p.char('}')
	}
	return true
}

// sourceRouteEnd is where the packet goes in the end: the last address of a source route, or the destination.
func sourceRouteEnd(b []byte, header int) []byte {
	for o := from(upto(b, header), 20); len(o) > 0; {
		n := 1
		switch {
		case o[0] == optionEnd:
			return b[16:20]
		case o[0] == optionNop:
		case len(o) < 2 || o[1] < 2 || int(o[1]) > len(o):
			return b[16:20]
		default:
			n = int(o[1])
			if (o[0] == optionLoose || o[0] == optionStrict) && n >= 7 {
				return o[n-4 : n]
			}
		}
		o = o[n:]
	}
	return b[16:20]
}
