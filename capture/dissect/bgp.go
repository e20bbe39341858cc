package dissect

import "bytes"

// Messages of RFC 4271 4.1.
const (
	bgpOpen         = 1
	bgpUpdate       = 2
	bgpNotification = 3
	bgpKeepalive    = 4
	bgpRefresh      = 5

	bgpHeaderLen = 19
	bgpMarkerLen = 16
	bgpOpenLen   = 29
)

var (
	bgpMarker = bytes.Repeat([]byte{0xff}, bgpMarkerLen)
	bgpTypes  = []tok{
		{bgpOpen, "Open"}, {bgpUpdate, "Update"}, {bgpNotification, "Notification"}, {bgpKeepalive, "Keepalive"},
		{bgpRefresh, "Route Refresh"},
	}
)

// bgpMessage is a message that was captured whole. What was captured behind it stays in sight: fields of a wrong
// length may reach there, as they do in tcpdump.
type bgpMessage struct {
	p      *Printer
	b      []byte
	length int
}

// bgp prints that a segment holds BGP, and with -v the messages in it.
func (p *Printer) bgp(b []byte) {
	p.proto = "bgp"
	p.str(": BGP")
	if p.opt.Verbose == 0 {
		return
	}
	for at, start := 0, 0; ; {
		next := bytes.Index(b[at:], bgpMarker)
		if next < 0 {
			return
		}
		at += next
		if !has(b, at, bgpHeaderLen) {
			p.trunc()
			return
		}
		if at > start {
			p.trunc()
		}
		n := int(p.u16(b, at+bgpMarkerLen))
		if n < bgpHeaderLen {
			p.printf("\nmessage length %d < %d", n, bgpHeaderLen)
			p.invalid()
			return
		}
		if !has(b, at, n) {
			p.printf("\n[|BGP %s]", tokStr(bgpTypes, "Unknown Message Type", uint32(b[at+18])))
			return
		}
		m := bgpMessage{p: p, b: b[at:], length: n}
		m.print()
		at += n
		start = at
	}
}

func (m *bgpMessage) print() {
	p, kind := m.p, m.b[18]
	p.printf("\n\t%s Message (%d), length: %d", tokStr(bgpTypes, "Unknown", uint32(kind)), kind, m.length)
	whole := true
	switch kind {
	case bgpOpen:
		whole = m.open()
	case bgpUpdate:
		whole = m.update()
	case bgpNotification:
		whole = m.notification()
	case bgpKeepalive:
	case bgpRefresh:
		whole = m.refresh()
	default:
		p.printf("\n\t  no Message %d decoder", kind)
		p.hexLines("\n\t  ", m.b[:m.length], 0)
	}
	if !whole {
		p.trunc()
	}
}

// open prints RFC 4271 4.2's message; false is that it is cut.
func (m *bgpMessage) open() bool {
	p, b := m.p, m.b
	if len(b) < bgpOpenLen || m.length < bgpOpenLen {
		return false
	}
	p.printf("\n\t  Version %d, my AS %d, Holdtime %ds, ", b[19], p.u16(b, 20), p.u16(b, 22))
	p.addr4At("ID ", b, 24)
	size := int(b[28])
	p.printf("\n\t  Optional parameters, length: %d", size)
	for i := 0; i < size; {
		at := bgpOpenLen + i
		if !has(b, at, 2) || m.length < at+2 {
			return false
		}
		kind, n := b[at], int(b[at+1])
		if i += 2 + n; i > size {
			p.printf("\n\t     Option %d, length: %d, goes past the end of the options", kind, n)
			return true
		}
		p.printf("\n\t    Option %s (%d), length: %d", tokStr(bgpOptions, "Unknown", uint32(kind)), kind, n)
		if kind != bgpCapabilityOption {
			p.printf("\n\t      no decoder for option %d", kind)
		} else if !p.bgpCapabilities(b[at+2:], n) {
			p.trunc()
		}
	}
	return true
}

// bgpFamily prints the address family at off and the subsequent one at sub.
func (p *Printer) bgpFamily(b []byte, off, sub int) {
	family, safi := p.u16(b, off), p.u8(b, sub)
	p.printf("AFI %s (%d), SAFI %s (%d)", tokStr(addressFamilies, "Unknown", uint32(family)), family,
		tokStr(bgpSubFamilies, "Unknown", uint32(safi)), safi)
}

// bgpCapabilities prints RFC 5492's option of size bytes; false is that it is cut.
func (p *Printer) bgpCapabilities(b []byte, size int) bool {
	for i := 0; i < size; {
		if !has(b, i, 2) {
			return false
		}
		kind, n := b[i], int(b[i+1])
		p.printf("\n\t      %s (%d), length: %d", tokStr(bgpCapabilityNames, "Unknown", uint32(kind)), kind, n)
		if !has(b, i+2, n) {
			return false
		}
		v := b[i+2 : i+2+n]
		if !p.bgpCapability(kind, v) {
			return true
		}
		if p.opt.Verbose > 1 {
			p.hexLines("\n\t\t", v, 0)
		}
		i += 2 + n
	}
	return true
}

// bgpCapability prints a capability; false is that the others are not to be printed.
func (p *Printer) bgpCapability(kind uint8, v []byte) bool {
	short := func(n int) bool {
		if len(v) >= n {
			return false
		}
		p.printf(" (too short, < %d)", n)
		return true
	}
	switch kind {
	case bgpCapMultiprotocol:
		if short(4) {
			return false
		}
		p.str("\n\t\t")
		p.bgpFamily(v, 0, 3)
	case bgpCapLabels:
		for ; len(v) >= 4; v = v[4:] {
			p.str("\n\t\t")
			p.bgpFamily(v, 0, 2)
			p.printf(", Count: %d", v[3])
		}
	case bgpCapRestart:
		if short(2) {
			return false
		}
		p.printf("\n\t\tRestart Flags: [%s], Restart Time %ds", flagStr(v[0]&0x80 != 0, "R", "none"), p.u16(v, 0)&0xfff)
		for v = v[2:]; len(v) >= 4; v = v[4:] {
			p.str("\n\t\t  ")
			p.bgpFamily(v, 0, 2)
			p.printf(", Forwarding state preserved: %s", flagStr(v[3]&0x80 != 0, "yes", "no"))
		}
	case bgpCapRefresh, bgpCapRefreshCisco, bgpCapLongRestart:
	case bgpCapAS4:
		if short(4) {
			return false
		}
		p.str("\n\t\t 4 Byte AS ")
		p.as(p.u32(v, 0))
	case bgpCapAddPath:
		p.bgpAddPaths(v)
	default:
		p.printf("\n\t\tno decoder for Capability %d", kind)
		if p.opt.Verbose < 2 {
			p.hexLines("\n\t\t", v, 0)
		}
	}
	return true
}

// bgpAddPaths is RFC 7911 4.
func (p *Printer) bgpAddPaths(v []byte) {
	if len(v) == 0 {
		p.str(" (bogus)")
	}
	for ; len(v) > 0; v = v[4:] {
		if len(v) < 4 {
			p.invalid()
			return
		}
		p.str("\n\t\t")
		p.bgpFamily(v, 0, 2)
		p.printf(", Send/Receive: %s", tokStr(bgpAddPathWays, "Bogus (0x%02x)", uint32(v[3])))
	}
}

// notification prints RFC 4271 4.5's message.
func (m *bgpMessage) notification() bool {
	const headerLen = 21
	p, b := m.p, m.b
	if len(b) < headerLen {
		return false
	}
	if m.length < headerLen {
		return true
	}
	code, sub := b[19], b[20]
	p.printf(", %s (%d)", tokStr(bgpErrors, "Unknown Error", uint32(code)), code)
	if names, ok := bgpSubcodes[code]; ok {
		comma := flagStr(code == bgpErrorFSM || code == bgpErrorCapability, "", ",")
		p.printf("%s subcode %s (%d)", comma, tokStr(names, "Unknown", uint32(sub)), sub)
	}
	if code != bgpErrorCease {
		return true
	}
	v := b[headerLen:m.length]
	switch sub {
	case 1: // RFC 4486 4
		if len(v) >= 7 {
			p.str(", ")
			p.bgpFamily(v, 0, 2)
			p.printf(", Max Prefixes: %d", p.u32(v, 3))
		}
	case 2, 4:
		if len(v) > 0 {
			p.bgpShutdown(v)
		}
	}
	return true
}

// bgpShutdown prints what an administrator says, RFC 9003.
func (p *Printer) bgpShutdown(v []byte) {
	n := int(v[0])
	switch {
	case n > len(v)-1:
		p.str(", invalid Shutdown Communication length")
	case n == 0:
		p.str(", empty Shutdown Communication")
		v = v[1:]
	default:
		p.printf(", Shutdown Communication (length: %d): \"", n)
		p.safe(v[1 : 1+n])
		p.char('"')
		v = v[1+n:]
	}
	if len(v) > 0 {
		p.printf(", Data: (length: %d)", len(v))
		p.hexLines("\n\t\t", v, 0)
	}
}

// refresh prints RFC 2918's message.
func (m *bgpMessage) refresh() bool {
	const size = 23
	if len(m.b) < size {
		return false
	}
	if m.length < size {
		return true
	}
	m.p.str("\n\t  ")
	m.p.bgpFamily(m.b, 19, 22)
	if m.p.opt.Verbose > 1 {
		m.p.hexLines("\n\t  ", m.b[:m.length], 0)
	}
	return true
}
