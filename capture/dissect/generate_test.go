package dissect_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"proxyarpd/capture/dissect"
	"proxyarpd/internal/nstest"
)

// A generator makes payloads that hold together more or less: what random changes of real packets seldom make.
type generator struct {
	name  string
	proto uint8  // of IP
	port  uint16 // of UDP or TCP
	six   bool   // over IPv6 only
	ether uint16 // an Ethernet type, without IP
	link  uint16 // a link type, with nothing before the payload
	brief bool   // printed in one line only, also with -v
	make  func(r *rand.Rand) []byte
	back  func(b []byte) bool // which payloads go from server to client; nil is none
}

// generators are the protocols that are not in the captures in many forms.
var generators = []generator{
	{name: "dns", proto: 17, port: 53, make: makeDNS},
	{name: "dns over tcp", proto: 6, port: 53, make: makeDNSOverTCP},
	{name: "mdns", proto: 17, port: 5353, make: makeDNS},
	{name: "bgp", proto: 6, port: 179, make: makeBGP},
	{name: "telnet", proto: 6, port: 23, make: makeTelnet},
	{name: "beep", proto: 6, port: 10288, make: makeBEEP},
	{name: "rpki", brief: true, proto: 6, port: 323, make: makeBytes(0, 30)},
	{name: "ldp", brief: true, proto: 6, port: 646, make: makeBytes(0, 30)},
	{name: "msdp", proto: 6, port: 639, make: makeMSDP},
	{name: "icmp6", proto: 58, six: true, make: makeICMP6},
	{name: "neighbour discovery", proto: 58, six: true, make: makeDiscovery},
	{name: "mobility", proto: 135, six: true, make: makeMobility},
	{name: "ah", proto: 51, make: makeAH},
	{name: "esp", proto: 50, make: makeBytes(8, 30)},
	{name: "ipcomp", proto: 108, make: makeBytes(0, 12)},
	{name: "snmp", proto: 17, port: 161, make: makeSNMP},
	{name: "tftp", proto: 17, port: 69, make: makeTFTP},
	{name: "bootp", proto: 17, port: 67, make: makeBOOTP},
	{name: "dhcp6", proto: 17, port: 547, make: makeDHCP6},
	{name: "ntp", proto: 17, port: 123, make: makeNTP},
	{name: "syslog", proto: 17, port: 514, make: makeSyslog},
	{name: "radius", brief: true, proto: 17, port: 1812, make: makeRADIUS},
	{name: "bfd", proto: 17, port: 3784, make: makeBFD},
	{name: "rip", proto: 17, port: 520, make: makeRIP},
	{name: "ripng", proto: 17, port: 521, make: makeRIPng},
	{name: "ike", brief: true, proto: 17, port: 500, make: makeIKE},
	{name: "nat-t", brief: true, proto: 17, port: 4500, make: makeNATT},
	{name: "vrrp", proto: 112, make: makeVRRP},
	{name: "sctp", proto: 132, make: makeSCTP},
	{name: "ptp", proto: 17, port: 319, make: makePTP},
	{name: "l2tp", proto: 17, port: 1701, make: makeL2TP},
	{name: "timed", brief: true, proto: 17, port: 525, make: makeTimed},
	{name: "vat", proto: 17, port: 3456, make: makeBytes(0, 20)},
	{name: "ahcp", brief: true, proto: 17, port: 5359, make: makeAHCP},
	{name: "babel", brief: true, proto: 17, port: 6696, make: makeBabel},
	{name: "rx", brief: true, proto: 17, port: 7005, make: makeRX},
	{name: "ppp control", proto: 17, port: 1701, make: makePPPControl},
	{name: "nsh", proto: 17, port: 4790, make: makeNSH},
	{name: "nfs", proto: 17, port: 2049, make: makeNFS, back: func(b []byte) bool { return b[7] == 1 }},
	{name: "nfs over tcp", proto: 6, port: 2049, make: makeNFSOverTCP, back: func(b []byte) bool { return b[11] == 1 }},
	{name: "sflow", brief: true, proto: 17, port: 6343, make: makeSFlow},
	{name: "openflow", brief: true, proto: 6, port: 6653, make: makeOpenFlow},
	{name: "pptp", proto: 6, port: 1723, make: makePPTP},
	{name: "aodv", proto: 17, port: 654, make: makeAODV},
	{name: "hncp", brief: true, proto: 17, port: 8231, make: makeHNCP},
	{name: "lisp", brief: true, proto: 17, port: 4342, make: makeLISP},
	{name: "arp", ether: 0x0806, make: makeARP},
	{name: "ip options", ether: 0x0800, make: makeIPOptions},
	{name: "mstp", ether: 118, make: makeMSTP},
	{name: "llc", ether: 60, make: makeLLC},
	{name: "ipx", ether: 0x8137, make: makeIPX},
	{name: "appletalk", ether: 0x809b, make: makeAppleTalk},
	{name: "aarp", ether: 0x80f3, make: makeAARP},
	{name: "osi", brief: true, ether: 0xfefe, make: makeOSI},
	{name: "geonet", ether: 0x8947, make: makeGeoNet},
	{name: "calm", ether: 0x1111, make: makeBytes(0, 20)},
	{name: "mpcp", brief: true, ether: 0x8808, make: makeBytes(2, 20)},
	{name: "cfm", brief: true, ether: 0x8902, make: makeCFM},
	{name: "rrcp", ether: 0x8899, make: makeRRCP},
	{name: "tipc", brief: true, ether: 0x88ca, make: makeTIPC},
	{name: "macsec", ether: 0x88e5, make: makeMACsec},
	{name: "arista", ether: 0xd28b, make: makeArista},
	{name: "ppp link", link: dissect.LinkPPP, make: makePPPLink},
	{name: "ppp serial link", link: dissect.LinkPPPSerial, make: makePPPLink},
	{name: "ppp of pppd", link: dissect.LinkPPPPppd, make: makePPPLink},
	{name: "pppoe link", link: dissect.LinkPPPEther, make: makePPPoE},
	{name: "nflog", link: dissect.LinkNFLOG, make: makeNFLOG},
	{name: "null", brief: true, link: dissect.LinkNull, make: makeNull},
	{name: "loop", brief: true, link: dissect.LinkLoop, make: makeNull},
	{name: "raw IPv4", link: dissect.LinkIPv4, make: makeIPOptions},
	{name: "cooked", link: dissect.LinkSLL2, make: makeCooked2},
	{name: "cooked v1", link: dissect.LinkSLL, make: makeCooked},
}

func init() {
	for _, proto := range []uint8{8, 9, 33, 46, 55, 77, 88, 89, 103, 113, 143, 50, 4, 41, 47} {
		generators = append(generators, generator{name: fmt.Sprint("ip-proto-", proto), brief: true, proto: proto, make: makeBytes(0, 60)})
	}
	for _, port := range []uint16{
		88, 496, 646, 698, 701, 750, 1589, 1985, 2049, 3503, 4790, 6635, 8472, 12222, 12223, 30490, 49152,
	} {
		generators = append(generators, generator{name: fmt.Sprint("udp port ", port), brief: true, proto: 17, port: port, make: makeBytes(0, 60)})
	}
}

func be16(v int) []byte    { return binary.BigEndian.AppendUint16(nil, uint16(v)) }
func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

func join(parts ...[]byte) (all []byte) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func someBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// oneOf picks an item.
func oneOf[T any](r *rand.Rand, items ...T) T { return items[r.IntN(len(items))] }

func makeBytes(least, most int) func(*rand.Rand) []byte {
	return func(r *rand.Rand) []byte { return someBytes(r, least+r.IntN(most-least+1)) }
}

// sum is the Internet checksum.
func sum(parts ...[]byte) uint16 {
	s := uint32(0)
	for _, b := range parts {
		for i, c := range b {
			s += uint32(c) << (8 * (1 - i%2))
		}
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

// packet wraps a payload in the headers that lead to its printer.
func (g *generator) packet(r *rand.Rand) dissect.Packet {
	b := g.make(r)
	switch {
	case g.link != 0 || g.name == "null":
		return dissect.Packet{Data: b, Len: len(b), LinkType: g.link}
	case g.ether != 0:
		b = join([]byte{0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0x0a, 0x58, 0x0a, 0xe9, 0x40, 0x05}, be16(int(g.ether)), b)
		return dissect.Packet{Data: b, Len: len(b), LinkType: dissect.LinkEthernet}
	}
	six := g.six || r.IntN(3) == 0
	src, dst := []byte{10, 233, 64, 5}, []byte{10, 96, 0, 10}
	if six {
		src = []byte{0xfe, 0x80, 15: 5}
		dst = oneOf(r, []byte{0xff, 0x02, 15: 1}, []byte{0xfd, 0, 1, 12: 10, 13: 1, 14: 0, 15: 9}, []byte{12: 1, 13: 2, 14: 3, 15: 4})
	}
	sport, dport := be16(40000), be16(int(g.port))
	if g.proto == 17 && g.back == nil {
		sport = be16(oneOf(r, int(g.port), 40000))
	}
	if g.back != nil && g.back(b) {
		src, dst, sport, dport = dst, src, dport, sport
	}
	switch g.proto {
	case 17:
		b = join(sport, dport, be16(8+len(b)), be16(0), b)
	case 6:
		b = join(sport, dport, be32(r.Uint32()), be32(r.Uint32()), []byte{0x50, 0x18}, be16(512), be16(0), be16(0), b)
	}
	checksumAt := map[uint8]int{17: 6, 6: 16, 58: 2}[g.proto]
	if checksumAt > 0 && len(b) >= checksumAt+2 && r.IntN(4) > 0 {
		binary.BigEndian.PutUint16(b[checksumAt:], 0)
		c := sum(src, dst, be32(uint32(len(b))), be32(uint32(g.proto)), b)
		binary.BigEndian.PutUint16(b[checksumAt:], c)
	}
	var ip []byte
	if six {
		next, ext := g.proto, []byte(nil)
		for range r.IntN(6) / 4 {
			next, ext = makeExtension(r, next, ext)
		}
		b = append(ext, b...)
		size := len(b)
		if r.IntN(20) == 0 {
			size = 0
		}
		ip = join([]byte{0x60, 0, 0, 0}, be16(size), []byte{next, oneOf[byte](r, 64, 255, 1)}, src, dst)
	} else {
		ip = join([]byte{0x45, 0}, be16(20+len(b)), be16(7), be16(0), []byte{oneOf[byte](r, 64, 255), g.proto}, be16(0), src, dst)
		binary.BigEndian.PutUint16(ip[10:], sum(ip))
	}
	kind := 0x0800
	if six {
		kind = 0x86dd
	}
	frame := join([]byte{0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0x0a, 0x58, 0x0a, 0xe9, 0x40, 0x05}, be16(kind), ip, b)
	return dissect.Packet{Data: frame, Len: len(frame), LinkType: dissect.LinkEthernet}
}

// makeExtension puts a header of IPv6 before rest.
func makeExtension(r *rand.Rand, next uint8, rest []byte) (uint8, []byte) {
	kind := oneOf[uint8](r, 0, 60, 43, 44, 0, 60, 43)
	var body []byte
	switch kind {
	case 44:
		body = join([]byte{0}, be16(oneOf(r, 0, 1, 8, 0xfff8)), be32(r.Uint32()))
	case 43:
		n := r.IntN(3)
		body = join([]byte{byte(2 * n), oneOf[byte](r, 0, 2, 4, 4, 1), byte(n), 0, oneOf[byte](r, 0, 7), 0, oneOf[byte](r, 0, 3)}, someBytes(r, 16*n))
	default:
		for range r.IntN(4) {
			body = join(body, oneOf(r,
				[]byte{0}, []byte{1, 2, 0, 0}, []byte{1, 0}, []byte{5, 2, 0, 0}, join([]byte{0xc2, 4}, be32(r.Uint32()>>10)),
				join([]byte{0xc9, 16}, someBytes(r, 16)), join([]byte{0xc9, 20}, someBytes(r, 16), []byte{1, 0, 0, 0}),
				[]byte{0x3e, 1, 9}, []byte{5, 3, 0, 0, 0}))
		}
		for len(body)%8 != 6 {
			body = append(body, 0)
		}
		body = append([]byte{byte(len(body) / 8)}, body...)
	}
	return kind, join([]byte{next}, body, rest)
}

// makeName is a name of DNS, perhaps with a pointer to the first question's.
func makeName(r *rand.Rand) (b []byte) {
	for range r.IntN(4) {
		label := oneOf(r, "www", "example", "a", "\x00\xffx", "kube-dns")
		b = append(append(b, byte(len(label))), label...)
	}
	switch r.IntN(12) {
	case 0, 1, 2, 3:
		return append(b, 0xc0, byte(oneOf(r, 12, 12, 12, 16, 40, 0)))
	case 4:
		return append(b, oneOf[byte](r, 0x80, 0x41, 0x42), byte(r.IntN(20)), 1, 2, 0)
	case 5:
		for range r.IntN(6) {
			b = append(append(b, 63), someBytes(r, 63)...)
		}
	}
	return append(b, 0)
}

func makeRecord(r *rand.Rand) []byte {
	kind := oneOf(r, 1, 2, 5, 6, 12, 15, 16, 28, 33, 38, 39, 41, 41, 41, 43, 46, 47, 48, 50, 64, 65, 104, 250, 256, 257, 99, r.IntN(300))
	var data []byte
	switch kind {
	case 1:
		data = someBytes(r, oneOf(r, 4, 4, 4, 3, 8))
	case 28:
		data = someBytes(r, oneOf(r, 16, 16, 16, 15))
	case 2, 5, 12, 39:
		data = makeName(r)
	case 6:
		data = join(makeName(r), makeName(r), someBytes(r, 20))
	case 15:
		data = join(be16(10), makeName(r))
	case 16:
		for range r.IntN(3) {
			data = join(data, []byte{4}, someBytes(r, 4))
		}
	case 33:
		data = join(someBytes(r, 6), makeName(r))
	case 38:
		n := oneOf(r, 0, 64, 128, 130, 3)
		data = join([]byte{byte(n)}, someBytes(r, max(0, 16-n/8)), makeName(r))
	case 41:
		for range r.IntN(4) {
			v := someBytes(r, oneOf(r, 0, 1, 2, 4, 8, 16, 24))
			o := oneOf(r, 1, 3, 5, 6, 7, 8, 8, 8, 9, 10, 10, 11, 12, 13, 14, 15, 16)
			switch o {
			case 8:
				v = join(be16(oneOf(r, 1, 2, 3)), []byte{24, 0}, someBytes(r, oneOf(r, 3, 4)))
			case 5, 6, 7:
				for i := range v {
					v[i] &= 15
				}
			}
			data = join(data, be16(o), be16(len(v)), v)
		}
	case 250:
		data = join(makeName(r), someBytes(r, 8), be16(4), someBytes(r, 10))
	default:
		data = someBytes(r, r.IntN(20))
	}
	n := len(data)
	if r.IntN(20) == 0 {
		n = r.IntN(60)
	}
	return join(makeName(r), be16(kind), be16(oneOf(r, 1, 1, 1, 0x8001, 3, 255, 4096)), be32(oneOf(r, 0, 300, 0x8000, r.Uint32())), be16(n), data)
}

func makeDNS(r *rand.Rand) []byte {
	counts := [4]int{oneOf(r, 1, 1, 1, 0, 2), oneOf(r, 0, 1, 2, 3), oneOf(r, 0, 0, 1), oneOf(r, 0, 1, 2)}
	b := join(be16(r.IntN(65536)), be16(oneOf(r, 0x0100, 0x8180, 0x8580, 0x8583, 0x0120, 0x8400, r.IntN(65536))))
	for _, n := range counts {
		b = join(b, be16(n))
	}
	if r.IntN(30) == 0 {
		b[4+r.IntN(8)]++
	}
	for range counts[0] {
		b = join(b, makeName(r), be16(oneOf(r, 1, 28, 12, 255, 65, 251)), be16(oneOf(r, 1, 1, 1, 0x8001, 255, 3)))
	}
	for range counts[1] + counts[2] + counts[3] {
		b = join(b, makeRecord(r))
	}
	return b
}

func makeDNSOverTCP(r *rand.Rand) []byte {
	b := makeDNS(r)
	return join(be16(len(b)+oneOf(r, 0, 0, 0, 0, 1)), b)
}

func makeTelnet(r *rand.Rand) (b []byte) {
	for range 1 + r.IntN(4) {
		b = join(b, oneOf(r,
			[]byte{255, oneOf[byte](r, 251, 252, 253, 254), byte(r.IntN(45))}, []byte{255, byte(230 + r.IntN(26))},
			[]byte{255, 250, 24, 0, 'v', 't', 255, 240}, []byte{255, 250, 37, 1, 2, 0, 255, 240},
			[]byte{255, 250, 38, byte(r.IntN(12)), byte(r.IntN(12)), 255, 240}, []byte{255, 250, 24, 1, 255, 240}, []byte("text")))
	}
	return b
}

func makeBEEP(r *rand.Rand) []byte {
	return []byte(oneOf(r, "MSG 1", "MSG\x001", "RPY 1", "ERR 2", "ANS 3", "NUL 4", "SEQ 5", "END\r\n", "END\x00", "EN", "text"))
}

func makeMSDP(r *rand.Rand) (b []byte) {
	for range 1 + r.IntN(3) {
		v := someBytes(r, oneOf(r, 0, 1, 5, 20))
		b = join(b, []byte{byte(r.IntN(9))}, be16(3+len(v)), v)
	}
	return b
}

func makePrefixes(r *rand.Rand, size int, path bool) (b []byte) {
	for range r.IntN(4) {
		bits := oneOf(r, 0, 8, 20, 24, 26, 32, 8*size, r.IntN(8*size+3))
		if path {
			b = join(b, be32(uint32(r.IntN(9))))
		}
		b = join(b, []byte{byte(bits)}, someBytes(r, min((bits+7)/8, 16)))
	}
	return b
}

func makeAttribute(r *rand.Rand) []byte {
	kind := oneOf(r, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 14, 15, 15, 16, 16, 17, 18, 32, 40, 99)
	v := someBytes(r, oneOf(r, 0, 1, 4, 4, 6, 8, 12, 24))
	switch kind {
	case 1:
		v = []byte{byte(r.IntN(4))}
	case 2, 17:
		v = nil
		for size := oneOf(r, 2, 4); r.IntN(3) > 0; {
			n := r.IntN(4)
			v = join(v, []byte{byte(1 + r.IntN(5)), byte(n)}, someBytes(r, n*size))
		}
	case 3, 4, 5, 9:
		v = someBytes(r, oneOf(r, 4, 4, 4, 4, 3))
	case 8:
		v = join(v, oneOf(r, be32(0xffffff01), be32(0xffffff02), be32(64512<<16|100)))
	case 14, 15:
		af := oneOf(r, 1, 2, 2, 2, 25)
		size := 4 + 12*(af-1)%24
		v = join(be16(af), []byte{oneOf[byte](r, 1, 1, 1, 2, 70)})
		if kind == 14 {
			v = join(v, []byte{byte(size)}, someBytes(r, size), []byte{oneOf[byte](r, 0, 0, 0, 1)})
		}
		v = join(v, makePrefixes(r, min(size, 16), r.IntN(4) == 0))
	case 16:
		v = nil
		for range 1 + r.IntN(2) {
			v = join(v, be16(oneOf(r, 2, 0x102, 0x202, 3, 0x4004, 5, 0x306, 0x30c, 9, 0x10b, 10, r.IntN(65536))), someBytes(r, 6))
		}
	}
	flags := oneOf[byte](r, 0x40, 0x40, 0xc0, 0x80, 0, 0x41)
	if r.IntN(6) == 0 {
		return join([]byte{flags | 0x10, byte(kind)}, be16(len(v)), v)
	}
	return join([]byte{flags, byte(kind), byte(len(v))}, v)
}

func makeBGP(r *rand.Rand) (b []byte) {
	for range 1 + r.IntN(3) {
		kind := oneOf(r, 1, 2, 2, 2, 2, 3, 4, 5, 6)
		var body []byte
		switch kind {
		case 1:
			var caps []byte
			for range r.IntN(5) {
				v := someBytes(r, oneOf(r, 0, 2, 4, 4, 6, 8))
				caps = join(caps, []byte{byte(oneOf(r, 1, 1, 2, 6, 8, 64, 65, 69, 70, 71, 128)), byte(len(v))}, v)
			}
			body = join([]byte{4}, be16(64512), be16(240), someBytes(r, 4), []byte{byte(len(caps) + 2), oneOf[byte](r, 2, 2, 2, 1), byte(len(caps))}, caps)
		case 2:
			gone := makePrefixes(r, 4, r.IntN(4) == 0)
			var attrs []byte
			for range r.IntN(4) {
				attrs = join(attrs, makeAttribute(r))
			}
			body = join(be16(len(gone)), gone, be16(len(attrs)), attrs, makePrefixes(r, 4, r.IntN(4) == 0))
		case 3:
			body = join([]byte{byte(r.IntN(8)), byte(r.IntN(9))}, oneOf(r, nil, []byte{0}, []byte("\x04text"), []byte("\x04textmore"), []byte("\x09text"), someBytes(r, 8)))
		case 5:
			body = join(be16(1), []byte{0, 1})
		case 6:
			body = someBytes(r, 5)
		}
		b = join(b, bytes.Repeat([]byte{0xff}, 16), be16(19+len(body)), []byte{byte(kind)}, body)
	}
	return b
}

func makeICMP6(r *rand.Rand) []byte {
	kind := oneOf(r, 1, 1, 1, 1, 2, 3, 4, 128, 129, 130, 130, 131, 132, 138, 139, 140, 143, 144, 145, 146, 147, 155, 155, 200, 201, r.IntN(256))
	code := oneOf(r, 0, 0, 0, 1, 2, 3, 4, 4, 5, r.IntN(256))
	body := someBytes(r, oneOf(r, 0, 4, 8, 16, 20, 24, 40, r.IntN(80)))
	switch kind {
	case 1, 2, 3, 4:
		next, ext := oneOf[uint8](r, 6, 17, 17, 58, 51), []byte(nil)
		for range r.IntN(3) {
			next, ext = makeExtension(r, next, ext)
		}
		body = join(be32(r.Uint32()), []byte{0x60, 0, 0, 0}, be16(40), []byte{next, 64}, someBytes(r, 32), ext, someBytes(r, r.IntN(20)))
	case 143:
		n := r.IntN(4)
		body = join(be16(0), be16(n))
		for range n {
			sources := r.IntN(3)
			body = join(body, []byte{byte(r.IntN(8)), 0}, be16(sources), someBytes(r, 16+16*sources))
		}
	case 130:
		n := r.IntN(3)
		body = join(be16(r.IntN(65536)), be16(0), someBytes(r, 16), someBytes(r, 2), be16(n), someBytes(r, 16*n))
		body = body[:oneOf(r, len(body), 20, 22)]
	case 139, 140:
		names := oneOf(r, join(makeName(r)), []byte("\x03abc"), someBytes(r, 16), someBytes(r, 4), join(someBytes(r, 4), makeName(r)), nil)
		body = join(be16(r.IntN(5)), be16(r.IntN(128)), someBytes(r, 8), names)
	case 138:
		n := r.IntN(3)
		body = join(someBytes(r, 8), be32(0), []byte{byte(1 + r.IntN(4)), byte(3 + 4*n), 0, 64, 1, 2, 0, 0}, someBytes(r, 16+32*n))
	}
	return join([]byte{byte(kind), byte(code)}, be16(0), body)
}

func makeDiscovery(r *rand.Rand) []byte {
	kind := 133 + r.IntN(5)
	size := map[int]int{133: 8, 134: 16, 135: 24, 136: 24, 137: 40}[kind]
	b := join([]byte{byte(kind), 0}, be16(0), someBytes(r, size-4))
	for range r.IntN(4) {
		o := oneOf(r, 1, 2, 3, 4, 5, 7, 8, 24, 25, 31, 31, r.IntN(40))
		n := oneOf(r, 1, 1, 2, 3, 4, 5)
		v := someBytes(r, 8*n-2)
		if o == 31 && n > 1 {
			copy(v[6:], makeName(r))
		}
		b = join(b, []byte{byte(o), byte(n)}, v)
	}
	return b
}

func makeMobility(r *rand.Rand) []byte {
	kind := r.IntN(10)
	n := oneOf(r, 0, 1, 2, 2, 3, 4)
	b := join([]byte{59, byte(n), byte(kind), 0}, be16(0), someBytes(r, 8*n+2))
	if len(b) > 20 {
		copy(b[12:], oneOf(r, []byte{1, 2, 0, 0, 0}, []byte{2, 2, 0, 9}, []byte{4, 4, 0, 1, 0, 2}, []byte{5, 12}, []byte{7, 1, 1}))
	}
	return b
}

func makeAH(r *rand.Rand) []byte {
	n := r.IntN(4)
	return join([]byte{oneOf[byte](r, 50, 59, 17, 112), byte(1 + n)}, be16(oneOf(r, 0, 0, 3)), someBytes(r, 8+4*n), makeBytes(0, 20)(r))
}

// ber is an element of BER.
func ber(tag byte, parts ...[]byte) []byte {
	v := join(parts...)
	if len(v) < 128 {
		return join([]byte{tag, byte(len(v))}, v)
	}
	return join([]byte{tag, 0x82}, be16(len(v)), v)
}

func makeSNMP(r *rand.Rand) []byte {
	integer := func() []byte {
		return ber(2, oneOf(r, []byte{0}, []byte{byte(r.IntN(20))}, someBytes(r, 1+r.IntN(4))))
	}
	oid := func() []byte {
		return ber(6, []byte{0x2b, 6, 1, 2, 1}, someBytes(r, r.IntN(5)), []byte{byte(r.IntN(127))})
	}
	value := func() []byte {
		return oneOf(r, ber(5), integer(), oid(), ber(4, []byte("text")), ber(4, someBytes(r, 5)), ber(0x40, someBytes(r, 4)),
			ber(0x41, someBytes(r, 3)), ber(0x43, someBytes(r, 4)), ber(0x46, someBytes(r, 8)), ber(0x80), ber(0x81), ber(0x82),
			ber(0x30, someBytes(r, 3)), ber(byte(r.IntN(256)), someBytes(r, 2)))
	}
	var bindings []byte
	for range r.IntN(4) {
		bindings = join(bindings, ber(0x30, oid(), value()))
	}
	kind := byte(r.IntN(9))
	var pdu []byte
	if kind == 4 {
		pdu = ber(0xa4, oid(), ber(0x40, someBytes(r, 4)), ber(2, []byte{byte(r.IntN(8))}), integer(), ber(0x43, someBytes(r, 3)), ber(0x30, bindings))
	} else {
		pdu = ber(0xa0|kind, integer(), integer(), integer(), ber(0x30, bindings))
	}
	version := oneOf[byte](r, 0, 1, 1, 3, 3, 2)
	if version == 3 {
		user := ber(4, ber(0x30, ber(4, someBytes(r, 5)), integer(), integer(), ber(4, []byte("user")), ber(4), ber(4, oneOf(r, nil, someBytes(r, 8)))))
		return ber(0x30, ber(2, []byte{3}), ber(0x30, integer(), integer(), ber(4, []byte{byte(r.IntN(9))}), ber(2, []byte{3})),
			user, ber(0x30, ber(4, someBytes(r, 5)), ber(4, []byte("ctx")), pdu))
	}
	return ber(0x30, ber(2, []byte{version}), ber(4, []byte(oneOf(r, "public", "private", "p\x01"))), pdu)
}

func makeTFTP(r *rand.Rand) []byte {
	op := 1 + r.IntN(7)
	body := oneOf(r, []byte("file\x00octet\x00"), []byte("a\x01\xff\x00netascii\x00tsize\x000\x00"), be16(r.IntN(9)), join(be16(r.IntN(9)), []byte("no such\x00")))
	return join(be16(op), body)
}

func makeBOOTP(r *rand.Rand) []byte {
	b := join([]byte{byte(1 + r.IntN(2)), 1, 6, oneOf[byte](r, 0, 1)}, someBytes(r, 4), be16(oneOf(r, 0, 3)), be16(oneOf(r, 0, 0x8000)), make([]byte, 228))
	for _, i := range []int{12, 16, 20, 24} {
		if r.IntN(2) == 0 {
			copy(b[i:], someBytes(r, 4))
		}
	}
	copy(b[28:], someBytes(r, 6))
	if len(b) < 236 {
		b = append(b, make([]byte, 236-len(b))...)
	}
	b = b[:236]
	if r.IntN(6) == 0 {
		copy(b[44:], "server")
	}
	if r.IntN(6) == 0 {
		copy(b[108:], "boot/file")
	}
	b = append(b, 0x63, 0x82, 0x53, 0x63)
	for range r.IntN(6) {
		o := oneOf(r, 53, 53, 55, 1, 3, 6, 12, 15, 28, 42, 50, 51, 54, 57, 58, 59, 60, 61, 61, 77, 81, 82, 116, 119, 121, 121, 125, 0, r.IntN(256))
		v := someBytes(r, oneOf(r, 1, 2, 4, 4, 8, 9, r.IntN(12)))
		switch o {
		case 0, 255:
			b = append(b, byte(o))
			continue
		case 53:
			v = []byte{byte(r.IntN(16))}
		case 82:
			v = join([]byte{1, 3}, []byte("abc"), []byte{2, 2}, someBytes(r, 2), []byte{5, 4}, someBytes(r, 4))
		case 121:
			v = join([]byte{24, 10, 1, 2}, someBytes(r, 4), []byte{0}, someBytes(r, 4))
		case 119:
			v = []byte("\x03www\x07example\x00\x01a\xc0\x04")
		case 81:
			v = join([]byte{byte(r.IntN(16)), 0, 0}, []byte("host.x"))
		}
		b = join(b, []byte{byte(o), byte(len(v))}, v)
	}
	if r.IntN(4) > 0 {
		b = append(b, 255)
	}
	return append(b, make([]byte, r.IntN(3))...)
}

func makeDHCP6(r *rand.Rand) []byte {
	b := join([]byte{byte(1 + r.IntN(16))}, someBytes(r, 3))
	if b[0] == 12 || b[0] == 13 {
		b = join(b[:2], someBytes(r, 32))
	}
	return join(b, makeDHCP6Options(r, 2))
}

func makeDHCP6Options(r *rand.Rand, depth int) (b []byte) {
	for range r.IntN(4) {
		o := oneOf(r, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 16, 18, 19, 20, 23, 24, 25, 26, 27, 31, 32, 37, 39, 59, r.IntN(150))
		v := someBytes(r, oneOf(r, 0, 1, 2, 4, 16, r.IntN(30)))
		switch o {
		case 1, 2:
			v = oneOf(r, join(be16(1), be16(1), someBytes(r, 10)), join(be16(3), be16(1), someBytes(r, 6)), join(be16(2), someBytes(r, 9)), v)
		case 3, 25:
			v = someBytes(r, 12)
			if depth > 0 {
				v = join(v, makeDHCP6Options(r, depth-1))
			}
		case 5:
			v = someBytes(r, 24)
		case 26:
			v = someBytes(r, 25)
		case 13:
			v = join(be16(r.IntN(7)), []byte("text"))
		}
		b = join(b, be16(o), be16(len(v)), v)
	}
	return b
}

func makeNTP(r *rand.Rand) []byte {
	b := join([]byte{byte(r.IntN(256)), byte(r.IntN(18)), byte(r.IntN(256)), byte(r.IntN(256))}, someBytes(r, oneOf(r, 44, 44, 48, 64, 68, r.IntN(80))))
	if r.IntN(4) == 0 && len(b) >= 48 {
		copy(b[24:], b[32:40])
		b[31] ^= byte(r.IntN(2))
	}
	if b[0]&7 == 6 && len(b) > 12 {
		copy(b[10:], be16(oneOf(r, 0, 4)))
	}
	return b
}

func makeSyslog(r *rand.Rand) []byte {
	return []byte(oneOf(r, "<13>Nov 1 host prog: text\x01\xff", "<191>x", "<999>x", "<1000>x", "<>x", "<x", "text", "<13"))
}

func makeRADIUS(r *rand.Rand) []byte {
	b := join([]byte{byte(r.IntN(50)), byte(r.IntN(256))}, be16(20), someBytes(r, 16))
	for range r.IntN(4) {
		v := someBytes(r, r.IntN(10))
		b = join(b, []byte{byte(r.IntN(120)), byte(len(v) + 2)}, v)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)+oneOf(r, 0, 0, 0, 4, -20)))
	return b
}

func makeBFD(r *rand.Rand) []byte {
	b := join([]byte{oneOf[byte](r, 0x20, 0x20, 0x21, 0, 0x60), byte(r.IntN(256)), 3, 24}, someBytes(r, 20))
	return join(b, oneOf(r, nil, join([]byte{1, 7, 1}, []byte("pass")), join([]byte{2, 24, 1, 0}, someBytes(r, 20)), join([]byte{4, 28, 1, 0}, someBytes(r, 24))))
}

func makeRIP(r *rand.Rand) []byte {
	b := join([]byte{byte(1 + r.IntN(7)), byte(r.IntN(4)), 0, 0})
	for range r.IntN(4) {
		b = join(b, oneOf(r,
			join(be16(2), be16(0), someBytes(r, 4), be32(0), be32(0), be32(3)),
			join(be16(2), be16(7), someBytes(r, 4), be32(0xffffff00), someBytes(r, 4), be32(3)),
			join(be16(0), be16(0), be32(0), be32(0), be32(0), be32(16)),
			join(be16(0xffff), be16(1+r.IntN(4)), []byte("secret"), make([]byte, 10)),
			join(be16(r.IntN(32)), someBytes(r, 18))))
	}
	return append(b, make([]byte, oneOf(r, 0, 0, 0, 3))...)
}

func makeRIPng(r *rand.Rand) []byte {
	b := []byte{byte(1 + r.IntN(3)), oneOf[byte](r, 1, 1, 1, 1, 2), 0, 0}
	for range r.IntN(3) {
		b = join(b, oneOf(r, join(someBytes(r, 16), be16(oneOf(r, 0, 5)), []byte{64, 1}), join(make([]byte, 19), []byte{16})))
	}
	return append(b, make([]byte, oneOf(r, 0, 0, 0, 3))...)
}

func makeIKE(r *rand.Rand) []byte {
	cookie := be32(uint32(r.IntN(30)))
	responder := oneOf(r, make([]byte, 8), someBytes(r, 8))
	return join(cookie, cookie, responder, []byte{byte(r.IntN(50)), oneOf[byte](r, 0x10, 0x20, 0x20, 0x30), byte(r.IntN(40)), oneOf[byte](r, 0, 1, 8, 0x20, byte(r.IntN(256)))},
		oneOf(r, be32(0), someBytes(r, 4)), be32(28), makeBytes(0, 12)(r))
}

func makeNATT(r *rand.Rand) []byte {
	return oneOf(r, []byte{0xff}, join(be32(0), makeIKE(r)), makeBytes(1, 30)(r))
}

func makeVRRP(r *rand.Rand) []byte {
	n := r.IntN(3)
	b := join([]byte{oneOf[byte](r, 0x21, 0x31, 0x31, 0x22, 0x41), 1, 100, byte(n), byte(r.IntN(4)), 1}, be16(0), someBytes(r, oneOf(r, 4, 16)*n), []byte("password"))
	if r.IntN(2) == 0 {
		binary.BigEndian.PutUint16(b[6:], sum(b))
	}
	return b
}

func makeSCTP(r *rand.Rand) []byte {
	b := join(be16(oneOf(r, 36412, 36412, 36412, 9)), be16(36412), someBytes(r, 8))
	for range 1 + r.IntN(3) {
		kind := oneOf(r, 0, 0, 1, 2, 3, 3, 4, 5, 6, 7, 10, 11, 14, 0xc0, r.IntN(256))
		v := someBytes(r, oneOf(r, 0, 4, 8, 12, 13, 16, 20, 21))
		if kind == 3 && len(v) >= 12 {
			copy(v[8:], []byte{0, byte(r.IntN(3)), 0, byte(r.IntN(3))})
		}
		if kind == 0 && len(v) >= 12 {
			copy(v[8:], be32(uint32(24+r.IntN(6))))
		}
		b = join(b, []byte{byte(kind), byte(r.IntN(8))}, be16(len(v)+4), v, make([]byte, -len(v)&3))
	}
	return b
}

func makePTP(r *rand.Rand) []byte {
	return join([]byte{byte(r.IntN(32)), oneOf[byte](r, 2, 2, 2, 2, 1, 0x12)}, be16(44), someBytes(r, oneOf(r, 8, 30, 40, 50, 62)))
}

func makeL2TP(r *rand.Rand) []byte {
	flags := oneOf(r, 0xc802, 0xc802, 0xc802, 2, 0x4002, 0x0202, 0x0902, 1, r.IntN(65536))
	var body []byte
	for range r.IntN(4) {
		v := someBytes(r, oneOf(r, 0, 2, 2, 4, 4, 5, 8, 10, 16, 26))
		if len(v) == 2 || len(v) == 4 {
			v[len(v)-2], v[len(v)-1] = 0, byte(r.IntN(16))
		}
		body = join(body, be16(len(v)+6|oneOf(r, 0x8000, 0x8000, 0, 0x4000)), be16(oneOf(r, 0, 0, 0, 0, 9)), be16(r.IntN(48)), v)
	}
	if flags&0x8000 == 0 {
		body = oneOf(r, join([]byte{0xff, 3, 0, 0x21, 0x45, 0}, be16(20), someBytes(r, 16)), join([]byte{0x21}, someBytes(r, 9)), someBytes(r, 6))
	}
	b := be16(flags)
	if flags&0x4000 != 0 {
		b = join(b, be16(0))
	}
	b = join(b, someBytes(r, 4))
	if flags&0x0800 != 0 {
		b = join(b, someBytes(r, 4))
	}
	if flags&0x0200 != 0 {
		b = join(b, be16(2), be16(0))
	}
	b = join(b, body)
	if flags&0x4000 != 0 {
		copy(b[2:], be16(len(b)+oneOf(r, 0, 0, 0, 0, 3, -3)))
	}
	return b
}

func makeTimed(r *rand.Rand) []byte {
	return join([]byte{byte(r.IntN(28)), 1}, be16(7), oneOf(r, someBytes(r, 8), join(be32(uint32(r.IntN(9))), be32(uint32(r.IntN(1000000))))), oneOf(r, []byte("host\x00"), make([]byte, 256), []byte("host")))
}

func makeAHCP(r *rand.Rand) []byte {
	n := r.IntN(6)
	return join([]byte{oneOf[byte](r, 43, 43, 43, 42), oneOf[byte](r, 1, 1, 1, 0)}, someBytes(r, oneOf(r, 22, 22, 10)), []byte{1, 0}, be16(n+oneOf(r, 0, 0, 1)), someBytes(r, n))
}

func makeBabel(r *rand.Rand) []byte {
	var body []byte
	for range r.IntN(4) {
		v := someBytes(r, 10+r.IntN(8))
		body = join(body, oneOf(r, []byte{0}, join([]byte{byte(1 + r.IntN(20)), byte(len(v))}, v)))
	}
	return join([]byte{oneOf[byte](r, 42, 42, 42, 41), oneOf[byte](r, 2, 2, 2, 3)}, be16(len(body)+oneOf(r, 0, 0, 1, -1)), body, oneOf(r, nil, []byte{16, 2, 1, 2}))
}

func makeRX(r *rand.Rand) []byte {
	acks := make([]byte, r.IntN(8))
	for i := range acks {
		acks[i] = byte(r.IntN(3))
	}
	return join(someBytes(r, 12), be32(2), be32(1), []byte{oneOf[byte](r, 2, 2, 2, 3, 5, 20), byte(r.IntN(256))}, someBytes(r, 6), someBytes(r, 16), []byte{byte(r.IntN(12)), byte(len(acks))}, acks)
}

// makePPPControl makes packets of the control protocols of PPP, in L2TP.
func makePPPControl(r *rand.Rand) []byte {
	proto := oneOf(r, 0xc021, 0xc021, 0x8021, 0x8057, 0x80fd, 0xc02b, 0x8281, 0xc223, 0xc023, 0x3d, 0xc02d)
	code := oneOf[byte](r, 1, 1, 1, 2, 3, 4, byte(r.IntN(18)))
	var body []byte
	for range r.IntN(4) {
		v := someBytes(r, oneOf(r, 0, 1, 2, 2, 4, 4, 4, 5, 7, 8, 12, 20))
		body = join(body, []byte{oneOf(r, byte(r.IntN(33)), 1, 2, 3, 129, 255), byte(len(v) + oneOf(r, 2, 2, 2, 2, 2, 2, 3, 0))}, v)
		if proto == 0x8021 && r.IntN(3) == 0 {
			body = join(body, []byte{2, byte(14 + 4), 0, 0x61}, someBytes(r, 10), []byte{1, 2, 2, oneOf[byte](r, 2, 3, 0)})
		}
		if proto == 0xc021 && r.IntN(3) == 0 {
			body = join(body, oneOf(r, join([]byte{3, 5}, be16(0xc223), []byte{5}), join([]byte{3, 4}, be16(0xc023)),
				[]byte{19, 9, 3, 2, 0, 0, 0, 0, 1}, []byte{19, 7, 2, 10, 0, 0, 1}, []byte{4, 4, 0xc0, 0x25}))
		}
	}
	if proto == 0xc223 || proto == 0xc023 {
		code = oneOf[byte](r, 1, 1, 2, 3, 4, 5)
		name := oneOf(r, "peer", "a\x80b\x01", "")
		body = join([]byte{byte(len(name))}, []byte(name), []byte{6}, []byte("secret"))
	}
	b := join([]byte{code, byte(r.IntN(256))}, be16(4+len(body)+oneOf(r, 0, 0, 0, 0, 0, 0, 1, -1, -5)), body, oneOf(r, nil, nil, []byte{0, 0}))
	return join(be16(2), someBytes(r, 4), oneOf(r, nil, be16(0xff03)), be16(proto), b)
}

// makeNSH makes network service headers in VXLAN-GPE.
func makeNSH(r *rand.Rand) []byte {
	metadata, context := r.IntN(4), someBytes(r, 4*oneOf(r, 4, 4, 0, 2))
	if metadata == 2 {
		context = nil
		for range r.IntN(3) {
			n := oneOf(r, 0, 4, 8, 8)
			context = join(context, be16(r.IntN(1000)), []byte{byte(r.IntN(9)), byte(n + oneOf(r, 0, 0, 0, -1, 1)&0x7f)}, someBytes(r, n))
		}
	}
	words := 2 + len(context)/4 + oneOf(r, 0, 0, 0, 0, 0, 0, 1, -1, 30)
	next := oneOf[uint32](r, 1, 1, 2, 3, 4, 0xfe, 9)
	base := be32(r.Uint32()&0x2fc00000 | uint32(words&0x3f)<<16 | uint32(metadata)<<8 | next)
	base[0] |= oneOf[byte](r, 0, 0, 0, 0, 0, 0, 0x40)
	return join([]byte{0x0c, 0, 0, 4, 1, 2, 3, 0}, base, someBytes(r, 4), context, []byte{0x45, 0, 0, 20}, someBytes(r, 20))
}

// makeNFS makes calls of NFS and answers to them, some of version 4, which tcpdump takes for version 2.
func makeNFS(r *rand.Rand) []byte {
	padded := func(b []byte) []byte {
		return join(be32(uint32(len(b)+oneOf(r, 0, 0, 0, 0, 0, 0, 0, 1))), b, make([]byte, (4-len(b)%4)%4))
	}
	small := func() []byte { return be32(uint32(oneOf(r, 0, 1, 1, 2, 3, 5, 7, 63, r.IntN(70)))) }
	handle := func() []byte {
		fh := make([]byte, oneOf(r, 32, 32, 28, 16, 24, 12, 64, 0))
		for i := range fh {
			fh[i] = oneOf[byte](r, 0, 0, 0, 1, 2, 8, 10, 12, 'a', 0xff)
		}
		if len(fh) >= 16 {
			switch r.IntN(6) {
			case 0:
				copy(fh, "\x01\x00\x07\x01")
			case 1:
				copy(fh, "\x00\x00\x00\x00")
			case 2:
				copy(fh[8:], "\x0c\x00")
			case 3:
				copy(fh[4:], "\x00\x00\x00\x02\x00\x0a")
			case 4:
				copy(fh, "\x05DISK 1\x00\x00\x00\x00\x00\x00\x00")
			}
		}
		return fh
	}
	body := func() (b []byte) {
		for range r.IntN(8) {
			b = join(b, oneOf(r, func() []byte { return padded(handle()) }, handle, small, small, small,
				func() []byte { return be32(r.Uint32()) },
				func() []byte { return padded([]byte(oneOf(r, "file", "a b", "n\x80\x01e", ""))) },
				func() []byte { return join(small(), someBytes(r, oneOf(r, 24, 68, 80, 84))) })())
		}
		return b
	}
	xid, proc := be32(uint32(r.IntN(12))), be32(uint32(r.IntN(27)))
	if r.IntN(2) == 0 {
		credentials := join(be32(1), padded(someBytes(r, r.IntN(12))), be32(0), padded(someBytes(r, r.IntN(5)/4)))
		args := join(padded(handle()), body())
		if r.IntN(3) == 0 {
			args = join(handle(), body())
		}
		return join(xid, be32(0), be32(2), be32(100003), be32(oneOf[uint32](r, 3, 3, 3, 2, 4)), proc, credentials, args)
	}
	if r.IntN(10) == 0 {
		return join(xid, be32(1), be32(oneOf[uint32](r, 1, 1, 1, 2)), small(), small(), small())
	}
	return join(xid, be32(1), be32(0), be32(0), padded(someBytes(r, r.IntN(5)/4)), be32(oneOf[uint32](r, 0, 0, 0, 0, 0, 0, 0, 2, 9)),
		oneOf(r, be32(0), be32(0), be32(0), small(), be32(10004)), body())
}

func makeNFSOverTCP(r *rand.Rand) []byte {
	b := makeNFS(r)
	return join(be32(uint32(len(b)+oneOf(r, 0, 0, 0, 4, -4))|oneOf[uint32](r, 1<<31, 1<<31, 0)), b)
}

func makeSFlow(r *rand.Rand) []byte {
	return join(be32(oneOf[uint32](r, 5, 5, 5, 4)), be32(oneOf[uint32](r, 1, 1, 2, 3)), makeBytes(0, 60)(r))
}

var generated = flag.Int("generated", 200, "packets of each protocol to make for the installed tcpdump")

// TestGenerated compares with the installed tcpdump on packets of protocols that were made up, half of them damaged.
func TestGenerated(t *testing.T) {
	nstest.NeedTcpdump(t)
	for _, a := range []struct {
		args string
		o    dissect.Options
	}{
		{"-nn -e", dissect.Options{Numeric: 2, Link: true}},
		{"-nn -v", dissect.Options{Numeric: 2, Verbose: 1}},
		{"-nn -e -vv", dissect.Options{Numeric: 2, Link: true, Verbose: 2}},
		{"-nn -vvv", dissect.Options{Numeric: 2, Verbose: 3}},
		{"-nn -e -q", dissect.Options{Numeric: 2, Link: true, Quiet: 1}},
	} {
		a.o.TimeStamp = 2
		var sets []made
		for i, g := range generators {
			if !g.brief || a.o.Verbose == 0 {
				sets = append(sets, made{g.name, g.packets(uint64(i), *generated)})
			}
		}
		same, all := 0, 0
		for i, s := range sameAsTcpdump(t, a.args, a.o, sets...) {
			same, all = same+s, all+*generated
			if s < *generated {
				t.Logf("%s %s: %d of %d", sets[i].name, a.args, s, *generated)
			}
		}
		share := float64(same) / float64(all)
		t.Logf("%s: %d of %d packets, %.2f %%", a.args, same, all, 100*share)
		if share < 0.99 {
			t.Errorf("%s: %.2f %% of packets are as tcpdump prints them; want 99 %%", a.args, 100*share)
		}
	}
}

// TestPrintable prints made-up packets with names, which no comparison does: a name is what some resolver says.
func TestPrintable(t *testing.T) {
	o := dissect.Options{
		Verbose: 3, HostName: func([]byte) string { return "h\x1b\xffst.example" },
		PortName: func(string, uint16) string { return "p\x07rt" },
	}
	for i, g := range generators {
		p := dissect.New(o)
		for _, pkt := range g.packets(uint64(i), *generated) {
			for _, c := range p.Append(nil, &pkt) {
				if c != '\n' && c != '\t' && (c < ' ' || c > '~') {
					t.Fatalf("%s: byte %#x is printed of %x", g.name, c, pkt.Data)
				}
			}
		}
	}
}

// TestMade makes, with -update, a capture of a few packets of each protocol that is printed as a whole, and its texts.
// TestGolden compares them.
func TestMade(t *testing.T) {
	if !*update {
		nstest.Excused(t, nstest.NotAsked, "writes testdata/made.* with -update")
	}
	nstest.NeedTcpdump(t)
	var all []dissect.Packet
	for i, g := range generators {
		if !g.brief {
			all = append(all, g.packets(uint64(i), 16)...)
		}
	}
	file := filepath.Join("testdata", "made.pcap")
	writeCapture(t, file, all)
	for _, x := range textsOf("made.pcap") {
		writeText(t, file, strings.TrimSuffix(file, "pcap")+x.name+".txt", x.args)
	}
}

// packets makes n packets, of which every other is changed or cut.
func (g *generator) packets(stream uint64, n int) []dissect.Packet {
	r := rand.New(rand.NewPCG(*seed, stream))
	all := make([]dissect.Packet, n)
	for i := range all {
		if all[i] = g.packet(r); i%2 == 1 {
			all[i] = mutate(r, all[i])
		}
	}
	return all
}

// made are packets of one generator.
type made struct {
	name    string
	packets []dissect.Packet
}

// sameAsTcpdump counts, of each set, the packets that tcpdump prints with args as the package does with o. Sets of one
// link type are one capture: to start tcpdump takes longer than to have it print some.
func sameAsTcpdump(t *testing.T, args string, o dissect.Options, sets ...made) []int {
	t.Helper()
	same := make([]int, len(sets))
	links := make(map[uint16][]int)
	for i, s := range sets {
		link := s.packets[0].LinkType
		links[link] = append(links[link], i)
	}
	for _, members := range links {
		var all []dissect.Packet
		var of []int // the set of each
		for _, i := range members {
			all = append(all, sets[i].packets...)
			of = append(of, slices.Repeat([]int{i}, len(sets[i].packets))...)
		}
		file := filepath.Join(t.TempDir(), "made.pcap")
		writeCapture(t, file, all)
		text, err := exec.Command("tcpdump", append(strings.Fields(args), "-tt", "-r", file)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		want := packets(text)
		p := dissect.New(o)
		var got []byte
		for i := range all {
			got = p.Append(got, &all[i])
		}
		have := packets(got)
		kinds := make(map[string]int)
		for i := range all {
			n, name := fmt.Sprint(i+1), sets[of[i]].name
			if want[n] == have[n] {
				same[of[i]]++
			} else if k := kind(want[n], have[n]); kinds[name+k] == 0 && kinds[name] < *showLines {
				kinds[name+k]++
				kinds[name]++
				t.Logf("%s %s, packet %s (%d of %d bytes)\n  want %s  got  %s  %x", name, args, n, len(all[i].Data), all[i].Len, want[n], have[n],
					all[i].Data[min(14, len(all[i].Data)):])
			}
		}
	}
	return same
}
