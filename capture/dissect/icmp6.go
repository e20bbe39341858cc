package dissect

// Types of ICMPv6 that are printed each in their way.
const (
	icmp6Unreachable       = 1
	icmp6TooBig            = 2
	icmp6TimeExceeded      = 3
	icmp6ParamProblem      = 4
	icmp6Echo              = 128
	icmp6EchoReply         = 129
	icmp6ListenerQuery     = 130
	icmp6ListenerReport    = 131
	icmp6ListenerDone      = 132
	icmp6RouterSolicit     = 133
	icmp6RouterAdvert      = 134
	icmp6NeighborSolicit   = 135
	icmp6NeighborAdvert    = 136
	icmp6Redirect          = 137
	icmp6Renumbering       = 138
	icmp6NodeQuery         = 139
	icmp6NodeReply         = 140
	icmp6InverseSolicit    = 141
	icmp6InverseAdvert     = 142
	icmp6ListenerReport2   = 143
	icmp6HomeAgentRequest  = 144
	icmp6HomeAgentReply    = 145
	icmp6PrefixSolicit     = 146
	icmp6PrefixAdvert      = 147
	icmp6RPL               = 155
	icmp6ErrorHeaderLen    = 8
	icmp6ListenerMin       = 24
	icmp6ListenerQuery2Min = 28
)

var icmp6Types = []tok{
	{1, "destination unreachable"}, {2, "packet too big"}, {3, "time exceeded in-transit"},
	{4, "parameter problem"}, {128, "echo request"}, {129, "echo reply"},
	{130, "multicast listener query"}, {131, "multicast listener report"}, {132, "multicast listener done"},
	{133, "router solicitation"}, {134, "router advertisement"}, {135, "neighbor solicitation"},
	{136, "neighbor advertisement"}, {137, "redirect"}, {138, "router renumbering"},
	{141, "inverse neighbor solicitation"}, {142, "inverse neighbor advertisement"},
	{143, "multicast listener report v2"}, {144, "ha discovery request"}, {145, "ha discovery reply"},
	{146, "mobile router solicitation"}, {147, "mobile router advertisement"},
	{139, "who-are-you request"}, {140, "who-are-you reply"}, {201, "mtrace message"}, {200, "mtrace response"},
	{155, "RPL"},
}

var icmp6UnreachableCodes = []tok{
	{0, "unreachable route"}, {1, " unreachable prohibited"}, {2, "beyond scope"}, {3, "unreachable address"},
	{4, "unreachable port"},
}

// icmp6 prints an ICMPv6 message.
func (p *Printer) icmp6(b []byte, length int, h *ipHeader) {
	p.proto = "icmp6"
	if length == 0 {
		p.str("ICMP6, length 0")
		p.invalid()
		return
	}
	if p.opt.Verbose > 0 && !h.fragment {
		p.icmp6Checksum(b, length, h)
	}
	kind := p.u8(b, 0)
	p.str("ICMP6, ")
	p.str(tokStr(icmp6Types, "unknown icmp6 type (%d)", uint32(kind)))
	if p.opt.Verbose > 0 && icmp6LengthFirst(kind) {
		p.printf(", length %d", length)
	}
	code := p.u8(b, 1)
	if p.icmp6Message(kind, code, b, length) && p.opt.Verbose == 0 {
		p.printf(", length %d", length)
	}
}

// icmp6LengthFirst says of which messages -v prints the length before the body, which may take lines.
func icmp6LengthFirst(kind uint8) bool {
	switch kind {
	case icmp6RouterSolicit, icmp6RouterAdvert, icmp6NeighborAdvert, icmp6NeighborSolicit, icmp6Redirect,
		icmp6HomeAgentReply, icmp6PrefixAdvert:
		return true
	}
	return false
}

// icmp6Checksum verifies RFC 4443 2.3's checksum.
func (p *Printer) icmp6Checksum(b []byte, length int, h *ipHeader) {
	sum, whole := pseudoChecksum(h, protoICMPv6, b, length)
	if !whole {
		return
	}
	if was := p.u16(b, 2); sum != 0 {
		p.printf("[bad icmp6 cksum 0x%04x -> 0x%04x!] ", was, shouldBe(was, sum))
	} else {
		p.str("[icmp6 sum ok] ")
	}
}

// icmp6Message prints the body; false is that the length is not to follow.
func (p *Printer) icmp6Message(kind, code uint8, b []byte, length int) bool {
	switch kind {
	case icmp6Unreachable:
		return p.icmp6Unreachable(code, b, length)
	case icmp6TooBig:
		p.printf(", mtu %d", p.u32(b, 4))
	case icmp6TimeExceeded:
		p.icmp6TimeExceeded(code, b)
	case icmp6ParamProblem:
		return p.icmp6ParamProblem(code, b)
	case icmp6Echo, icmp6EchoReply:
		p.printf(", id %d, seq %d", p.u16(b, 4), p.u16(b, 6))
	case icmp6ListenerQuery:
		switch {
		case length == icmp6ListenerMin:
			p.mld(b)
		case length >= icmp6ListenerQuery2Min:
			p.str(" v2")
			p.mld2Query(b, length)
		default:
			p.printf(" unknown-version (len %d) ", length)
		}
	case icmp6ListenerReport, icmp6ListenerDone:
		p.mld(b)
	case icmp6ListenerReport2:
		p.mld2Report(b, length)
	case icmp6RouterSolicit, icmp6RouterAdvert, icmp6NeighborSolicit, icmp6NeighborAdvert, icmp6Redirect,
		icmp6PrefixAdvert:
		return p.neighborDiscovery(kind, b, length)
	case icmp6Renumbering:
		p.icmp6Renumber(b)
	case icmp6NodeQuery:
		p.icmp6NodeQuery(b)
	case icmp6NodeReply:
		p.icmp6NodeReply(b, length)
	case icmp6InverseSolicit, icmp6InverseAdvert:
	case icmp6PrefixSolicit, icmp6HomeAgentRequest:
		p.printf(", id 0x%04x", p.u16(b, 4))
	case icmp6HomeAgentReply:
		if p.opt.Verbose > 0 {
			p.printf(", id 0x%04x", p.u16(b, 4))
			for i := icmp6ErrorHeaderLen; i < length; i += 16 {
				p.addr6At(", ", b, i)
			}
		}
	case icmp6RPL:
		p.rpl(code, b, length)
	default:
		p.printf(", length %d", length)
		if p.opt.Verbose < 2 {
			p.hexLines("\n\t", upto(b, length), 0)
		}
		return false
	}
	return true
}

func (p *Printer) icmp6Unreachable(code uint8, b []byte, length int) bool {
	const quoted = icmp6ErrorHeaderLen
	p.printf(", %s", tokStr(icmp6UnreachableCodes, "unknown unreach code (%d)", uint32(code)))
	switch code {
	case 0, 1, 3:
		p.addr6At(" ", b, quoted+24)
	case 2:
		p.addr6At(" ", b, quoted+24)
		p.addr6At(", source address ", b, quoted+8)
	case 4:
		proto, off := ip6UpperLayer(b, quoted)
		if off < 0 {
			p.trunc()
			return false
		}
		port := p.u16(b, off+2)
		p.addr6At(", ", b, quoted+24)
		if proto == protoTCP {
			p.str(" tcp port ")
			p.port("tcp", port)
		} else {
			p.str(" udp port ")
			p.port("udp", port)
		}
	default:
		if p.opt.Verbose < 2 {
			p.hexLines("\n\t", upto(b, length), 0)
			return false
		}
	}
	return true
}

// ip6UpperLayer looks for the TCP or UDP header of the quoted packet at off, as far as the ports; -1 is that there
// is none.
func ip6UpperLayer(b []byte, off int) (proto uint8, at int) {
	if !has(b, off, 7) {
		return 0, -1
	}
	next, n := b[off+6], ip6HeaderLen
	for off < len(b) {
		off += n
		switch next {
		case protoUDP, protoTCP:
			if !has(b, off, 4) {
				return 0, -1
			}
			return next, off
		case ip6HopByHop, ip6DestOpts, ip6Routing:
			if !has(b, off, 2) {
				return 0, -1
			}
			n = 8 + 8*int(b[off+1])
		case ip6Fragment:
			if !has(b, off, 4) || (uint16(b[off+2])<<8|uint16(b[off+3]))&ip6OffsetMask != 0 {
				return 0, -1
			}
			n = 8
		case protoAH:
			if !has(b, off, 2) {
				return 0, -1
			}
			n = 8 + 4*int(b[off+1])
		default:
			return 0, -1
		}
		next = b[off]
	}
	return 0, -1
}

func (p *Printer) icmp6TimeExceeded(code uint8, b []byte) {
	switch code {
	case 0:
		p.addr6At(" for ", b, icmp6ErrorHeaderLen+24)
	case 1:
		p.str(" (reassembly)")
	default:
		p.printf(", unknown code (%d)", code)
	}
}

var icmp6ParamCodes = []string{"erroneous", "next header", "option", "incomplete header chain"}

func (p *Printer) icmp6ParamProblem(code uint8, b []byte) bool {
	if !has(b, icmp6ErrorHeaderLen, ip6HeaderLen) {
		p.trunc()
		return false
	}
	if int(code) < len(icmp6ParamCodes) {
		p.printf(", %s - octet %d", icmp6ParamCodes[code], p.u32(b, 4))
	} else {
		p.printf(", code-#%d", code)
	}
	return true
}

// mld prints RFC 2710's message, if it is there.
func (p *Printer) mld(b []byte) {
	if len(b) < icmp6ListenerMin {
		return
	}
	p.printf("max resp delay: %d addr: ", p.u16(b, 4))
	p.addr(b[8:24])
}

// mld2Report prints RFC 3810 5.2's report.
func (p *Printer) mld2Report(b []byte, length int) {
	if length < 8 {
		p.printf(" [invalid len %d]", length)
		return
	}
	p.groupReport(b, length, 16, " [v2-report-#%d]")
}

// mld2Query prints RFC 3810 5.1's query.
func (p *Printer) mld2Query(b []byte, length int) {
	delay := uint32(p.u16(b, 4))
	if delay >= 32768 {
		delay = (delay&0xfff | 0x1000) << (delay&0x7000>>12 + 3)
	}
	if p.opt.Verbose > 0 {
		p.printf(" [max resp delay=%d]", delay)
	}
	p.addr6At(" [gaddr ", b, 8)
	if p.opt.Verbose > 0 {
		flags := p.u8(b, 24)
		p.sep(flags&8 != 0, " sflag")
		if flags&7 != 0 {
			p.printf(" robustness=%d", flags&7)
		}
		interval := uint32(p.u8(b, 25))
		if interval >= 128 {
			interval = (interval&0xf | 0x10) << (interval&0x70>>4 + 3)
		}
		p.printf(" qqi=%d", interval)
	}
	if n := int(p.u16(b, 26)); n > 0 {
		switch {
		case length < icmp6ListenerQuery2Min+16*n:
			p.str(" [invalid number of sources]")
		case p.opt.Verbose > 1:
			p.groupSources(b, icmp6ListenerQuery2Min, n, 16)
		default:
			p.printf(", %d source(s)", n)
		}
	}
	p.char(']')
}
