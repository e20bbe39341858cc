package dissect

import "bytes"

// Flags of the TCP header (RFC 9293, section 3.1).
const (
	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpACK = 0x10
	tcpURG = 0x20
)

var tcpFlags = [8]byte{'F', 'S', 'R', 'P', '.', 'U', 'E', 'W'}

// flowKey names a TCP connection; both directions have the same.
type flowKey struct {
	src, dst     [16]byte
	sport, dport uint16
	ip6          bool
}

// flowStart is where the sequence numbers of a connection are reckoned from.
type flowStart struct{ seq, ack uint32 }

// maxFlows bounds what is remembered: tcpdump never forgets a connection, but then it does not run for ever. The
// connections last used are kept, at least maxFlows of them and at most twice as many.
const maxFlows = 1 << 16

// flows are the connections that were printed.
type flows struct{ recent, older map[flowKey]flowStart }

func (f *flows) get(k flowKey) (flowStart, bool) {
	s, ok := f.recent[k]
	if !ok {
		if s, ok = f.older[k]; ok {
			f.put(k, s)
		}
	}
	return s, ok
}

func (f *flows) put(k flowKey, s flowStart) {
	if f.recent == nil || len(f.recent) >= maxFlows {
		f.recent, f.older = make(map[flowKey]flowStart), f.recent
	}
	f.recent[k] = s
}

// relative makes a segment's sequence numbers relative to where its connection began. The first segment that is
// printed, and each SYN, begin it and stay absolute. It returns what SACK blocks are relative to.
func (p *Printer) relative(h *ipHeader, sport, dport uint16, flags uint8, seq, ack *uint32) uint32 {
	k := flowKey{sport: sport, dport: dport, ip6: h.version == 6}
	copy(k.src[:], h.src)
	copy(k.dst[:], h.dst)
	reverse := sport > dport || sport == dport && bytes.Compare(h.src, h.dst) > 0
	if reverse {
		k.src, k.dst, k.sport, k.dport = k.dst, k.src, k.dport, k.sport
	}
	s, ok := p.flows.get(k)
	switch {
	case (!ok || flags&tcpSYN != 0) && reverse:
		s = flowStart{seq: *ack - 1, ack: *seq}
		p.flows.put(k, s)
	case !ok || flags&tcpSYN != 0:
		s = flowStart{seq: *seq, ack: *ack - 1}
		p.flows.put(k, s)
	case reverse:
		*seq -= s.ack
		*ack -= s.seq
	default:
		*seq -= s.seq
		*ack -= s.ack
	}
	if reverse {
		return s.seq
	}
	return s.ack
}

// tcp prints a segment of RFC 9293.
func (p *Printer) tcp(b []byte, length int, h *ipHeader) {
	p.proto = "tcp"
	if len(b) < 4 {
		p.fromTo(h)
		p.char(':')
		p.trunc()
		return
	}
	sport, dport := p.u16(b, 0), p.u16(b, 2)
	p.endpoints("tcp", sport, dport, h)
	if len(b) < 20 {
		p.trunc()
		return
	}
	header := int(b[12]>>4) * 4
	if header < 20 {
		p.printf(" tcp %d [bad hdr length %d - too short, < 20]", uint32(length-header), header)
		return
	}
	if p.opt.Quiet > 0 {
		p.printf("tcp %d", uint32(length-header))
		if header > length {
			p.printf(" [bad hdr length %d - too long, > %d]", header, length)
		}
		return
	}
	flags := b[13]
	p.str("Flags [")
	p.tcpFlags(flags)
	p.char(']')
	seq, ack := p.u32(b, 4), p.u32(b, 8)
	base := uint32(0)
	if !p.opt.AbsoluteSeq && flags&tcpACK != 0 {
		base = p.relative(h, sport, dport, flags, &seq, &ack)
	}
	if header > length {
		p.printf(" [bad hdr length %d - too long, > %d]", header, length)
		return
	}
	p.tcpChecksum(b, length, h)
	data := length - header
	if p.opt.Verbose > 1 || data > 0 || flags&(tcpSYN|tcpFIN|tcpRST) != 0 {
		p.str(", seq ")
		p.dec(uint64(seq))
		if data > 0 {
			p.char(':')
			p.dec(uint64(seq + uint32(data)))
		}
	}
	if flags&tcpACK != 0 {
		p.str(", ack ")
		p.dec(uint64(ack))
	}
	p.str(", win ")
	p.dec(uint64(p.u16(b, 14)))
	if flags&tcpURG != 0 {
		p.str(", urg ")
		p.dec(uint64(p.u16(b, 18)))
	}
	if header > 20 {
		p.str(", options [")
		o := tcpOptions{flags: flags, base: base, whole: data <= len(b)-header}
		if !p.tcpOptions(b[20:], header-20, &o) {
			return
		}
		p.char(']')
	}
	p.str(", length ")
	p.num(data)
	if data == 0 {
		return
	}
	if len(b) < header {
		p.remaining(len(b), header)
	}
	if flags&tcpRST != 0 && p.opt.Verbose > 0 {
		p.resetText(b[header:], data)
		return
	}
	if p.opt.Type != "" {
		p.tcpType(b[header:], data)
		return
	}
	p.tcpPort(sport, dport, b[header:], data, h)
}

// endpoints prints addresses and ports; the addresses only if the IP header itself names the transport.
func (p *Printer) endpoints(protocol string, sport, dport uint16, h *ipHeader) {
	if h.direct {
		p.addr(h.src)
		p.char('.')
	}
	p.port(protocol, sport)
	p.str(" > ")
	if h.direct {
		p.addr(h.dst)
		p.char('.')
	}
	p.port(protocol, dport)
	p.str(": ")
}

func (p *Printer) tcpFlags(flags uint8) {
	if flags == 0 {
		p.str("none")
	}
	for i, c := range tcpFlags {
		if flags&(1<<i) != 0 {
			p.char(c)
		}
	}
}

func (p *Printer) tcpChecksum(b []byte, length int, h *ipHeader) {
	if p.opt.Verbose == 0 || p.opt.NoChecksum || h.fragment {
		return
	}
	sum, whole := pseudoChecksum(h, protoTCP, b, length)
	if !whole {
		return
	}
	was := p.u16(b, 16)
	p.str(", cksum 0x")
	p.hex(uint64(was), 4)
	if sum == 0 {
		p.str(" (correct)")
		return
	}
	p.str(" (incorrect -> 0x")
	p.hex(uint64(shouldBe(was, sum)), 4)
	p.char(')')
}

// resetText prints what a reset says why (RFC 1122, section 4.2.2.12): its first 30 bytes.
func (p *Printer) resetText(b []byte, length int) {
	if len(b) >= length {
		p.str(" [RST")
	} else {
		p.str(" [!RST")
	}
	if length > 30 {
		length = 30
		p.char('+')
	}
	p.char(' ')
	p.safe(upto(b, length))
	p.char(']')
}
