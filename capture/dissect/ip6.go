package dissect

import "math"

// Protocols that ip6 looks for: RFC 8200 4, and the transports that print the addresses themselves, with ports.
const (
	ip6HopByHop    = 0
	ip6Routing     = 43
	ip6Fragment    = 44
	ip6DestOpts    = 60
	ip6MobilityOld = 62
	ip6Mobility    = 135
)

const (
	ip6HeaderLen  = 40
	ip6OffsetMask = 0xfff8
)

// ip6Packet is an IPv6 packet on the way through its extension headers.
type ip6Packet struct {
	p       *Printer
	b       []byte // from the IPv6 header on, to the end of the payload
	length  int    // what the enclosing header says
	payload int    // payload length; of a jumbogram, what the option says
	off     int    // where the header at hand begins
	left    int    // how much of the packet follows off, by the header's length
	next    uint8
	jumbo   bool
	hbh     bool
	extHdrs int
	h       ipHeader
}

// ip6 prints an IPv6 packet.
func (p *Printer) ip6(b []byte, length int) {
	p.proto = "ip6"
	if len(b) < ip6HeaderLen {
		p.trunc()
		return
	}
	if length < ip6HeaderLen {
		p.printf("truncated-ip6 %d", length)
		return
	}
	if !p.opt.Link {
		p.str("IP6 ")
	}
	if v := b[0] >> 4; v != 6 {
		p.printf("version error: %d != 6", v)
		return
	}
	k := ip6Packet{p: p, length: length, next: b[6], payload: int(p.u16(b, 4))}
	total := ip6HeaderLen + k.payload
	if k.payload == 0 {
		// A jumbogram, if there is an option that says so; until that is found all of the frame may be headers.
		total = ip6HeaderLen + length
	} else if length < total {
		p.printf("truncated-ip6 - %d bytes missing!", total-length)
	}
	if p.opt.Verbose > 0 {
		p.ip6Verbose(b)
	}
	k.b = upto(b, total)
	k.off, k.left = ip6HeaderLen, total-ip6HeaderLen
	k.h = ipHeader{version: 6, src: b[8:24], dst: b[24:40], ttl: b[7], direct: true}
	switch k.next {
	case protoTCP, protoUDP, protoDCCP, protoSCTP:
	default:
		p.fromTo(&k.h)
		p.str(": ")
	}
	k.headers()
}

func (p *Printer) ip6Verbose(b []byte) {
	p.char('(')
	flow := p.u32(b, 0)
	if class := flow >> 20 & 0xff; class != 0 {
		p.printf("class 0x%02x, ", class)
	}
	if label := flow & 0xfffff; label != 0 {
		p.printf("flowlabel 0x%05x, ", label)
	}
	p.printf("hlim %d, next-header %s (%d) payload length: %d) ",
		b[7], tokStr(ipProtocols, "unknown", uint32(b[6])), b[6], p.u16(b, 4))
}

// headers goes through the extension headers to what they end in.
func (k *ip6Packet) headers() {
	for {
		n := 0
		switch k.next {
		case ip6HopByHop:
			n = k.hopByHop()
		case ip6DestOpts:
			n = k.p.ip6DestOptions(from(k.b, k.off))
		case ip6Fragment:
			if n = k.p.ip6Fragment(from(k.b, k.off), k.b, k.off); k.off+n >= len(k.b) {
				return
			}
			k.h.fragment = true
		case ip6Routing:
			if k.off >= len(k.b) {
				k.p.trunc()
				return
			}
			n = k.p.ip6Routing(from(k.b, k.off))
		case ip6Mobility, ip6MobilityOld:
			// Nothing may follow: RFC 6275 6.1.1.
			k.p.mobility(from(k.b, k.off))
			return
		default:
			k.transport()
			return
		}
		if n < 0 {
			return
		}
		k.extHdrs++
		k.h.direct = false
		k.next = k.p.u8(k.b, k.off)
		k.p.proto = "ip6"
		if k.left < n {
			k.p.trunc()
			return
		}
		k.off, k.left = k.off+n, k.left-n
	}
}

// hopByHop prints the hop-by-hop options, which only stand right behind the IPv6 header.
func (k *ip6Packet) hopByHop() int {
	bad := func(what string) int {
		k.p.str(what)
		k.p.invalid()
		return -1
	}
	if k.hbh {
		return bad("[The Hop-by-Hop Options header was already found]")
	}
	if k.extHdrs > 0 {
		return bad("[The Hop-by-Hop Options header don't follow the IPv6 header]")
	}
	k.hbh = true
	n := k.hopByHopOptions()
	if k.payload == 0 && !k.jumbo {
		return bad("[No valid Jumbo Payload Hop-by-Hop option found]")
	}
	return n
}

// transport hands on what is not an extension header.
func (k *ip6Packet) transport() {
	switch {
	case k.jumbo:
		total := k.payload + ip6HeaderLen
		if total < k.off {
			k.p.trunc()
			return
		}
		if k.length < total {
			k.p.printf("truncated-ip6 - %d bytes missing!", total-k.length)
		}
		k.b, k.left = upto(k.b, total), total-k.off
	case k.payload == 0:
		if k.extHdrs > 0 {
			k.p.trunc() // they are in no payload
			return
		}
		k.b, k.left = upto(k.b, ip6HeaderLen), 0
	}
	k.h.last = ip6Final(k.b)
	k.p.ipProtocol(k.next, from(k.b, k.off), k.left, &k.h)
}

// ip6Final is the destination that checksums are made with: the last of a source route, if there is one. The
// headers have been gone through, so they are there.
func ip6Final(b []byte) []byte {
	dst := b[24:40]
	next, off := b[6], ip6HeaderLen
	for has(b, off, 4) {
		n := 8 + 8*int(b[off+1])
		switch next {
		case ip6HopByHop, ip6DestOpts, ip6Mobility, ip6MobilityOld:
		case ip6Fragment:
			n = 8
		case ip6Routing:
			if b[off+1]%2 == 1 {
				return dst
			}
			last := off + n - 16
			switch b[off+2] {
			case ip6SegmentRouting:
				last = off + 8 // in reverse order: RFC 8754 2
			case ip6SourceRoute, ip6HomeRoute:
				if b[off+1] == 0 {
					return dst
				}
			default:
				return dst
			}
			if has(b, last, 16) {
				dst = b[last : last+16]
			}
			return dst
		default:
			return dst
		}
		next, off = b[off], off+n
	}
	return dst
}

// ip6Fragment prints a fragment header; of later fragments nothing more is said.
func (p *Printer) ip6Fragment(b, header []byte, off int) int {
	p.proto = "frag6"
	// A header that lies behind the end of the payload makes a length below zero: tcpdump's is unsigned.
	size := uint64(ip6HeaderLen+int(p.u16(header, 4))) - uint64(off) - 8
	offset := p.u16(b, 2) & ip6OffsetMask
	if p.opt.Verbose > 0 {
		p.printf("frag (0x%08x:%d|%d)", p.u32(b, 4), offset, size)
	} else {
		p.printf("frag (%d|%d)", offset, size)
	}
	if offset != 0 {
		return math.MaxInt32
	}
	p.char(' ')
	return 8
}
