package dissect

// Messages of version 4 of Kerberos that have more than a type.
const (
	krbKDCRequest  = 2
	krbKDCReply    = 4
	krbApplRequest = 6
	krbErrorReply  = 10
)

var (
	krbTypes = []tok{
		{krbKDCRequest, "KDC_REQUEST"}, {krbKDCReply, "KDC_REPLY"}, {krbApplRequest, "APPL_REQUEST"},
		{8, "APPL_REQUEST_MUTUAL"}, {krbErrorReply, "ERR_REPLY"}, {12, "PRIVATE"}, {14, "SAFE"}, {16, "APPL_ERR"},
		{126, "DIE"},
	}
	krbErrors = []tok{
		{0, "OK"}, {1, "NAME_EXP"}, {2, "SERVICE_EXP"}, {3, "AUTH_EXP"}, {4, "PKT_VER"}, {5, "NAME_MAST_KEY_VER"},
		{6, "SERV_MAST_KEY_VER"}, {7, "BYTE_ORDER"}, {8, "PRINCIPAL_UNKNOWN"}, {9, "PRINCIPAL_NOT_UNIQUE"},
		{10, "NULL_KEY"},
	}
)

// kerberos prints which version of Kerberos this is, and what version 4 says.
func (p *Printer) kerberos(b []byte) {
	p.proto = "krb"
	if len(b) == 0 {
		p.trunc()
		return
	}
	switch b[0] {
	case 1, 2, 3:
		p.printf(" v%d", b[0])
	case 4:
		p.str(" v4")
		if !p.kerberos4(b) {
			p.trunc()
		}
	case 106, 107: // the tags of BER with which version 5 begins
		p.str(" v5")
	}
}

// kerberos4 prints a message of version 4; false is that a name in it does not end.
func (p *Printer) kerberos4(b []byte) bool {
	little := p.u8(b, 1)&1 != 0
	kind := b[1] &^ 1
	p.printf(" %s %s: ", flagStr(little, "le", "be"), tokStr(krbTypes, "", uint32(kind)))
	at, ok := 2, true
	names := func(seps ...string) {
		for _, sep := range seps {
			if !ok {
				return
			}
			p.str(sep)
			n := p.stringZ(from(b, at), len(b))
			ok = n > 0
			at += n
		}
	}
	number := func(off int) uint16 {
		v := p.u16(b, off)
		if little {
			v = v<<8 | v>>8
		}
		return v
	}
	switch kind {
	case krbKDCRequest:
		if names("", ".", "@"); ok {
			p.printf(" %dmin ", uint32(p.u8(b, at+4))*5)
			at += 5
			names("", ".")
		}
	case krbApplRequest:
		p.printf("v%d ", p.u8(b, 4))
		at = 5
		if names(""); ok {
			p.printf(" (%d)", p.u8(b, at))
			p.printf(" (%d)", p.u8(b, at+1))
		}
	case krbKDCReply:
		if names("", ".", "@"); ok {
			p.printf(" (%d)", number(at+10))
		}
	case krbErrorReply:
		if names("", ".", "@"); ok {
			p.printf(" %s ", tokStr(krbErrors, "", uint32(number(at+4))))
			at += 8
			names("")
		}
	default:
		p.str("(unknown)")
	}
	return ok
}
