package dissect

// Options of TCP; see https://www.iana.org/assignments/tcp-parameters.
const (
	tcpEnd         = 0
	tcpNop         = 1
	tcpMaxSegment  = 2
	tcpWindowScale = 3
	tcpSACKOK      = 4
	tcpSACK        = 5
	tcpEcho        = 6
	tcpEchoReply   = 7
	tcpTimeStamp   = 8
	tcpCC          = 11
	tcpCCNew       = 12
	tcpCCEcho      = 13
	tcpMD5         = 19
	tcpSCPS        = 20
	tcpUserTimeout = 28
	tcpAO          = 29
	tcpMultipath   = 30
	tcpFastOpen    = 34
	tcpExperiment2 = 254
)

var tcpOptionNames = []tok{
	{tcpEnd, "eol"}, {tcpNop, "nop"}, {tcpMaxSegment, "mss"}, {tcpWindowScale, "wscale"}, {tcpSACKOK, "sackOK"},
	{tcpSACK, "sack"}, {tcpEcho, "echo"}, {tcpEchoReply, "echoreply"}, {tcpTimeStamp, "TS"}, {tcpCC, "cc"},
	{tcpCCNew, "ccnew"}, {tcpCCEcho, ""}, {tcpMD5, "md5"}, {tcpSCPS, "scps"}, {tcpUserTimeout, "uto"},
	{tcpAO, "tcp-ao"}, {tcpMultipath, "mptcp"}, {tcpFastOpen, "tfo"}, {tcpExperiment2, "exp"},
}

// tcpOptions is what options mean something with.
type tcpOptions struct {
	flags uint8  // of the segment
	base  uint32 // what SACK blocks are relative to
	whole bool   // the segment was captured whole
}

// An optionState says how the reading of an option ended.
type optionState int

const (
	optionWhole optionState = iota
	optionBad               // by its length
	optionCut               // by the capture
)

// tcpOptions prints the options, left bytes of b, and says whether it got through them.
func (p *Printer) tcpOptions(b []byte, left int, o *tcpOptions) bool {
	for first := true; left > 0; first = false {
		if !first {
			p.char(',')
		}
		kind, size, head := p.u8(b, 0), 1, 1
		if kind > tcpNop {
			size, head = int(p.u8(b, 1)), 2
			if size < 2 || size > left {
				return p.optionsEnd(optionBad, first)
			}
		}
		b, left = b[head:], left-head
		p.str(tokStr(tcpOptionNames, "unknown-%d", uint32(kind)))
		used := tcpOptionSize(kind, size-head)
		if end := p.tcpOption(kind, b, used, left, o); end != optionWhole {
			return p.optionsEnd(end, first)
		}
		b, left = from(b, used), left-used
		if used+head != size {
			p.printf("[len %d]", size)
		}
		if kind == tcpEnd {
			break
		}
	}
	return true
}

// optionsEnd prints why the options end before their end.
func (p *Printer) optionsEnd(end optionState, first bool) bool {
	if end == optionBad {
		p.str("[bad opt]")
		if !first {
			p.char(']')
		}
		return false
	}
	p.trunc()
	if !first {
		p.char('>')
	}
	return false
}

// tcpOptionSize is how many bytes of data an option has by its kind; n is what its length field says.
func tcpOptionSize(kind uint8, n int) int {
	switch kind {
	case tcpEnd, tcpNop, tcpSACKOK:
		return 0
	case tcpWindowScale:
		return 1
	case tcpMaxSegment, tcpSCPS, tcpUserTimeout:
		return 2
	case tcpEcho, tcpEchoReply, tcpCC, tcpCCNew, tcpCCEcho:
		return 4
	case tcpTimeStamp:
		return 8
	case tcpMD5:
		return 16
	}
	return n
}

// optionData says whether an option may take n of the bytes that are left, and whether b has them.
func optionData(b []byte, n, left int) optionState {
	switch {
	case n > left:
		return optionBad
	case n > len(b):
		return optionCut
	}
	return optionWhole
}

// tcpOption prints an option's data, n bytes of b.
func (p *Printer) tcpOption(kind uint8, b []byte, n, left int, o *tcpOptions) optionState {
	switch kind {
	case tcpSACK:
		return p.sack(b, n, left, o.base)
	case tcpAO:
		return p.tcpAuth(b, n, left)
	case tcpWindowScale, tcpMaxSegment, tcpEcho, tcpEchoReply, tcpCC, tcpCCNew, tcpCCEcho, tcpTimeStamp, tcpMD5,
		tcpSCPS, tcpUserTimeout, tcpMultipath, tcpFastOpen, tcpExperiment2:
		if end := optionData(b, n, left); end != optionWhole {
			return end
		}
		return p.tcpKnownOption(kind, b[:n], o)
	case tcpEnd, tcpNop, tcpSACKOK:
		return optionWhole
	}
	if n > 0 {
		p.str(" 0x")
	}
	return p.optionHex(b, n, left)
}

// tcpKnownOption prints the data of an option that was captured whole.
func (p *Printer) tcpKnownOption(kind uint8, b []byte, o *tcpOptions) optionState {
	switch kind {
	case tcpWindowScale:
		p.char(' ')
		p.dec(uint64(b[0]))
	case tcpMaxSegment:
		p.char(' ')
		p.dec(uint64(p.u16(b, 0)))
	case tcpEcho, tcpEchoReply, tcpCC, tcpCCNew, tcpCCEcho:
		p.char(' ')
		p.dec(uint64(p.u32(b, 0)))
	case tcpTimeStamp:
		p.str(" val ")
		p.dec(uint64(p.u32(b, 0)))
		p.str(" ecr ")
		p.dec(uint64(p.u32(b, 4)))
	case tcpMD5:
		p.md5(b, o.whole)
	case tcpSCPS:
		p.printf(" cap %02x id %d", b[0], b[1])
	case tcpUserTimeout:
		p.userTimeout(p.u16(b, 0))
	case tcpMultipath:
		if !p.mptcp(b, o.flags) {
			return optionBad
		}
	case tcpFastOpen:
		p.char(' ')
		p.fastOpen(b)
	case tcpExperiment2:
		return p.experiment(b)
	}
	return optionWhole
}

// sack prints the blocks of RFC 2018.
func (p *Printer) sack(b []byte, n, left int, base uint32) optionState {
	if n%8 != 0 {
		p.str(" invalid sack")
		return optionWhole
	}
	p.char(' ')
	p.num(n / 8)
	p.char(' ')
	for i := 0; i < n; i += 8 {
		if end := optionData(b, i+8, left); end != optionWhole {
			return end
		}
		p.char('{')
		p.dec(uint64(p.u32(b, i) - base))
		p.char(':')
		p.dec(uint64(p.u32(b, i+4) - base))
		p.char('}')
	}
	return optionWhole
}

// tcpAuth prints the authentication option of RFC 5925, section 2.2.
func (p *Printer) tcpAuth(b []byte, n, left int) optionState {
	if n < 2 {
		p.invalid()
		return optionWhole
	}
	for i, name := range []string{" keyid ", " rnextkeyid "} {
		if end := optionData(b, i+1, left); end != optionWhole {
			return end
		}
		p.str(name)
		p.dec(uint64(b[i]))
	}
	if n == 2 {
		return optionWhole
	}
	p.str(" mac 0x")
	return p.optionHex(from(b, 2), n-2, left-2)
}

// optionHex prints n bytes of an option as far as there are some.
func (p *Printer) optionHex(b []byte, n, left int) optionState {
	for i := range n {
		if end := optionData(b, i+1, left); end != optionWhole {
			return end
		}
		p.hex(uint64(b[i]), 2)
	}
	return optionWhole
}

// md5 prints the signature of RFC 2385. There is no secret to check it with.
func (p *Printer) md5(b []byte, whole bool) {
	if whole {
		p.str(" shared secret not supplied with -M, ")
	} else {
		p.str(" snaplen too short, ")
	}
	p.str("can't check - ")
	p.hexBytes(b)
}

// userTimeout prints the option of RFC 5482: minutes or seconds, by the first bit as tcpdump has it.
func (p *Printer) userTimeout(v uint16) {
	seconds := uint64(v >> 1)
	if v&1 != 0 {
		seconds *= 60
	}
	p.str(" 0x")
	p.hex(uint64(v), 1)
	p.char(' ')
	p.dec(seconds)
}

// experiment prints an experimental option by its identifier (RFC 6994).
func (p *Printer) experiment(b []byte) optionState {
	const fastOpen = 0xf989 // RFC 7413, appendix A
	if len(b) < 2 {
		return optionBad
	}
	p.char('-')
	id := p.u16(b, 0)
	if id != fastOpen {
		p.hex(uint64(id), 4)
		return optionWhole
	}
	p.str("tfo")
	p.fastOpen(b[2:])
	return optionWhole
}

// fastOpen prints the cookie of RFC 7413, section 4.1.1.
func (p *Printer) fastOpen(b []byte) {
	switch {
	case len(b) == 0:
		p.str(" cookiereq")
	case len(b)%2 != 0 || len(b) < 4 || len(b) > 16:
		p.invalid()
	default:
		p.str(" cookie ")
		p.hexBytes(b)
	}
}
