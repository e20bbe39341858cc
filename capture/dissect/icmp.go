package dissect

import "fmt"

// Types of ICMP (RFC 792, RFC 950, RFC 1256).
const (
	icmpEchoReply    = 0
	icmpUnreachable  = 3
	icmpQuench       = 4
	icmpRedirect     = 5
	icmpEcho         = 8
	icmpAdvert       = 9
	icmpExceeded     = 11
	icmpParameter    = 12
	icmpStamp        = 13
	icmpStampReply   = 14
	icmpMaskReply    = 18
	icmpHeader       = 8
	icmpExtended     = 136 // header and padded original datagram of an extended message (RFC 4884, section 5.5)
	unreachProtocol  = 2
	unreachPort      = 3
	unreachFragment  = 4
	extensionVersion = 2
)

var icmpNames = []tok{
	{icmpQuench, "source quench"}, {10, "router solicitation"}, {15, "information request"}, {16, "information reply"},
	{17, "address mask request"},
}

// unreachNames are the texts before and after the address.
var unreachNames = map[uint8][2]string{
	0: {"net ", ""}, 1: {"host ", ""}, 5: {"", " - source route failed"}, 6: {"net ", " - unknown"},
	7: {"host ", " - unknown"}, 8: {"", " - source host isolated"}, 9: {"net ", " - admin prohibited"},
	10: {"host ", " - admin prohibited"}, 11: {"net ", " - tos prohibited"}, 12: {"host ", " - tos prohibited"},
	13: {"host ", " - admin prohibited filter"}, 14: {"host ", " - host precedence violation"},
	15: {"host ", " - precedence cutoff"},
}

var redirectNames = map[uint8][2]string{
	0: {"redirect ", " to net "}, 1: {"redirect ", " to host "}, 2: {"redirect-tos ", " to net "},
	3: {"redirect-tos ", " to host "},
}

// icmp prints a message of RFC 792. Nothing is printed of one that was cut before its text is whole.
func (p *Printer) icmp(b []byte, length int, h *ipHeader) {
	p.proto = "icmp"
	kind, code := p.u8(b, 0), p.u8(b, 1)
	p.need(b, icmpNeeds(b, kind, code))
	start := len(p.out)
	p.str("ICMP ")
	if !p.icmpText(b, kind, code) {
		p.out = p.out[:start]
		p.trunc()
		return
	}
	p.str(", length ")
	p.num(length)
	if p.opt.Verbose == 0 {
		return
	}
	if !h.fragment && length <= len(b) {
		if sum := checksum(b[:length]); sum != 0 {
			was := p.u16(b, 2)
			p.printf(" (wrong icmp cksum %x (->%x)!)", was, shouldBe(was, sum))
		}
	}
	switch kind {
	case icmpUnreachable, icmpQuench, icmpRedirect, icmpExceeded, icmpParameter:
		p.str("\n\t")
		p.quoted(from(b, icmpHeader))
		p.proto = "icmp"
	}
	switch kind {
	case icmpUnreachable, icmpExceeded, icmpParameter:
		if length > icmpExtended {
			p.icmpExtension(b, length)
		}
	}
}

// quoted prints the packet that an error quotes.
func (p *Printer) quoted(b []byte) {
	total := int(p.u16(b, 2))
	b = upto(b, total)
	p.need(b, 4) // not even a length
	p.ipv4(b, total)
}

// icmpNeeds is how much of a message its text takes at the least; less ends the packet.
func icmpNeeds(b []byte, kind, code uint8) int {
	switch kind {
	case icmpEcho, icmpEchoReply, icmpStamp:
		return 8
	case icmpUnreachable:
		switch {
		case code != unreachPort:
			return icmpHeader + 20
		case len(b) >= icmpHeader+10:
			return max(icmpHeader+20, icmpHeader+int(b[icmpHeader]&15)*4+4)
		}
	case icmpRedirect:
		return icmpHeader + 20
	case icmpParameter:
		if code == 0 {
			return 5
		}
	case icmpMaskReply:
		return 12
	}
	return 0
}

// icmpText prints the message, and says whether it was captured.
func (p *Printer) icmpText(b []byte, kind, code uint8) bool {
	switch kind {
	case icmpEcho, icmpEchoReply:
		p.str("echo ")
		if kind == icmpEcho {
			p.str("request, id ")
		} else {
			p.str("reply, id ")
		}
		p.dec(uint64(p.u16(b, 4)))
		p.str(", seq ")
		p.dec(uint64(p.u16(b, 6)))
	case icmpUnreachable:
		return p.unreachable(b, code)
	case icmpRedirect:
		p.redirect(b, code)
	case icmpAdvert:
		return p.icmpRouterAdvert(b)
	case icmpExceeded:
		if len(b) < icmpHeader+20 {
			return false
		}
		p.str(tokStr([]tok{{0, "time exceeded in-transit"}, {1, "ip reassembly time exceeded"}}, "time exceeded-#%d",
			uint32(code)))
	case icmpParameter:
		if code != 0 {
			p.printf("parameter problem - code %d", code)
		} else {
			p.printf("parameter problem - octet %d", b[4])
		}
	case icmpMaskReply:
		p.printf("address mask is 0x%08x", p.u32(b, 8))
	case icmpStamp:
		p.printf("time stamp query id %d seq %d", p.u16(b, 4), p.u16(b, 6))
	case icmpStampReply:
		if len(b) < 20 {
			return false
		}
		p.printf("time stamp reply id %d seq %d: org %s, recv %s, xmit %s", p.u16(b, 4), p.u16(b, 6),
			milliseconds(p.u32(b, 8)), milliseconds(p.u32(b, 12)), milliseconds(p.u32(b, 16)))
	default:
		p.str(tokStr(icmpNames, "type-#%d", uint32(kind)))
	}
	return true
}

func (p *Printer) unreachable(b []byte, code uint8) bool {
	if code == unreachPort {
		return p.unreachablePort(b)
	}
	dst := b[icmpHeader+16 : icmpHeader+20]
	name, known := unreachNames[code]
	switch {
	case known:
		p.str(name[0])
		p.addr(dst)
		p.str(" unreachable")
		p.str(name[1])
	case code == unreachProtocol:
		p.addr(dst)
		p.printf(" protocol %d unreachable", b[icmpHeader+9])
	case code == unreachFragment:
		p.addr(dst)
		p.str(" unreachable - need to frag")
		if mtu := p.u16(b, 6); mtu != 0 {
			p.printf(" (mtu %d)", mtu)
		}
	default:
		p.addr(dst)
		p.printf(" unreachable - #%d", code)
	}
	return true
}

func (p *Printer) unreachablePort(b []byte) bool {
	if len(b) < icmpHeader+10 {
		return false
	}
	ip := b[icmpHeader:]
	port := p.u16(ip, int(ip[0]&15)*4+2)
	p.addr(ip[16:20])
	switch ip[9] {
	case protoTCP:
		p.str(" tcp port ")
		p.port("tcp", port)
	case protoUDP:
		p.str(" udp port ")
		p.port("udp", port)
	default:
		p.printf(" protocol %d port %d", ip[9], port)
	}
	p.str(" unreachable")
	return true
}

func (p *Printer) redirect(b []byte, code uint8) {
	name, ok := redirectNames[code]
	if ok {
		p.str(name[0])
	} else {
		p.printf("redirect-#%d ", code)
		name[1] = " to "
	}
	p.addr(b[icmpHeader+16 : icmpHeader+20])
	p.str(name[1])
	p.addr(b[4:8])
}

// icmpRouterAdvert prints the addresses of RFC 1256, section 3.
func (p *Printer) icmpRouterAdvert(b []byte) bool {
	if len(b) < 8 {
		return false
	}
	p.str("router advertisement lifetime ")
	life := p.u16(b, 6)
	switch {
	case life < 60:
		p.printf("%d", life)
	case life < 60*60:
		p.printf("%d:%02d", life/60, life%60)
	default:
		p.printf("%d:%02d:%02d", life/3600, life%3600/60, life%60)
	}
	p.printf(" %d:", b[4])
	if b[5] != 2 {
		p.printf(" [size %d]", b[5])
		return true
	}
	for i := range int(b[4]) {
		entry := from(b, 8+8*i)
		if len(entry) < 8 {
			return false
		}
		p.str(" {")
		p.addr(entry[:4])
		p.printf(" %d}", p.u32(entry, 4))
	}
	return true
}

// milliseconds is the time of day that is ms after midnight.
func milliseconds(ms uint32) string {
	s := ms / 1000
	return fmt.Sprintf("%02d:%02d:%02d.%03d", s/3600, s/60%60, s%60, ms%1000)
}

// icmpExtension prints the objects that follow the quoted packet (RFC 4884, section 7), for example the MPLS labels
// of RFC 4950.
func (p *Printer) icmpExtension(b []byte, length int) {
	p.need(b, icmpExtended+5)
	ext, n := b[icmpExtended:], length-icmpExtended
	if b[5] == 0 && len(ext) >= n && checksum(ext[:n]) != 0 {
		return // without a length, only a right checksum tells that this is an extension
	}
	version := ext[0] >> 4
	p.printf("\n\tICMP Multi-Part extension v%d", version)
	if version != extensionVersion {
		p.str(" packet not supported")
		return
	}
	if len(ext) >= n {
		in := ""
		if checksum(ext[:n]) != 0 {
			in = "in"
		}
		p.printf(", checksum 0x%04x (%scorrect), length %d", p.u16(ext, 2), in, n)
	}
	p.icmpObjects(ext[4:], n-4)
}

func (p *Printer) icmpObjects(b []byte, n int) {
	for n > 4 {
		if len(b) < 4 {
			p.trunc()
			return
		}
		size, class, kind := int(p.u16(b, 0)), b[2], b[3]
		p.printf("\n\t  %s Object (%d), Class-Type: %d, length %d",
			tokStr([]tok{{1, "MPLS Stack Entry"}, {2, "Interface Identification"}}, "unknown", uint32(class)), class, kind, size)
		b, n = b[4:], n-4
		if class == 0 || size < 4 {
			return
		}
		size -= 4
		if class == 1 && kind == 1 {
			p.icmpLabel(p.u32(b, 0))
		} else {
			p.hexLines("\n\t    ", upto(b, size), 0)
		}
		if n < size {
			return
		}
		b, n = from(b, size), n-size
	}
}

// icmpLabel prints an entry of the label stack that a packet had (RFC 4950).
func (p *Printer) icmpLabel(entry uint32) {
	p.printf("\n\t    label %d, tc %d", entry>>12, entry>>9&7)
	if entry>>8&1 != 0 {
		p.str(", [S]")
	}
	p.printf(", ttl %d", entry&255)
}
