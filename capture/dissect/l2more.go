package dissect

import "time"

// Protocols of Ethernet types that a host seldom sees.

var (
	geoNextHeaders = []tok{{0, "Any"}, {1, "BTP-A"}, {2, "BTP-B"}, {3, "IPv6"}}
	// geoTypes are type and subtype.
	geoTypes = []tok{
		{0x30, "GeoAnycastCircle"}, {0x31, "GeoAnycastRect"}, {0x32, "GeoAnycastElipse"}, {0x40, "GeoBroadcastCircle"},
		{0x41, "GeoBroadcastRect"}, {0x42, "GeoBroadcastElipse"}, {0x50, "TopoScopeBcast-SH"}, {0x51, "TopoScopeBcast-MH"},
		{0x60, "LocService-Request"}, {0x61, "LocService-Reply"},
	}
	geoMessages = []tok{
		{0, "CAM"}, {1, "DENM"}, {101, "TPEGM"}, {102, "TSPDM"}, {103, "VPM"}, {104, "SRM"}, {105, "SLAM"}, {106, "ecoCAM"}, {107, "ITM"},
		{150, "SA"},
	}
	mpcpTypes = []tok{
		{mpcpPause, "Pause"}, {2, "Gate"}, {3, "Report"}, {4, "Register Request"}, {5, "Register"}, {6, "Register ACK"},
	}
	cfmTypes = []tok{
		{1, "Continuity Check Message"}, {2, "Loopback Reply"}, {3, "Loopback Message"}, {4, "Linktrace Reply"}, {5, "Linktrace Message"},
	}
	rrcpTypes = []tok{{rrcpHello, "hello"}, {1, "get"}, {2, "set"}}
	tipcUsers = []tok{
		{0, "Low Importance Data payload"}, {1, "Medium Importance Data payload"}, {2, "High Importance Data payload"},
		{3, "Critical Importance Data payload"}, {5, "Broadcast Link Protocol internal"}, {6, "Message Bundler Protocol internal"},
		{7, "Link State Protocol internal"}, {8, "Connection Manager internal"}, {10, "Link Changeover Protocol internal"},
		{11, "Name Table Update Protocol internal"}, {12, "Message Fragmentation Protocol internal"},
		{tipcDetection, "Neighbor Detection Protocol internal"},
	}
	tipcTypes   = []tok{{0, "CONN_MSG"}, {1, "MCAST_MSG"}, {2, "NAMED_MSG"}, {3, "DIRECT_MSG"}}
	macsecFlags = []tok{{0x08, "E"}, {0x04, "C"}, {0x40, "S"}, {0x10, "B"}, {macsecHasSCI, "I"}}
)

// sourceOf prints who sent a frame, if the link level says it.
func (p *Printer) sourceOf(before string, f frame) {
	if f.src != nil {
		p.str(before + "src:")
		p.mac(f.src)
	}
}

// calm prints the header of ISO 29281.
func (p *Printer) calm(b []byte, length int, f frame) {
	p.proto = "calm_fast"
	p.str("CALM FAST")
	p.sourceOf(" ", f)
	p.str("; ")
	if length < 2 {
		p.printf(" (length %d < 2)", length)
		p.invalid()
		p.need(b, length)
		return
	}
	p.printf("SrcNwref:%d; ", p.u8(b, 0))
	p.printf("DstNwref:%d; ", p.u8(b, 1))
	if p.opt.Verbose > 0 {
		p.hexASCII("\n\t", upto(b[2:], length-2), 0)
		p.need(b, length)
	}
}

// geoNet prints the headers of ETSI TS 102 636.
func (p *Printer) geoNet(b []byte, length int, f frame) {
	const common = 36
	p.proto = "geonet"
	p.str("GeoNet ")
	p.sourceOf("", f)
	p.str("; ")
	if length < common {
		p.printf(" (common header length %d < %d)", length, common)
		p.invalid()
		return
	}
	next, kind := uint32(p.u8(b, 0)&15), uint32(p.u8(b, 1))
	p.u16(b, 4)
	hops := p.u8(b, 7)
	p.printf("v:%d NH:%d-%s ", b[0]>>4, next, tokStr(geoNextHeaders, "Unknown", next))
	p.printf("HT:%d-%d-%s HopLim:%d Payload:%d ", kind>>4, kind&15, geoType(kind), hops, p.u16(b, 4))
	address := p.part(b, 8, 8)
	p.str("GN_ADDR:")
	p.colons(address)
	p.char(' ')
	p.printf("lat:%d ", p.u32(b, 20))
	p.printf("lon:%d", p.u32(b, 24))
	p.need(b, common)
	b, length = b[common:], length-common
	more, known := map[uint32]int{0: 0, 1: 0}[kind>>4]
	switch kind {
	case 0x50:
		known = true
	case 0x51:
		more, known = 32, true
	}
	if known && !p.geoPayload(b, length, more, next) {
		p.invalid()
		return
	}
	if p.opt.Verbose > 0 {
		p.geoRest(b, length, known, more, next)
	}
}

func geoType(kind uint32) string {
	switch kind >> 4 {
	case 0:
		return "Any"
	case 1:
		return "Beacon"
	case 2:
		return "GeoUnicast"
	}
	return tokStr(geoTypes, "Unknown", kind)
}

// geoPayload prints the transport header behind an extended header of so many bytes; false is that it is not there.
func (p *Printer) geoPayload(b []byte, length, more int, next uint32) bool {
	if length < more {
		p.printf(" (header size %d > %d)", more, length)
		return false
	}
	p.need(b, more)
	b, length = b[more:], length-more
	if next != 1 && next != 2 {
		return true
	}
	if length < 4 {
		p.printf(" (BTP length %d < 4)", length)
		return false
	}
	p.printf("; BTP Dst:%d", p.u16(b, 0))
	p.printf(" Src:%d", p.u16(b, 2))
	if length >= 6 {
		p.printf("; ItsPduHeader v:%d", p.u8(b, 4))
		kind := uint32(p.u8(b, 5))
		p.printf(" t:%d-%s", kind, tokStr(geoMessages, "unknown (%d)", kind))
	}
	return true
}

// geoRest dumps what follows the headers.
func (p *Printer) geoRest(b []byte, length int, known bool, more int, next uint32) {
	if known {
		b, length = from(b, more), length-more
		if next == 1 || next == 2 {
			b, length = from(b, 4), length-4
		}
	}
	p.hexASCII("\n\t", upto(b, length), 0)
	p.need(b, length)
}

const mpcpPause = 1

// mpcp prints what a message of IEEE 802.3's multipoint control is.
func (p *Printer) mpcp(b []byte, length int) {
	p.proto = "mpcp"
	code := uint32(p.u16(b, 0))
	stamp := p.u32(b, 2)
	p.printf("MPCP, Opcode %s", tokStr(mpcpTypes, "Unknown (%d)", code))
	if code != mpcpPause {
		p.printf(", Timestamp %d ticks", stamp)
	}
	p.printf(", length %d", length)
}

// cfm prints what a message of IEEE 802.1ag is.
func (p *Printer) cfm(b []byte, length int) {
	const header = 4
	p.proto = "cfm"
	switch {
	case length < header:
		p.str("\n\t\t packet is too short")
	case len(b) < header:
		p.trunc()
	case b[0]&0x1f != 0:
		p.printf("CFMv%d not supported, length %d", b[0]&0x1f, length)
	default:
		p.printf("CFMv0 %s, MD Level %d, length %d", tokStr(cfmTypes, "unknown (%d)", uint32(b[1])), b[0]>>5, length)
	}
}

const rrcpHello = 0

// realtek prints what the switches of a maker say to each other.
func (p *Printer) realtek(b []byte, f frame) {
	p.proto = "rtl"
	if f.src != nil {
		p.etherAddresses(f)
	}
	switch kind := p.u8(b, 0); {
	case kind == 1:
		p.rrcp(b)
	case kind == 2:
		p.str("REP")
	case kind == 3, kind == 0x23:
		p.str("RLDP")
	case kind == 4:
		p.str("Realtek 8-byte DSA tag")
	case kind>>4 == 9:
		p.str("Realtek RTL8306 4-byte DSA tag")
	case kind>>4 == 10:
		p.str("Realtek RTL8366RB 4-byte DSA tag")
	default:
		p.printf("Realtek unknown type 0x%02x", kind)
	}
}

// rrcp prints how such a switch is set up from afar. Registers are in little-endian order.
func (p *Printer) rrcp(b []byte) {
	p.proto = "rrcp"
	code, reply := p.u8(b, 1)&0x7f, p.u8(b, 1)&0x80 != 0
	p.printf("RRCP %s: %s", flagStr(reply, "reply", "query"), tokStr(rrcpTypes, "unknown opcode (0x%02x)", uint32(code)))
	register := code == 1 || code == 2
	if register {
		a, d := p.part(b, 4, 2), p.part(b, 6, 4)
		p.printf(" addr=0x%02x%02x, data=0x%02x%02x%02x%02x", a[1], a[0], d[3], d[2], d[1], d[0])
	}
	p.printf(", auth=0x%04x", p.u16(b, 2))
	switch {
	case code == rrcpHello && reply:
		p.need(b, 18)
		p.printf(" downlink_port=%d, uplink_port=%d, uplink_mac=", b[4], b[5])
		p.mac(b[6:12])
		p.printf(", vendor_id=%08x ,chip_id=%04x ", p.u32(b, 14), p.u16(b, 12))
	case register:
		p.need(b, 18)
		p.printf(", cookie=0x%08x%08x ", p.u32(b, 14), p.u32(b, 10))
	}
}

const tipcDetection = 13

// tipc prints the header of the Transparent Inter Process Communication of Linux.
func (p *Printer) tipc(b []byte) {
	p.proto = "tipc"
	word := func(n int) uint32 { return p.u32(b, 4*n) }
	w0 := word(0)
	user, words := w0>>25&15, w0>>21&15
	known := tokStr(tipcUsers, "", user)
	if known[0] == '#' {
		return
	}
	w1 := word(1)
	node := func(v uint32) {
		p.printf("%d.%d.%d", v>>24, v>>12&0xfff, v&0xfff)
	}
	kind := tokStr(tipcTypes, "Unknown", w1>>29)
	var src, dst uint32
	switch user {
	case 0, 1, 2, 3, 8, 11: // of applications
		previous, from, to := word(3), word(4), word(5)
		if words > 6 {
			src, dst = word(6), word(7)
		}
		p.printf("TIPC v%d.0 ", w0>>29)
		if words <= 6 {
			node(previous)
			p.printf(":%d > %d", from, to)
		} else {
			node(src)
			p.printf(":%d > ", from)
			node(dst)
			p.printf(":%d", to)
		}
	case tipcDetection:
		dst, src = word(2), word(3)
		kind = tokStr([]tok{{0, "Link request"}, {1, "Link response"}}, "Unknown", w1>>29)
		fallthrough
	default:
		if user != tipcDetection {
			src, dst = word(6), word(7)
			kind += sprintf1(" (0x%08x)", w1)
		}
		p.printf("TIPC v%d.0 ", w0>>29)
		node(src)
		p.str(" > ")
		node(dst)
	}
	p.printf(", headerlength %d bytes, MessageSize %d bytes, %s, messageType %s", words*4, w0&0x1ffff, known, kind)
}

const macsecHasSCI = 0x20

// macsec prints the tag of IEEE 802.1AE and returns the length of what was read. If a frame follows that is not
// encrypted it is plain, and left its length; else plain is nil, and what there is has been dumped.
func (p *Printer) macsec(b []byte, length int, f frame) (n int, plain []byte, left int) {
	const short, long, icv, confidential = 6, 14, 16, 0x0c
	was := p.proto
	defer func() { p.proto = was }()
	p.proto = "macsec"
	cut := func() (int, []byte, int) {
		p.trunc()
		return len(b), nil, 0
	}
	if min(len(b), length) < short {
		return cut()
	}
	tci, size := b[0], int(b[1])
	n = short
	if tci&macsecHasSCI != 0 {
		if n = long; min(len(b), length) < n {
			return cut()
		}
	}
	if size > 0x3f || tci&0x80 != 0 {
		p.invalid()
		return len(b), nil, 0
	}
	if p.opt.Link {
		p.macsecTag(b)
	}
	if tci&confidential != 0 {
		if !p.opt.Link {
			if f.src != nil {
				p.mac(f.src)
				p.str(" > ")
				p.mac(f.dst)
				p.char(' ')
			}
			p.str("802.1AE MACsec, ")
			p.macsecTag(b)
		}
		p.unknown(b[n:])
		return n, nil, 0
	}
	plain, left = b[n:], length-n
	if min(len(plain), left) < icv {
		return cut()
	}
	plain, left = plain[:len(plain)-icv:len(plain)-icv], left-icv
	if size != 0 {
		if size > min(len(plain), left) {
			return cut()
		}
		plain, left = plain[:size], size
	}
	return n, plain, left
}

func (p *Printer) macsecTag(b []byte) {
	p.printf("an %d, pn %d, flags %s", b[0]&3, p.u32(b, 2), bitStr(macsecFlags, "none", uint32(b[0]&0x7c), ""))
	if b[1] != 0 {
		p.printf(", sl %d", b[1])
	}
	if b[0]&macsecHasSCI != 0 {
		p.printf(", sci %016x", p.u64(b, 6))
	}
	p.str(", ")
}

// aristaTyped prints a header of Arista's, which may have the time at which a switch saw the frame that follows, and
// returns the length of the headers.
func (p *Printer) aristaTyped(b []byte, length, whole int, f frame) int {
	if len(b) < 2 || length < 2 {
		p.str("[|arista]")
		return min(len(b), length)
	}
	p.etherTypeName(typeArista)
	p.printf(", length %d: ", whole)
	n := p.arista(b)
	if n > 0 {
		return n + p.etherTyped(from(b, n), length-n, whole, f)
	}
	if !p.opt.Link {
		p.untyped(typeArista, whole, f)
	}
	p.unknown(b)
	return 0
}

// arista returns the header's length; 0 is that it is of an unknown kind.
func (p *Printer) arista(b []byte) int {
	const stamp = 1
	p.proto = "arista"
	kind := p.u16(b, 0)
	p.printf("SubType %s (0x%04x), ", flagStr(kind == stamp, "Timestamp", "Unknown"), kind)
	if kind != stamp {
		return 0
	}
	scale := uint32(p.u8(b, 2))
	p.printf("Timescale %s (%d), ", tokStr([]tok{{0, "TAI"}, {1, "UTC"}}, "Unknown", scale), scale)
	form, hardware := uint32(p.u8(b, 3)>>4), uint32(b[3]&15)
	p.printf("Format %s (%d), HwInfo %s (%d), Timestamp ", tokStr([]tok{{1, "64-bit"}, {2, "48-bit"}}, "Unknown", form), form,
		tokStr([]tok{{0, "R/R2"}, {1, "R3"}}, "Unknown", hardware), hardware)
	n := 0
	switch form {
	case 1:
		n = 12
		p.str(time.Unix(int64(p.u32(b, 4)), int64(p.u32(b, 8))).UTC().Format("2006-01-02 15:04:05.000000000"))
	case 2:
		n = 10
		s, ns := uint64(p.u16(b, 4)), p.u32(b, 6)
		p.printf("%d.%09d", s+uint64(ns/1e9), ns%1e9)
	default:
		return 0
	}
	p.str(": ")
	return n
}
