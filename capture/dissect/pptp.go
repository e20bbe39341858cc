package dissect

// A pptpField is a part of a message of RFC 2637: how many bytes it has, and how it is printed.
type pptpField struct {
	size  int
	print func(p *Printer, b []byte)
}

func pptpNumber(format string, size int) pptpField {
	return pptpField{size, func(p *Printer, b []byte) {
		v := uint32(0)
		for i := range size {
			v = v<<8 | uint32(p.u8(b, i))
		}
		p.printf(" "+format, v)
	}}
}

// pptpReserved is printed only if it is not 0.
func pptpReserved(size int) pptpField {
	return pptpField{size, func(p *Printer, b []byte) {
		v := uint32(p.u8(b, size-1))
		if size == 2 {
			v = uint32(p.u16(b, 0))
		}
		if v != 0 {
			p.printf(" [ERROR: reserved=%d must be zero]", v)
		}
	}}
}

// pptpText is a string of so many bytes. Of some the length stands before.
func pptpText(name string, size int) pptpField {
	return pptpField{size, func(p *Printer, b []byte) {
		p.str(" " + name + "(")
		p.paddedStr(b, 0, size)
		p.char(')')
	}}
}

// pptpCode is a byte whose meaning -v tells.
func pptpCode(name string, meanings []tok) pptpField {
	return pptpField{1, func(p *Printer, b []byte) {
		v := uint32(p.u8(b, 0))
		p.printf(" %s(%d", name, v)
		if p.opt.Verbose > 0 {
			p.str(":" + tokStr(meanings, "?", v))
		}
		p.char(')')
	}}
}

func pptpNamed(name string, meanings []tok) pptpField {
	return pptpField{4, func(p *Printer, b []byte) {
		p.printf(" %s(%s)", name, tokStr(meanings, "?", p.u32(b, 0)))
	}}
}

// pptpBits are two flags, each a letter.
func pptpBits(name string, first, second tok) pptpField {
	return pptpField{4, func(p *Printer, b []byte) {
		v := p.u32(b, 0)
		p.str(" " + name + "(")
		p.sep(v&first.v != 0, first.s)
		p.sep(v&second.v != 0, second.s)
		p.char(')')
	}}
}

var (
	pptpCallID    = pptpNumber("CALL_ID(%d)", 2)
	pptpPeerID    = pptpNumber("PEER_CALL_ID(%d)", 2)
	pptpSerial    = pptpNumber("CALL_SER_NUM(%d)", 2)
	pptpCause     = pptpNumber("CAUSE_CODE(%d)", 2)
	pptpSpeed     = pptpNumber("CONN_SPEED(%d)", 4)
	pptpWindow    = pptpNumber("RECV_WIN(%d)", 2)
	pptpDelay     = pptpNumber("PROC_DELAY(%d)", 2)
	pptpChannel   = pptpNumber("PHY_CHAN_ID(%d)", 4)
	pptpID        = pptpNumber("ID(%d)", 4)
	pptpSubaddr   = pptpText("SUB_ADDR", 64)
	pptpFraming   = pptpNamed("FRAME_TYPE", []tok{{1, "A"}, {2, "S"}, {3, "E"}})
	pptpBearer    = pptpNamed("BEARER_TYPE", []tok{{1, "A"}, {2, "D"}, {3, "Any"}})
	pptpVersion   = pptpField{2, func(p *Printer, b []byte) { p.printf(" PROTO_VER(%d.%d)", p.u8(b, 0), p.u8(b, 1)) }}
	pptpErrorCode = pptpCode("ERR_CODE", []tok{
		{0, "None"}, {1, "Not-Connected"}, {2, "Bad-Format"}, {3, "Bad-Value"}, {4, "No-Resource"}, {5, "Bad-Call-ID"}, {6, "PAC-Error"},
	})
	// What both sides can do, and who they are.
	pptpAbilities = []pptpField{
		pptpBits("FRAME_CAP", tok{1, "A"}, tok{2, "S"}), pptpBits("BEARER_CAP", tok{2, "D"}, tok{1, "A"}),
		pptpNumber("MAX_CHAN(%d)", 2), pptpNumber("FIRM_REV(%d)", 2), pptpText("HOSTNAME", 64), pptpText("VENDOR", 64),
	}
	pptpGeneral = []tok{{1, "OK"}, {2, "General Error"}}
)

func pptpResult(meanings []tok) pptpField { return pptpCode("RESULT_CODE", meanings) }

// pptpMessages are the control messages by type.
var pptpMessages = [...]struct {
	name   string
	fields []pptpField
}{
	{"NOT_DEFINED", nil},
	{"SCCRQ", append([]pptpField{pptpVersion, pptpReserved(2)}, pptpAbilities...)},
	{"SCCRP", append([]pptpField{pptpVersion, pptpResult([]tok{
		{1, "Successful channel establishment"}, {2, "General error"}, {3, "Command channel already exists"},
		{4, "Requester is not authorized to establish a command channel"},
		{5, "The protocol version of the requester is not supported"},
	}), pptpErrorCode}, pptpAbilities...)},
	{"StopCCRQ", []pptpField{
		pptpCode("REASON", []tok{{1, "None"}, {2, "Stop-Protocol"}, {3, "Stop-Local-Shutdown"}}), pptpReserved(1), pptpReserved(2),
	}},
	{"StopCCRP", []pptpField{pptpResult(pptpGeneral), pptpErrorCode, pptpReserved(2)}},
	{"ECHORQ", []pptpField{pptpID}},
	{"ECHORP", []pptpField{pptpID, pptpResult(pptpGeneral), pptpErrorCode, pptpReserved(2)}},
	{"OCRQ", []pptpField{
		pptpCallID, pptpSerial, pptpNumber("MIN_BPS(%d)", 4), pptpNumber("MAX_BPS(%d)", 4), pptpBearer, pptpFraming, pptpWindow, pptpDelay,
		pptpNumber("PHONE_NO_LEN(%d)", 2), pptpReserved(2), pptpCounted("PHONE_NO", 4), pptpSubaddr,
	}},
	{"OCRP", []pptpField{pptpCallID, pptpPeerID, pptpResult([]tok{
		{1, "Connected"}, {2, "General Error"}, {3, "No Carrier"}, {4, "Busy"}, {5, "No Dial Tone"}, {6, "Time-out"}, {7, "Do Not Accept"},
	}), pptpErrorCode, pptpCause, pptpSpeed, pptpWindow, pptpDelay, pptpChannel}},
	{"ICRQ", []pptpField{
		pptpCallID, pptpSerial, pptpBearer, pptpChannel, pptpNumber("DIALED_NO_LEN(%d)", 2), pptpNumber("DIALING_NO_LEN(%d)", 2),
		pptpCounted("DIALED_NO", 4), pptpCounted("DIALING_NO", 66), pptpSubaddr,
	}},
	{"ICRP", []pptpField{
		pptpCallID, pptpPeerID, pptpResult([]tok{{1, "Connect"}, {2, "General Error"}, {3, "Do Not Accept"}}), pptpErrorCode, pptpWindow,
		pptpDelay, pptpReserved(2),
	}},
	{"ICCN", []pptpField{pptpPeerID, pptpReserved(2), pptpSpeed, pptpWindow, pptpDelay, pptpFraming}},
	{"CCRQ", []pptpField{pptpCallID, pptpReserved(2)}},
	{"CDN", []pptpField{
		pptpCallID, pptpResult([]tok{{1, "Lost Carrier"}, {2, "General Error"}, {3, "Admin Shutdown"}, {4, "Request"}}), pptpErrorCode,
		pptpCause, pptpReserved(2), pptpText("CALL_STATS", 128),
	}},
	{"WEN", []pptpField{
		pptpPeerID, pptpReserved(2), pptpNumber("CRC_ERR(%d)", 4), pptpNumber("FRAMING_ERR(%d)", 4), pptpNumber("HARDWARE_OVERRUN(%d)", 4),
		pptpNumber("BUFFER_OVERRUN(%d)", 4), pptpNumber("TIMEOUT_ERR(%d)", 4), pptpNumber("ALIGN_ERR(%d)", 4),
	}},
	{"SLI", []pptpField{pptpPeerID, pptpReserved(2), pptpNumber("SEND_ACCM(0x%08x)", 4), pptpNumber("RECV_ACCM(0x%08x)", 4)}},
}

// pptpCounted is a text of at most 64 bytes whose length stands back bytes before it: it is printed with those.
func pptpCounted(name string, back int) pptpField {
	return pptpField{-back, func(p *Printer, b []byte) {
		n := int(p.u16(b, 0))
		p.str(" " + name + "(")
		p.paddedStr(b, back, min(n, pptpNumberLen))
		p.char(')')
	}}
}

const pptpNumberLen = 64

// pptp prints a control message of RFC 2637.
func (p *Printer) pptp(b []byte) {
	const header, cookie = 12, 0x1a2b3c4d
	p.proto = "pptp"
	p.str(": pptp")
	if p.opt.Verbose > 0 {
		p.printf(" Length=%d", p.u16(b, 0))
		p.str(" " + tokStr([]tok{{1, "CTRL-MSG"}, {2, "MGMT-MSG"}}, "UNKNOWN-MSG-TYPE", uint32(p.u16(b, 2))))
	}
	magic := p.u32(b, 4)
	if magic != cookie {
		p.printf(" UNEXPECTED Magic-Cookie!!(%08x)", magic)
	}
	if p.opt.Verbose > 0 || magic != cookie {
		p.printf(" Magic-Cookie=%08x", magic)
	}
	kind := int(p.u16(b, 8))
	if kind >= len(pptpMessages) {
		p.printf(" UNKNOWN_CTRL_MSGTYPE(%d)", kind)
	} else {
		p.str(" CTRL_MSGTYPE=" + pptpMessages[kind].name)
	}
	pptpReserved(2).print(p, from(b, 10))
	if kind >= len(pptpMessages) {
		return
	}
	at := header
	for _, f := range pptpMessages[kind].fields {
		if f.size < 0 {
			f.print(p, from(b, at+f.size))
			at += pptpNumberLen
			continue
		}
		f.print(p, from(b, at))
		at += f.size
	}
}
