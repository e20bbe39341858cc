// Package dissect prints packets as tcpdump 4.99.3 does, byte for byte, for the protocols that it knows.
//
// A Printer reads frames and nothing else: no file, no socket, no clock, no resolver of its own. What it prints is
// ASCII; bytes of a packet that are not printable stand as dots or as tcpdump's ^x and M-x, never raw.
//
// In the package, each protocol is a method of Printer in a file of its name:
//
//	func (p *Printer) xxx(b []byte, length int, ...)
//
// b is what was captured, from the protocol's header on, and ends where the enclosing header says that its payload
// ends or where the capture was cut; length is what the enclosing header says is there. The method names its protocol
// in p.proto, reads with p.u8, p.u16 and so on, which end the packet with tcpdump's [|xxx] beyond the end of b, and
// writes with p.str, p.dec, p.printf. Methods are called from the switches in dispatch.go.
//
// Some protocols have the line that tcpdump prints without -v, and no body with it: IKE, RADIUS, sFlow, OSPF, PIM,
// EIGRP, RSVP, EGP, PGM, DCCP, LDP, LMP, VQP, LWAPP, LSP ping, OLSR, RPKI, Babel, AHCP, Rx, OpenFlow, HNCP, LISP,
// IS-IS, ES-IS, CLNP, CFM, MPCP, TIPC, and in BGP the NLRI of VPNs. Of others there is the length and no more: lwres,
// Zephyr, the whiteboard of port 4567, ZigBee's ZEP, DECnet, Q.933, and AppleTalk in UDP with -v. SNMP's object
// identifiers are numbers, with -n or without. Packets of the link types below have a text, others have none.
package dissect

import "time"

// Options are tcpdump's, named by what they do. The zero value is tcpdump without options, but for names: addresses
// and ports are names only if the functions here say so.
type Options struct {
	// Link prints the link-level header: -e.
	Link bool
	// Numeric leaves addresses, ports and protocols as numbers: -n is 1, -nn is 2.
	Numeric int
	// Verbose is the number of -v.
	Verbose int
	// Quiet is the number of -q.
	Quiet int
	// Hex is the number of -x, HexASCII that of -X and ASCII that of -A: one dumps what follows the link-level
	// header, two the link-level header as well. HexASCII goes before Hex, Hex before ASCII.
	Hex, HexASCII, ASCII int
	// TimeStamp is the number of -t: 0 time of day, 1 none, 2 seconds since 1970, 3 since the packet before,
	// 4 date and time of day, 5 since the first packet.
	TimeStamp int
	// Nano prints nanoseconds: --nano.
	Nano bool
	// Number begins each packet with its number: -#.
	Number bool
	// AbsoluteSeq leaves TCP sequence numbers as they are: -S.
	AbsoluteSeq bool
	// NoDomain cuts names of hosts at the first dot: -N.
	NoDomain bool
	// NoChecksum does not verify checksums: -K.
	NoChecksum bool
	// ASDot prints AS numbers of more than 16 bits as two of 16 (RFC 5396): -b.
	ASDot bool
	// RawHandles prints NFS file handles as they are: -u.
	RawHandles bool
	// Type is what packets are taken for whatever their ports say, one of Types: -T.
	Type string
	// Location is where time of day is reckoned; nil is time.Local.
	Location *time.Location
	// HostName gives the name of an address of 4 or 16 bytes, PortName that of a port of "tcp" or "udp"; "" is
	// that there is none. They are not asked if Numeric is set; nil knows no names.
	HostName func(addr []byte) string
	PortName func(protocol string, port uint16) string
	// InterfaceName gives the name of an interface by its index; "" is that there is none.
	InterfaceName func(index uint32) string
}

// Link types, as the registry of pcap names them; see https://www.tcpdump.org/linktypes.html.
const (
	LinkNull      = 0
	LinkEthernet  = 1
	LinkPPP       = 9
	LinkPPPSerial = 50 // in HDLC-like framing
	LinkPPPEther  = 51 // sessions of PPPoE
	LinkRaw       = 101
	LinkLoop      = 108
	LinkSLL       = 113
	LinkPPPPppd   = 166 // with the direction in place of the address
	LinkIPv4      = 228
	LinkIPv6      = 229
	LinkNFLOG     = 239
	LinkSLL2      = 276
)

// A Packet is what a capture has of one frame. It is borrowed: the printer keeps none of it.
type Packet struct {
	// Seconds and Nanoseconds since 1970. In a damaged file the latter may be a second and more.
	Seconds, Nanoseconds int64
	// Data is what was captured, from the link-level header on; Len how many bytes were on the wire.
	Data []byte
	Len  int
	// LinkType says what Data begins with; one of the Link constants.
	LinkType uint16
	// Interface is the name of the interface that LINUX_SLL2 frames show; if it is empty, it is asked for by index.
	Interface string
	// Suffix is put at the end of the text's last line, before any dump.
	Suffix []byte
	// Detail are lines, without the last newline, that follow the text before any dump.
	Detail []byte
}

// A Printer turns packets into text. It remembers what tcpdump remembers: the sequence numbers with which TCP flows
// began, the previous time stamp, the number of packets. It is not safe for concurrent use.
type Printer struct {
	opt Options

	out     []byte // what is printed so far, after the caller's own
	proto   string // whose header is read: what stands in [|proto]
	linkLen int    // length of the link-level header, which -x, -X and -A skip

	count int
	then  stamp // of the packet that -ttt and -ttttt reckon from
	flows flows

	ikeCache ikeCache
	nfsCache nfsCache
}

// New gives a printer that has seen nothing.
func New(o Options) *Printer {
	if o.Location == nil {
		o.Location = time.Local
	}
	return &Printer{opt: o}
}

// Append appends pkt's lines to dst and returns the extended slice.
func (p *Printer) Append(dst []byte, pkt *Packet) []byte {
	p.out, p.proto, p.linkLen = dst, "", 0
	p.count++
	if p.opt.Number {
		p.printf("%5d  ", p.count)
	}
	if p.header(pkt) {
		p.timeStamp(stamp{pkt.Seconds, pkt.Nanoseconds})
		p.packet(pkt)
		p.tail(pkt)
		p.dump(pkt.Data)
	} else {
		p.tail(pkt)
	}
	p.char('\n')
	dst, p.out = p.out, nil
	return dst
}

// header looks at the capture's own header, and prints what is wrong with it.
func (p *Printer) header(pkt *Packet) bool {
	sep := "[Invalid header:"
	bad := func(format string, args ...any) {
		p.str(sep)
		p.printf(format, args...)
		sep = ","
	}
	if len(pkt.Data) == 0 {
		bad(" caplen==0")
	}
	if pkt.Len == 0 {
		bad(" len==0")
	} else if pkt.Len < len(pkt.Data) {
		bad(" len(%d) < caplen(%d)", pkt.Len, len(pkt.Data))
	}
	if len(pkt.Data) > maxSnap {
		bad(" caplen(%d) > %d", len(pkt.Data), maxSnap)
	}
	if pkt.Len > maxSnap {
		bad(" len(%d) > %d", pkt.Len, maxSnap)
	}
	if sep == "," {
		p.char(']')
	}
	return sep != ","
}

// maxSnap is tcpdump's MAXIMUM_SNAPLEN.
const maxSnap = 262144

// packet prints the text of pkt. A printer that reads beyond what was captured ends it here.
func (p *Printer) packet(pkt *Packet) {
	defer func() {
		switch r := recover(); r {
		case nil:
		case errCut:
			p.trunc()
		default:
			panic(r)
		}
	}()
	p.link(pkt)
}

// tail prints what the caller adds to the text.
func (p *Printer) tail(pkt *Packet) {
	p.out = append(p.out, pkt.Suffix...)
	if len(pkt.Detail) > 0 {
		p.char('\n')
		p.out = append(p.out, pkt.Detail...)
	}
}
