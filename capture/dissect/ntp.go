package dissect

import "time"

const (
	ntpHeaderLen  = 48
	ntpControlLen = 12
	ntpControl    = 6 // mode
	ntpPrivate    = 7
	ntpEpoch      = 2208988800 // 1970 in seconds since 1900
)

var (
	ntpModes = [8]string{
		"unspecified", "symmetric active", "symmetric passive", "Client", "Server", "Broadcast", "Control Message",
		"Reserved",
	}
	ntpLeaps = [4]string{"", "+1s", "-1s", "clock unsynchronized"}
)

// ntp prints RFC 5905's packets.
func (p *Printer) ntp(b []byte, length int) {
	p.proto = "ntp"
	first := p.u8(b, 0)
	mode := first & 7
	p.printf("NTPv%d, %s, length %d", first>>3&7, ntpModes[mode], length)
	if p.opt.Verbose == 0 {
		return
	}
	p.printf("\n\tLeap indicator: %s (%d)", ntpLeaps[first>>6], first&0xc0)
	whole := true
	switch mode {
	case ntpControl:
		whole = p.ntpControlMessage(b, length)
	case ntpPrivate:
	default:
		whole = p.ntpTimes(b, length)
	}
	if !whole {
		p.trunc()
	}
}

// ntpInvalid prints that the length can't be; false is that not even that much was captured.
func (p *Printer) ntpInvalid(b []byte, length int) bool {
	p.invalid()
	return len(b) >= length
}

// ntpTimes prints the rest of a packet of the time protocol; false is that it is cut.
func (p *Printer) ntpTimes(b []byte, length int) bool {
	if length < ntpHeaderLen {
		return p.ntpInvalid(b, length)
	}
	stratum := p.u8(b, 1)
	p.printf(", Stratum %d (%s)", stratum, ntpStratum(stratum))
	poll := int8(p.u8(b, 2))
	p.printf(", poll %d", poll)
	switch {
	case poll <= -32 || poll >= 32:
	case poll >= 0:
		p.printf(" (%ds)", uint32(1)<<poll)
	default:
		p.printf(" (1/%ds)", uint32(1)<<-poll)
	}
	p.printf(", precision %d", int8(p.u8(b, 3)))
	for i, name := range []string{"\n\tRoot Delay: ", ", Root dispersion: "} {
		if !has(b, 4+4*i, 4) {
			return false
		}
		v := p.u32(b, 4+4*i)
		p.printf("%s%d.%06d", name, v>>16, uint64(v&0xffff)*1000000>>16)
	}
	if !has(b, 12, 4) {
		return false
	}
	p.str(", Reference-ID: ")
	switch stratum {
	case 0:
		p.str("(unspec)")
	case 1:
		p.safe(b[12:16])
	case 62, 63: // fuzzball's
		p.addr(b[12:16])
		p.str(flagStr(stratum == 62, " INFO_QUERY", " INFO_REPLY"))
		return true
	default:
		p.printf("0x%08x", p.u32(b, 12))
	}
	for i, name := range []string{
		"Reference Timestamp:  ", "Originator Timestamp: ", "Receive Timestamp:    ", "Transmit Timestamp:   ",
	} {
		if !has(b, 16+8*i, 8) {
			return false
		}
		p.str("\n\t  " + name)
		p.ntpTime(p.u64(b, 16+8*i))
	}
	p.str("\n\t    Originator - Receive Timestamp:  ")
	p.ntpDelta(p.u64(b, 24), p.u64(b, 32))
	p.str("\n\t    Originator - Transmit Timestamp: ")
	p.ntpDelta(p.u64(b, 24), p.u64(b, 40))
	return p.ntpTrailer(b, length)
}

func ntpStratum(n uint8) string {
	switch {
	case n == 0:
		return "unspecified"
	case n == 1:
		return "primary reference"
	case n < 16:
		return "secondary reference"
	}
	return "reserved"
}

// ntpTrailer prints what authenticates the packet.
func (p *Printer) ntpTrailer(b []byte, length int) bool {
	digest := length - ntpHeaderLen - 4
	switch digest {
	case 0, 16, 20:
	case -4:
		return true
	default:
		p.printf("\n\t(%d more bytes after the header)", length-ntpHeaderLen)
		return true
	}
	p.printf("\n\tKey id: %d", p.u32(b, ntpHeaderLen))
	if digest == 0 {
		return true
	}
	if !has(b, ntpHeaderLen+4, digest) {
		return false
	}
	p.str("\n\tAuthentication: ")
	p.hexBytes(b[ntpHeaderLen+4 : length])
	return true
}

// ntpFraction is a fraction of 32 bits in units of 1e-9.
func ntpFraction(f uint32) uint64 {
	return uint64(f) * 1000000000 >> 32
}

func (p *Printer) ntpTime(t uint64) {
	secs := uint32(t >> 32)
	p.printf("%d.%09d", secs, ntpFraction(uint32(t)))
	if secs != 0 {
		p.printf(" (%s)", time.Unix(int64(secs)-ntpEpoch, 0).UTC().Format("2006-01-02T15:04:05Z"))
	}
}

// ntpDelta prints how long after from to is.
func (p *Printer) ntpDelta(from, to uint64) {
	if from == 0 {
		p.ntpTime(to)
		return
	}
	d, sign := to-from, "+"
	if to <= from {
		d, sign = from-to, "-"
	}
	p.printf("%s%d.%09d", sign, d>>32, ntpFraction(uint32(d)))
}

// ntpControlMessage prints RFC 9327's header.
func (p *Printer) ntpControlMessage(b []byte, length int) bool {
	if length < ntpControlLen {
		return p.ntpInvalid(b, length)
	}
	op := p.u8(b, 1)
	p.printf(", %s, %s, %s, OpCode=%d\n", flagStr(op&0x80 != 0, "Response", "Request"),
		flagStr(op&0x40 != 0, "Error", "OK"), flagStr(op&0x20 != 0, "More", "Last"), op&0x1f)
	p.printf("\tSequence=%d", p.u16(b, 2))
	if status := p.u16(b, 4); status != 0 {
		p.printf(", Status=0x%x", status)
	} else {
		p.str(", Status=0")
	}
	p.printf(", Assoc.=%d", p.u16(b, 6))
	p.printf(", Offset=%d", p.u16(b, 8))
	count := int(p.u16(b, 10))
	p.printf(", Count=%d", count)
	if ntpControlLen+count > length {
		return p.ntpInvalid(b, length)
	}
	if count == 0 {
		return true
	}
	if !has(b, ntpControlLen, count) {
		return false
	}
	p.str("\n\tTO-BE-DONE: data not interpreted")
	return true
}
