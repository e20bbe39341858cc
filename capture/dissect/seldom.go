package dissect

// Protocols of ports that a host seldom sees, or sees other traffic on: what tcpdump makes of it is printed all the
// same.

var (
	timedTypes = []tok{
		{0, "TSP_ANY"}, {1, "TSP_ADJTIME"}, {2, "TSP_ACK"}, {3, "TSP_MASTERREQ"}, {4, "TSP_MASTERACK"},
		{5, "TSP_SETTIME"}, {6, "TSP_MASTERUP"}, {7, "TSP_SLAVEUP"}, {8, "TSP_ELECTION"}, {9, "TSP_ACCEPT"},
		{10, "TSP_REFUSE"}, {11, "TSP_CONFLICT"}, {12, "TSP_RESOLVE"}, {13, "TSP_QUIT"}, {14, "TSP_DATE"},
		{15, "TSP_DATEREQ"}, {16, "TSP_DATEACK"}, {17, "TSP_TRACEON"}, {18, "TSP_TRACEOFF"}, {19, "TSP_MSITE"},
		{20, "TSP_MSITEREQ"}, {21, "TSP_TEST"}, {22, "TSP_SETDATE"}, {23, "TSP_SETDATEREQ"}, {24, "TSP_LOOP"},
	}
	babelTLVs = [...]string{
		"pad1", "padN", "ack-req", "ack", "hello", "ihu", "router-id", "nh", "update", "route-request",
		"seqno-request", "tspc", "hmac", "ss-update", "ss-request", "ss-mh-request", "mac", "pc",
		"challenge_request", "challenge_reply",
	}
	babelFlags = []tok{{0x80, "/prefix"}, {0x40, "/id"}}
	rxTypes    = []tok{
		{1, "data"}, {rxAck, "ack"}, {3, "busy"}, {4, "abort"}, {5, "ackall"}, {6, "challenge"}, {7, "response"},
		{8, "debug"}, {9, "params"}, {13, "version"},
	}
	rxReasons = []tok{
		{1, "ack requested"}, {2, "duplicate packet"}, {3, "out of sequence"}, {4, "exceeds window"},
		{5, "no buffer space"}, {6, "ping"}, {7, "ping response"}, {8, "delay"}, {9, "idle"},
	}
)

// timed prints the time synchronization protocol of 4.3BSD.
func (p *Printer) timed(b []byte) {
	p.proto = "timed"
	kind := p.u8(b, 0)
	p.str(tokStr(timedTypes, "(tsp_type "+sharpHex(uint32(kind))+")", uint32(kind)))
	p.printf(" vers %d", p.u8(b, 1))
	p.printf(" seq %d", p.u16(b, 2))
	switch kind {
	case 24:
		p.printf(" hopcnt %d", p.u8(b, 4))
	case 1, 5, 22, 23:
		secs, micros := int32(p.u32(b, 4)), int32(p.u32(b, 8))
		if micros < 0 {
			return
		}
		p.str(" time ")
		if secs < 0 && micros != 0 {
			secs++
			p.sep(secs == 0, "-")
			micros = 1000000 - micros
		}
		p.printf("%d.%06d", secs, micros)
	}
	p.str(" name ")
	p.paddedStr(b, 12, 256)
}

// vat prints the header of the audio tools vat and vt.
func (p *Printer) vat(b []byte, length int) {
	p.proto = "vat"
	if length < 2 {
		p.printf("udp/va/vat, length %d < 2", length)
		return
	}
	if stamp := p.u16(b, 0); stamp&0xf060 != 0 {
		p.printf("udp/vt %d %d / %d", length, stamp&0x3ff, stamp>>10)
		return
	}
	if length < 8 {
		p.printf("udp/vat, length %d < 8", length)
		return
	}
	word, stamp := p.u32(b, 0), p.u32(b, 4)
	p.printf("udp/vat %d c%d %d%s", length-8, word&0xffff, stamp, flagStr(word&0x800000 != 0, "*", ""))
	if format := word >> 16 & 0x1f; format != 0 {
		p.printf(" f%d", format)
	}
	if site := word >> 24 & 0x3f; site != 0 {
		p.printf(" s%d", site)
	}
}

// ahcp prints the header of the ad hoc configuration protocol.
func (p *Printer) ahcp(b []byte, length int) {
	const headerLen, bodyLen = 24, 4
	p.proto = "ahcp"
	p.str("AHCP")
	invalid := func(at int) {
		p.invalid()
		p.need(b, max(at, length))
	}
	if length < 2 || p.u8(b, 0) != 43 {
		invalid(0)
		return
	}
	if version := p.u8(b, 1); version != 1 {
		p.printf(" Version %d (unknown)", version)
		p.need(b, length)
		return
	}
	p.str(" Version 1")
	if length < headerLen {
		invalid(2)
		return
	}
	p.need(b, headerLen)
	if length < headerLen+bodyLen {
		invalid(headerLen)
		return
	}
	body := int(p.u16(b, headerLen+2))
	if body > length-headerLen-bodyLen {
		invalid(headerLen + bodyLen)
		return
	}
	p.need(b, headerLen+bodyLen+body)
}

const babelUpdate = 8

// babel prints RFC 8966's messages.
func (p *Printer) babel(b []byte, length int) {
	p.proto = "babel"
	p.str("babel")
	switch {
	case len(b) < 4:
		p.trunc()
	case b[0] != 42:
		p.str(" invalid header")
	case b[1] != 2:
		p.printf(" %d unknown version", b[1])
	case length < 4:
		p.str(" 2")
		p.invalid()
	default:
		p.babelBody(b[4:], int(p.u16(b, 2)), length-4)
	}
}

func (p *Printer) babelBody(b []byte, body, length int) {
	p.printf(" 2 (%d)", body)
	if length < body {
		p.invalid()
		return
	}
	if !p.babelTLVs(b, body) || length == body {
		return
	}
	p.str(" |")
	p.babelTLVs(from(b, body), length-body)
}

// babelTLVs prints what is in length bytes; false is that one is wrong or cut.
func (p *Printer) babelTLVs(b []byte, length int) bool {
	for length > 0 {
		kind, n := p.u8(b, 0), 1
		if kind != 0 {
			if length < 2 {
				p.invalid()
				return false
			}
			if len(b) < 2 {
				p.trunc()
				return false
			}
			n = 2 + int(b[1])
		}
		if length < n {
			p.invalid()
			return false
		}
		if len(b) < n {
			p.trunc()
			return false
		}
		name := "unknown"
		if int(kind) < len(babelTLVs) {
			name = babelTLVs[kind]
		}
		p.printf(" %s", name)
		if kind == babelUpdate {
			if n < 12 {
				p.invalid()
				return false
			}
			p.str(letters(babelFlags, uint32(b[3]&0xc0)))
			p.sep(b[3]&0x3f != 0, "/unknown")
		}
		b, length = b[n:], length-n
	}
	return true
}

const (
	rxHeaderLen = 28
	rxAck       = 2
	rxAckLen    = 18
)

// rx prints the header of AFS's remote procedure calls, and which packets are acknowledged.
func (p *Printer) rx(b []byte, length int) {
	p.proto = "rx"
	if len(b) < rxHeaderLen {
		p.printf(" [|rx] (%d)", length)
		return
	}
	kind := b[20]
	p.printf(" rx %s", tokStr(rxTypes, "type %d", uint32(kind)))
	if kind == rxAck && length >= rxHeaderLen {
		p.rxAck(b[rxHeaderLen:])
	}
	p.printf(" (%d)", length)
}

func (p *Printer) rxAck(b []byte) {
	if len(b) < rxAckLen {
		p.str(" [|ack]")
		return
	}
	first := p.u32(b, 4)
	p.printf(" first %d serial %d reason %s", first, p.u32(b, 12), tokStr(rxReasons, "#%d", uint32(b[16])))
	n := int(b[17])
	if !has(b, rxAckLen, n) {
		p.str(" [|ack]")
		return
	}
	p.rxRanges(" acked ", first, b[rxAckLen:rxAckLen+n], 1)
	p.rxRanges(" nacked ", first, b[rxAckLen:rxAckLen+n], 0)
}

// rxRanges prints the runs of packets that are marked, by number.
func (p *Printer) rxRanges(name string, first uint32, marks []byte, mark byte) {
	for i := 0; i < len(marks); i++ {
		if marks[i] != mark {
			continue
		}
		p.printf("%s%d", name, first+uint32(i))
		name = ","
		start := i
		for i+1 < len(marks) && marks[i+1] == mark {
			i++
		}
		if i > start {
			p.printf("-%d", first+uint32(i))
		}
	}
}
