package dissect

const ptpHeaderLen = 34

var (
	ptpTypes = []tok{
		{0, "sync msg"}, {1, "delay req msg"}, {2, "peer delay req msg"}, {3, "peer delay resp msg"},
		{8, "follow up msg"}, {9, "delay resp msg"}, {10, "pdelay resp fup msg"}, {11, "announce msg"},
		{12, "signalling msg"}, {13, "management msg"},
	}
	ptpControls = []tok{
		{0, "Sync"}, {1, "Delay_Req"}, {2, "Follow_Up"}, {3, "Delay_Resp"}, {4, "Management"}, {5, "Other"},
	}
	ptpFlags = []tok{
		{0x1, "l1 61"}, {0x2, "l1 59"}, {0x4, "utc reasonable"}, {0x8, "timescale"}, {0x10, "time tracable"},
		{0x20, "frequency tracable"}, {0x100, "alternate master"}, {0x200, "two step"}, {0x400, "unicast"},
		{0x1000, "profile specific 1"}, {0x2000, "profile specific 2"}, {0x4000, "security mask"}, {0x18c0, "unknown"},
	}
	// ptpTimes is how the time stamp is called, with which the body of some messages begins.
	ptpTimes = map[uint8]string{
		0: "originTimeStamp", 1: "originTimeStamp", 2: "preciseOriginTimeStamp", 3: "receiveTimeStamp",
		8: "preciseOriginTimeStamp", 9: "receiveTimeStamp", 10: "preciseOriginTimeStamp", 11: "originTimeStamp",
	}
)

var (
	ptpTail = []numberField{
		{", NS correction : %d", 6}, {", sub NS correction : %d", 2}, {", reserved2 : %d", 4},
		{", clock identity : 0x%x", 8}, {", port id : %d", 2}, {", seq id : %d", 2},
	}
	ptpTime     = []numberField{{" %d seconds,", 6}, {" %d nanoseconds", 4}}
	ptpPort     = []numberField{{", port identity : 0x%x", 8}, {", port id : %d", 2}}
	ptpAnnounce = []numberField{
		{" %d seconds", 6}, {" %d nanoseconds", 4}, {", origin cur utc :%d", 2}, {", rsvd : %d", 1},
		{", gm priority_1 : %d", 1}, {", gm clock class : %d", 1}, {", gm clock accuracy : %d", 1},
		{", gm clock variance : %d", 2}, {", gm priority_2 : %d", 1}, {", gm clock id : 0x%x", 8},
		{", steps removed : %d", 2}, {", time source : 0x%x", 1},
	}
)

// ptp prints IEEE 1588's messages.
func (p *Printer) ptp(b []byte, length int) {
	p.proto = "ptp"
	if length < ptpHeaderLen {
		p.printf(" [length %d < %d]", length, ptpHeaderLen)
		p.invalid()
		return
	}
	version := p.u16(b, 0) & 0xff
	p.printf("PTPv%d", version)
	switch version {
	case 1:
		p.str(" (not implemented)")
	case 2:
		p.ptp2(b)
	}
}

func (p *Printer) ptp2(b []byte) {
	kind := b[0] & 15
	p.printf(", v1 compat : %s, msg type : %s", flagStr(b[0]&0x10 != 0, "yes", "no"),
		tokStr(ptpTypes, "Reserved", uint32(kind)))
	p.printf(", length : %d", p.u16(b, 2))
	domain := p.u16(b, 4)
	p.printf(", domain : %d, reserved1 : %d", domain>>8, domain&0xff)
	p.printf(", Flags [%s]", bitStr(ptpFlags, "none", uint32(p.u16(b, 6)), ", "))
	b = p.numbers(from(b, 8), ptpTail)
	control := p.u8(b, 0)
	p.printf(", control : %d (%s)", control, tokStr(ptpControls, "Reserved", uint32(control)))
	p.printf(", log message interval : %d", p.u16(b, 0)&0xff)
	p.ptpBody(kind, b[2:])
}

func (p *Printer) ptpBody(kind uint8, b []byte) {
	if name := ptpTimes[kind]; name != "" {
		p.printf(", %s :", name)
	}
	switch kind {
	case 0, 1, 8:
		p.numbers(b, ptpTime)
	case 2, 3, 9, 10:
		p.numbers(p.numbers(b, ptpTime), ptpPort)
	case 11:
		p.numbers(b, ptpAnnounce)
	case 12:
		p.numbers(b, ptpPort)
	case 13:
		// tcpdump reads these four from the byte with which the port identity begins.
		p.numbers(b, ptpPort)
		first := p.u8(b, 0)
		p.printf(", , start boundary hops  %d, , boundary hops  %d, , flags  0x%x, , reserved  0x%x",
			first, first, first, first)
	}
}
