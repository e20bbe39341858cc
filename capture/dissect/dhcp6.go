package dissect

const (
	dhcp6Renew      = 5
	dhcp6InfRequest = 11
	dhcp6Forward    = 12 // a relay's messages, to the server and back
	dhcp6Backward   = 13
)

var dhcp6Messages = []tok{
	{1, "solicit"}, {2, "advertise"}, {3, "request"}, {4, "confirm"}, {dhcp6Renew, "renew"}, {6, "rebind"}, {7, "reply"},
	{8, "release"}, {9, "decline"}, {10, "reconfigure"}, {dhcp6InfRequest, "inf-req"}, {dhcp6Forward, "relay-fwd"},
	{dhcp6Backward, "relay-reply"}, {14, "leasequery"}, {15, "leasequery-reply"},
}

// dhcp6 prints DHCPv6, RFC 8415: which message, and with -v its options.
func (p *Printer) dhcp6(b []byte, length int) {
	p.proto = "dhcp6"
	p.str("dhcp6")
	if len(b) < 4 {
		p.trunc()
		return
	}
	kind := b[0]
	p.printf(" %s", tokStr(dhcp6Messages, "msgtype-%d", uint32(kind)))
	if p.opt.Verbose == 0 {
		return
	}
	d := dhcp6Body{p: p, b: b, names: &dnsMessage{p: p, b: b}}
	end := min(length, len(b))
	if kind == dhcp6Forward || kind == dhcp6Backward {
		p.str(" (")
		p.addr6At("linkaddr=", b, 2)
		p.addr6At(" peeraddr=", b, 18)
		d.options(34, end)
	} else {
		p.printf(" (xid=%x", p.u24(b, 1))
		d.options(4, end)
	}
	p.char(')')
}

// dhcp6Body is a message of DHCPv6. Names in it may reach beyond their option.
type dhcp6Body struct {
	p     *Printer
	b     []byte
	names *dnsMessage
}

// options prints the options from at to end.
func (d dhcp6Body) options(at, end int) {
	p := d.p
	for at < end {
		if at+4 > end {
			p.trunc()
			return
		}
		kind, n := p.u16(d.b, at), int(p.u16(d.b, at+2))
		at += 4
		if at+n > end {
			p.trunc()
			return
		}
		p.printf(" (%s", tokStr(dhcp6Options, "opt_%d", uint32(kind)))
		if !d.option(kind, at, n) {
			p.trunc()
			return
		}
		p.char(')')
		at += n
	}
}

// option prints the n bytes of an option at off, of which some have options in them; false is that it is cut.
func (d dhcp6Body) option(kind uint16, off, n int) bool {
	p, v := d.p, d.b[off:off+n]
	if size, ok := dhcp6Least[kind]; ok && n < size || dhcp6Odd(kind, n) {
		p.str(" ?")
		return true
	}
	nested := -1
	switch kind {
	case dhcp6ClientID, dhcp6ServerID:
		p.dhcp6DUID(v)
	case dhcp6IANA, dhcp6IAPD:
		p.printf(" IAID:%d T1:%d T2:%d", p.u32(v, 0), p.u32(v, 4), p.u32(v, 8))
		nested = 12
	case dhcp6IATA:
		p.printf(" IAID:%d", p.u32(v, 0))
		nested = 4
	case dhcp6IAAddr:
		p.addr6At(" ", v, 0)
		p.printf(" pltime:%d vltime:%d", p.u32(v, 16), p.u32(v, 20))
		nested = 24
	case dhcp6IAPrefix:
		p.addr6At(" ", v, 9)
		p.printf("/%d pltime:%d vltime:%d", v[8], p.u32(v, 0), p.u32(v, 4))
		nested = 25
	case dhcp6LeaseQuery:
		p.printf(" %s", tokStr([]tok{{1, "by-address"}, {2, "by-clientID"}}, "type_%d", uint32(v[0])))
		p.addr6At(" ", v, 1)
		nested = 17
	case dhcp6ClientData:
		nested = 0
	case dhcp6RelayMessage:
		p.str(" (") // tcpdump closes one of the two
		p.dhcp6(v, n)
	case dhcp6Domains, dhcp6SIPDomains:
		return d.domains(off, off+n)
	case dhcp6NTPServer:
		return d.ntpServers(off, off+n)
	default:
		p.dhcp6Value(kind, v)
	}
	if nested >= 0 {
		d.options(off+nested, off+n)
	}
	return true
}

// dhcp6Value prints the value of an option that has no other in it.
func (p *Printer) dhcp6Value(kind uint16, v []byte) {
	switch kind {
	case dhcp6Requested, dhcp6EchoRequest:
		for i := 0; i < len(v); i += 2 {
			p.printf(" %s", tokStr(dhcp6Options, "opt_%d", uint32(p.u16(v, i))))
		}
	case dhcp6Preference:
		p.printf(" %d", v[0])
	case dhcp6Elapsed:
		p.printf(" %d", p.u16(v, 0))
	case dhcp6Lifetime, dhcp6ClientTime:
		p.printf(" %d", p.u32(v, 0))
	case dhcp6Auth:
		p.dhcp6Auth(v)
	case dhcp6StatusCode:
		code := uint32(p.u16(v, 0))
		if code > 255 {
			p.str(" INVALID code")
		} else {
			p.printf(" %s", tokStr(dhcp6Status, "code%d", code))
		}
	case dhcp6InterfaceID, dhcp6SubscriberID:
		p.char(' ')
		p.dhcp6Some(v)
	case dhcp6RemoteID:
		p.printf(" %d ", p.u32(v, 0))
		p.dhcp6Some(v[4:])
	case dhcp6RelayData:
		p.addr6At(" ", v, 0)
		p.char(' ')
		p.dhcp6Some(v[16:])
	case dhcp6Reconfigure:
		p.printf(" for %s", tokStr([]tok{{dhcp6Renew, "renew"}, {dhcp6InfRequest, "inf-req"}}, "???(%02x)", uint32(v[0])))
	case dhcp6SIPServers, dhcp6DNSServers, dhcp6SNTPServers, dhcp6NISServers, dhcp6NISPServers, dhcp6BCMCSServers,
		dhcp6PANAAgent, dhcp6ClientLink:
		for i := 0; i < len(v); i += 16 {
			p.addr6At(" ", v, i)
		}
	case dhcp6AFTR:
		p.dhcp6AFTR(v)
	case dhcp6PosixZone, dhcp6ZoneName, dhcp6MUD:
		p.char(' ')
		p.paddedStr(v, 0, len(v))
	}
}

// dhcp6Some prints ten bytes at most.
func (p *Printer) dhcp6Some(v []byte) {
	p.hexBytes(upto(v, 10))
	p.str("...")
}

// dhcp6DUID prints who a client or a server is, RFC 8415 11.
func (p *Printer) dhcp6DUID(v []byte) {
	switch kind := p.u16(v, 0); {
	case kind == 1 && len(v) >= 8:
		p.printf(" hwaddr/time type %d time %d ", p.u16(v, 2), p.u32(v, 4))
		p.hexBytes(v[8:])
	case kind == 2 && len(v) >= 10:
		p.str(" vid ")
		p.hexBytes(v[2:10])
	case kind == 3 && len(v) >= 4:
		p.printf(" hwaddr type %d ", p.u16(v, 2))
		p.hexBytes(v[4:])
	case kind >= 1 && kind <= 3:
		p.str(" ?")
	default:
		p.printf(" type %d", kind)
	}
}

// dhcp6Auth prints RFC 3315 22.11's option.
func (p *Printer) dhcp6Auth(v []byte) {
	proto := v[0]
	p.printf(" proto: %s", tokStr([]tok{{2, "delayed"}, {3, "reconfigure"}}, "%d", uint32(proto)))
	p.printf(", alg: %s", tokStr([]tok{{1, "HMAC-MD5"}}, "%d", uint32(v[1])))
	p.printf(", RDM: %s, RD:", tokStr([]tok{{0, "mono"}}, "%d", uint32(v[2])))
	for i := range 4 {
		p.printf(" %04x", p.u16(v, 3+2*i))
	}
	words := func(b []byte) {
		for i := range 4 {
			p.printf(" %08x", p.u32(b, 4*i))
		}
	}
	v = v[11:]
	switch {
	case proto == 2 && len(v) == 0:
	case proto == 2 && len(v) >= 20:
		realm := len(v) - 20
		p.sep(realm > 0, ", realm: ")
		p.hexBytes(v[:realm])
		p.printf(", key ID: %08x, HMAC-MD5:", p.u32(v, realm))
		words(v[realm+4:])
	case proto == 3 && len(v) == 17:
		p.printf(" %s value:", tokStr([]tok{{1, "reconfig-key"}, {2, "type: HMAC-MD5"}}, "type: ??", uint32(v[0])))
		words(v[1:])
	default:
		p.str(" ??")
	}
}

// domains prints names up to end.
func (d dhcp6Body) domains(at, end int) bool {
	for at < end {
		d.p.char(' ')
		if at = d.names.name(at, end); at == dnsNone {
			return false
		}
	}
	return true
}

// ntpServers is RFC 5908.
func (d dhcp6Body) ntpServers(at, end int) bool {
	p := d.p
	for at < end-4 {
		kind, n := p.u16(d.b, at), int(p.u16(d.b, at+2))
		if at += 4; at+n > end {
			return false
		}
		p.printf(" subopt:%d", kind)
		switch {
		case (kind == 1 || kind == 2) && n == 16:
			p.addr6At(" ", d.b, at)
		case kind == 3:
			p.char(' ')
			if d.names.name(at, at+n) == dnsNone {
				return false
			}
		default:
			p.str(" ?")
		}
		at += n
	}
	return true
}

// dhcp6AFTR prints the name of RFC 6334's tunnel endpoint.
func (p *Printer) dhcp6AFTR(v []byte) {
	p.char(' ')
	for len(v) > 0 && v[0] != 0 {
		n := int(v[0])
		if n >= len(v)-1 {
			p.str(" ?")
			return
		}
		p.paddedStr(v, 1, n)
		v = v[1+n:]
		p.sep(v[0] != 0, ".")
	}
}
