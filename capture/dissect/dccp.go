package dissect

// Types of RFC 4340 5.1.
const (
	dccpRequest  = 0
	dccpResponse = 1
	dccpData     = 2
	dccpReset    = 7
)

var (
	dccpTypes = []tok{
		{dccpRequest, "DCCP-Request"}, {dccpResponse, "DCCP-Response"}, {dccpData, "DCCP-Data"}, {3, "DCCP-Ack"},
		{4, "DCCP-DataAck"}, {5, "DCCP-CloseReq"}, {6, "DCCP-Close"}, {dccpReset, "DCCP-Reset"}, {8, "DCCP-Sync"},
		{9, "DCCP-SyncAck"},
	}
	dccpResets = []string{
		"unspecified", "closed", "aborted", "no_connection", "packet_error", "option_error", "mandatory_error",
		"connection_refused", "bad_service_code", "too_busy", "bad_init_cookie", "aggression_penalty",
	}
)

// dccp prints RFC 4340's packets.
func (p *Printer) dccp(b []byte, length int, h *ipHeader) {
	p.proto = "dccp"
	size := 12
	if len(b) < size {
		p.trunc()
		return
	}
	if length >= size && b[8]&1 != 0 {
		size = 16 // sequence numbers of 48 bits
	}
	if length < size {
		p.printf("truncated-dccp - %d bytes missing!", size-length)
		return
	}
	if len(b) < size {
		p.trunc()
		return
	}
	p.addr(h.src)
	p.printf(".%d > ", p.u16(b, 0))
	p.addr(h.dst)
	p.printf(".%d: DCCP", p.u16(b, 2))
	if p.opt.Quiet > 0 {
		header := int(b[4]) * 4
		p.printf(" %d", uint32(length-header))
		if header > length {
			p.printf(" [bad hdr length %d - too long, > %d]", header, length)
		}
		return
	}
	p.char(' ')
	kind := b[8] >> 1 & 15
	if p.dccpType(kind, b, size, length) && kind != dccpData && kind != dccpRequest {
		p.dccpAck(b, size)
	}
}

// dccpType prints the type and what belongs to it; false is that it is cut.
func (p *Printer) dccpType(kind uint8, b []byte, size, length int) bool {
	name := tokStr(dccpTypes, "unknown-type-%d", uint32(kind))
	more := 8
	switch {
	case kind == dccpRequest:
		more = 4
	case kind == dccpResponse, kind == dccpReset:
		more = 12
	case kind == dccpData, kind > 9:
		more = 0
	}
	if length < size+more {
		p.printf("truncated-%s - %d bytes missing!", name, size+more-length)
		return false
	}
	if more%8 == 4 && len(b) < size+more {
		p.trunc()
		return false
	}
	switch kind {
	case dccpRequest:
		p.printf("%s (service=%d) ", name, p.u32(b, size))
	case dccpResponse:
		p.printf("%s (service=%d) ", name, p.u32(b, size+8))
	case dccpReset:
		code := "invalid"
		if c := int(b[size+8]); c < len(dccpResets) {
			code = dccpResets[c]
		}
		p.printf("%s (code=%s) ", name, code)
	default:
		p.printf("%s ", name)
	}
	return true
}

func (p *Printer) dccpAck(b []byte, size int) {
	ack := uint64(0)
	if size == 16 {
		ack = p.u64(b, size) & 0xffffffffffff
	} else {
		ack = uint64(p.u24(b, size+1))
	}
	p.printf("(ack=%d) ", ack)
}
