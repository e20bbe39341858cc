package dissect

// Attributes of RFC 2661 4.4 that are printed each in its way.
const (
	l2tpMessageType   = 0
	l2tpResultCode    = 1
	l2tpProtoVersion  = 2
	l2tpFramingCap    = 3
	l2tpBearerCap     = 4
	l2tpTieBreaker    = 5
	l2tpQ931          = 12
	l2tpChallengeResp = 13
	l2tpBearerType    = 18
	l2tpFramingType   = 19
	l2tpObsolete      = 20
	l2tpAuthType      = 29
	l2tpAuthID        = 32
	l2tpCallErrors    = 34
	l2tpACCM          = 35
	l2tpSeqRequired   = 39
	l2tpDisconnect    = 46 // RFC 3145
)

var (
	l2tpAttributes = []tok{
		{0, "MSGTYPE"}, {1, "RESULT_CODE"}, {2, "PROTO_VER"}, {3, "FRAMING_CAP"}, {4, "BEARER_CAP"}, {5, "TIE_BREAKER"},
		{6, "FIRM_VER"}, {7, "HOST_NAME"}, {8, "VENDOR_NAME"}, {9, "ASSND_TUN_ID"}, {10, "RECV_WIN_SIZE"},
		{11, "CHALLENGE"}, {12, "Q931_CC"}, {13, "CHALLENGE_RESP"}, {14, "ASSND_SESS_ID"}, {15, "CALL_SER_NUM"},
		{16, "MINIMUM_BPS"}, {17, "MAXIMUM_BPS"}, {18, "BEARER_TYPE"}, {19, "FRAMING_TYPE"}, {20, "PACKET_PROC_DELAY"},
		{21, "CALLED_NUMBER"}, {22, "CALLING_NUMBER"}, {23, "SUB_ADDRESS"}, {24, "TX_CONN_SPEED"},
		{25, "PHY_CHANNEL_ID"}, {26, "INI_RECV_LCP"}, {27, "LAST_SENT_LCP"}, {28, "LAST_RECV_LCP"},
		{29, "PROXY_AUTH_TYPE"}, {30, "PROXY_AUTH_NAME"}, {31, "PROXY_AUTH_CHAL"}, {32, "PROXY_AUTH_ID"},
		{33, "PROXY_AUTH_RESP"}, {34, "CALL_ERRORS"}, {35, "ACCM"}, {36, "RANDOM_VECTOR"}, {37, "PRIVATE_GRP_ID"},
		{38, "RX_CONN_SPEED"}, {39, "SEQ_REQUIRED"}, {46, "PPP_DISCON_CC"},
	}
	l2tpMessages = []tok{
		{1, "SCCRQ"}, {2, "SCCRP"}, {3, "SCCCN"}, {4, "StopCCN"}, {6, "HELLO"}, {7, "OCRQ"}, {8, "OCRP"}, {9, "OCCN"},
		{10, "ICRQ"}, {11, "ICRP"}, {12, "ICCN"}, {14, "CDN"}, {15, "WEN"}, {16, "SLI"},
	}
	l2tpAuths = []tok{
		{0, "Reserved"}, {1, "Textual"}, {2, "CHAP"}, {3, "PAP"}, {4, "No Auth"}, {5, "MS-CHAPv1"},
	}
	l2tpDirections = []tok{{0, "global error"}, {1, "at peer"}, {2, "at local"}}
	l2tpFlags      = []tok{{0x8000, "T"}, {0x4000, "L"}, {0x0800, "S"}, {0x0200, "O"}, {0x0100, "P"}}
	l2tpFraming    = []tok{{2, "A"}, {1, "S"}}
	l2tpBearer     = []tok{{2, "A"}, {1, "D"}}
)

// l2tp prints RFC 2661: control messages and their attributes, or the PPP frame.
func (p *Printer) l2tp(b []byte, length int) {
	p.proto = "l2tp"
	flags := p.u16(b, 0)
	switch flags & 15 {
	case 2:
	case 1:
		p.str(" l2f:")
		return
	default:
		p.str(" Unknown Version, neither L2F(1) nor L2TP(2)")
		return
	}
	p.printf(" l2tp:[%s]", letters(l2tpFlags, uint32(flags)))
	control, withLength := flags&0x8000 != 0, flags&0x4000 != 0
	at, says := 2, 0
	if withLength {
		says = int(p.u16(b, at))
		at += 2
	}
	p.printf("(%d/", p.u16(b, at))
	p.printf("%d)", p.u16(b, at+2))
	at += 4
	if flags&0x0800 != 0 {
		p.printf("Ns=%d,", p.u16(b, at))
		p.printf("Nr=%d", p.u16(b, at+2))
		at += 4
	}
	if flags&0x0200 != 0 {
		pad := int(p.u16(b, at))
		if at += 2 + pad; len(b) < at {
			p.trunc()
			return
		}
	}
	if withLength {
		if length < says {
			p.printf(" Length %d larger than packet", says)
			return
		}
		length = says
	}
	switch {
	case length < at:
		p.printf(" Length %d smaller than header length", length)
	case !control:
		p.str(" {")
		p.ppp(from(b, at), length-at)
		p.char('}')
	case !withLength:
		p.str(" No length")
	case length == at:
		p.str(" ZLB")
	default:
		p.l2tpControl(from(b, at), length-at)
	}
}

func (p *Printer) l2tpControl(b []byte, length int) {
	for length > 0 {
		p.char(' ')
		flags := p.u16(b, 0)
		n := int(flags & 0x3ff)
		if n < 6 || n > length || n > len(b) {
			p.trunc()
			return
		}
		p.sep(flags&0x8000 != 0, "*")
		p.sep(flags&0x4000 != 0, "?")
		kind, v := p.u16(b, 4), b[6:n]
		if vendor := p.u16(b, 2); vendor != 0 {
			p.printf("VENDOR%04x:ATTR%04x(", vendor, kind)
			p.hexBytes(v)
		} else {
			p.printf("%s(", tokStr(l2tpAttributes, "AVP-#%d", uint32(kind)))
			if flags&0x4000 != 0 {
				p.str("???")
			} else {
				p.l2tpValue(kind, v)
			}
		}
		p.char(')')
		b, length = b[n:], length-n
	}
}

// l2tpLeast is the least length of an attribute's value, 0 if any will do.
func l2tpLeast(kind uint16) int {
	switch kind {
	case l2tpMessageType, l2tpResultCode, l2tpProtoVersion, 6, 9, 10, 14, l2tpAuthType, l2tpAuthID, l2tpCallErrors,
		l2tpACCM:
		return 2
	case l2tpQ931:
		return 3
	case l2tpFramingCap, l2tpBearerCap, l2tpBearerType, l2tpFramingType, 15, 16, 17, 24, 25, 38:
		return 4
	case l2tpDisconnect:
		return 5
	case l2tpTieBreaker:
		return 8
	case l2tpChallengeResp:
		return 16
	}
	return 0
}

func (p *Printer) l2tpValue(kind uint16, v []byte) {
	if len(v) < l2tpLeast(kind) {
		p.str("AVP too short")
		return
	}
	switch kind {
	case l2tpMessageType:
		p.str(tokStr(l2tpMessages, "MSGTYPE-#%d", uint32(p.u16(v, 0))))
	case l2tpResultCode:
		p.l2tpResult(v)
	case l2tpProtoVersion:
		p.printf("%d.%d", v[0], v[1])
	case l2tpFramingCap, l2tpFramingType:
		p.str(letters(l2tpFraming, p.u32(v, 0)))
	case l2tpBearerCap, l2tpBearerType:
		p.str(letters(l2tpBearer, p.u32(v, 0)))
	case l2tpTieBreaker:
		p.hexBytes(v[:8])
	case l2tpChallengeResp:
		p.hexBytes(v[:16])
	case 6, 9, 10, 14:
		p.dec(uint64(p.u16(v, 0)))
	case 7, 8, 21, 22, 23, 30, 37:
		p.safe(v)
	case 11, 26, 27, 28, 31, 33, 36:
		p.hexBytes(v)
	case l2tpQ931:
		p.printf("%d, %02x", p.u16(v, 0), v[2])
		p.l2tpText(v[3:])
	case 15, 16, 17, 24, 25, 38:
		p.dec(uint64(p.u32(v, 0)))
	case l2tpObsolete:
		p.str("obsolete")
	case l2tpAuthType:
		p.str(tokStr(l2tpAuths, "AuthType-#%d", uint32(p.u16(v, 0))))
	case l2tpAuthID:
		p.dec(uint64(v[1]))
	case l2tpCallErrors:
		p.l2tpWords(v[2:], "CRCErr=%d ", "FrameErr=%d ", "HardOver=%d ", "BufOver=%d ", "Timeout=%d ", "AlignErr=%d ")
	case l2tpACCM:
		p.l2tpWords(v[2:], "send=%08x ", "recv=%08x ")
	case l2tpSeqRequired:
	case l2tpDisconnect:
		p.printf("%04x, %04x %s", p.u16(v, 0), p.u16(v, 2), tokStr(l2tpDirections, "Direction-#%d", uint32(v[4])))
		p.l2tpText(v[5:])
	}
}

// l2tpText prints what a person reads, if there is something.
func (p *Printer) l2tpText(v []byte) {
	p.sep(len(v) > 0, " ")
	p.safe(v)
}

func (p *Printer) l2tpResult(v []byte) {
	p.dec(uint64(p.u16(v, 0)))
	switch {
	case len(v) == 2:
	case len(v) == 3:
		p.str(" AVP too short")
	default:
		p.printf("/%d", p.u16(v, 2))
		p.l2tpText(v[4:])
	}
}

// l2tpWords prints numbers of 32 bits until one is missing.
func (p *Printer) l2tpWords(v []byte, formats ...string) {
	for _, f := range formats {
		if len(v) < 4 {
			p.str("AVP too short")
			return
		}
		p.printf(f, p.u32(v, 0))
		v = v[4:]
	}
}
