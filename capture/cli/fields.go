package cli

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"

	"proxyarpd/capture/pcapfile"
)

// The headers of a packet as fields of JSON: as far as they were captured, and
// no further than the transport of the outermost IP header.

// EtherTypes, IP protocols and header lengths that are looked at.
const (
	etherIPv4  = 0x0800
	etherARP   = 0x0806
	etherVLAN  = 0x8100
	etherRARP  = 0x8035
	etherQinQ  = 0x88a8
	etherIPv6  = 0x86dd
	etherLeast = 0x0600 // a smaller one is the length of an 802.3 frame

	vlanLen    = 4
	ipv4Len    = 20
	ipv6Len    = 40
	arpLen     = 28
	tcpLen     = 20
	udpLen     = 8
	sctpLen    = 12
	sllLen     = 16
	maxHeaders = 16 // of VLAN, and of IPv6 extensions

	protoHopByHop = 0
	protoICMP     = 1
	protoTCP      = 6
	protoUDP      = 17
	protoRouting  = 43
	protoFragment = 44
	protoAH       = 51
	protoICMPv6   = 58
	protoDestOpts = 60
	protoSCTP     = 132
)

// protocolNames are those of the IP protocols, in the words of tcpdump's filters
// where they have one.
var protocolNames = map[uint8]string{protoICMP: "icmp", 2: "igmp", 4: "ipip", protoTCP: "tcp", protoUDP: "udp", 41: "ipv6", 47: "gre", 50: "esp",
	protoAH: "ah", protoICMPv6: "icmp6", 88: "eigrp", 89: "ospf", 103: "pim", 112: "vrrp", protoSCTP: "sctp"}

var (
	tcpFlagNames = []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"}
	ipFlagNames  = []string{"MF", "DF"} // from bit 13 of the offset's field on
)

// packet writes what the headers say.
func (o *object) packet(p *pcapfile.Packet) {
	b := p.Data
	switch p.LinkType {
	case pcapfile.LinkTypeEthernet:
		o.ethernet(b)
	case pcapfile.LinkTypeLinuxSLL2:
		if len(b) >= sll2Len {
			o.payload(binary.BigEndian.Uint16(b), b[sll2Len:])
		}
	case pcapfile.LinkTypeLinuxSLL:
		if len(b) >= sllLen {
			o.payload(binary.BigEndian.Uint16(b[14:]), b[sllLen:])
		}
	case pcapfile.LinkTypeRaw, pcapfile.LinkTypeIPv4, pcapfile.LinkTypeIPv6:
		if len(b) > 0 && b[0]>>4 == 6 {
			o.payload(etherIPv6, b)
		} else if len(b) > 0 {
			o.payload(etherIPv4, b)
		}
	}
}

func (o *object) ethernet(b []byte) {
	if len(b) < ethernetLen {
		return
	}
	o.str("src_mac", net.HardwareAddr(b[6:12]).String())
	o.str("dst_mac", net.HardwareAddr(b[:6]).String())
	o.payload(binary.BigEndian.Uint16(b[12:]), b[ethernetLen:])
}

// payload writes the headers behind a link-layer header that names typ.
func (o *object) payload(typ uint16, b []byte) {
	if typ == etherVLAN || typ == etherQinQ {
		o.key("vlan")
		o.b = append(o.b, '[')
		for range maxHeaders {
			if typ != etherVLAN && typ != etherQinQ || len(b) < vlanLen {
				break
			}
			tci := binary.BigEndian.Uint16(b)
			o.open()
			o.num("id", uint64(tci&0xfff))
			o.num("priority", uint64(tci>>13))
			o.close()
			typ, b = binary.BigEndian.Uint16(b[2:]), b[vlanLen:]
		}
		o.b = append(o.b, ']')
	}
	if typ >= etherLeast {
		o.num("ethertype", uint64(typ))
	}
	switch typ {
	case etherIPv4:
		o.ipv4(b)
	case etherIPv6:
		o.ipv6(b)
	case etherARP, etherRARP:
		o.arp(typ, b)
	default:
		if typ < etherLeast {
			o.str("protocol", "llc")
		}
	}
}

// arp writes ARP over Ethernet for IPv4 (RFC 826).
func (o *object) arp(typ uint16, b []byte) {
	name := "arp"
	if typ == etherRARP {
		name = "rarp"
	}
	o.str("protocol", name)
	if len(b) < arpLen || binary.BigEndian.Uint64(b)>>16 != 0x0001_0800_0604 {
		return
	}
	o.num("arp_operation", uint64(binary.BigEndian.Uint16(b[6:])))
	o.str("arp_sender_mac", net.HardwareAddr(b[8:14]).String())
	o.str("src", netip.AddrFrom4([4]byte(b[14:18])).String())
	o.str("arp_target_mac", net.HardwareAddr(b[18:24]).String())
	o.str("dst", netip.AddrFrom4([4]byte(b[24:28])).String())
}

func (o *object) protocol(n uint8) {
	name, known := protocolNames[n]
	if !known {
		name = "ip-" + strconv.Itoa(int(n))
	}
	o.str("protocol", name)
	o.num("ip_protocol", uint64(n))
}

func (o *object) ipv4(b []byte) {
	if len(b) < ipv4Len || b[0]>>4 != 4 {
		return
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	frag := binary.BigEndian.Uint16(b[6:])
	o.num("ip_version", 4)
	o.str("src", netip.AddrFrom4([4]byte(b[12:16])).String())
	o.str("dst", netip.AddrFrom4([4]byte(b[16:20])).String())
	o.protocol(b[9])
	o.num("ttl", uint64(b[8]))
	o.num("tos", uint64(b[1]))
	o.num("ip_length", uint64(total))
	o.num("ip_id", uint64(binary.BigEndian.Uint16(b[4:])))
	o.words("ip_flags", uint(frag>>13), ipFlagNames)
	o.num("fragment_offset", uint64(frag&0x1fff)*8)
	if frag&0x1fff != 0 || header < ipv4Len || len(b) < header {
		return
	}
	o.transport(b[9], b[header:], total-header)
}

// ipv6 walks the extension headers (RFC 8200, section 4).
func (o *object) ipv6(b []byte) {
	if len(b) < ipv6Len || b[0]>>4 != 6 {
		return
	}
	left := int(binary.BigEndian.Uint16(b[4:])) // bytes that the header says follow
	o.num("ip_version", 6)
	o.str("src", netip.AddrFrom16([16]byte(b[8:24])).String())
	o.str("dst", netip.AddrFrom16([16]byte(b[24:40])).String())
	ttl, class, length := b[7], binary.BigEndian.Uint16(b)>>4&0xff, left+ipv6Len
	next, offset, b := b[6], 0, b[ipv6Len:]
	fragment := false
walk:
	for range maxHeaders {
		size := 0
		switch next {
		case protoHopByHop, protoRouting, protoDestOpts:
			if len(b) >= 2 {
				size = 8 + 8*int(b[1])
			}
		case protoAH:
			if len(b) >= 2 {
				size = 8 + 4*int(b[1])
			}
		case protoFragment:
			if len(b) >= 8 {
				size, fragment = 8, true
				offset = int(binary.BigEndian.Uint16(b[2:])) &^ 7
			}
		}
		if size == 0 || len(b) < size {
			break walk
		}
		next, b, left = b[0], b[size:], left-size
		if offset > 0 {
			break
		}
	}
	o.protocol(next)
	o.num("ttl", uint64(ttl))
	o.num("tos", uint64(class))
	o.num("ip_length", uint64(length))
	if fragment {
		o.num("fragment_offset", uint64(offset))
	}
	if offset == 0 {
		o.transport(next, b, left)
	}
}

// transport writes the header of an IP protocol; length is what the IP header
// says there is.
func (o *object) transport(proto uint8, b []byte, length int) {
	switch {
	case proto == protoTCP && len(b) >= tcpLen:
		o.ports(b)
		o.words("tcp_flags", uint(b[13]), tcpFlagNames)
		o.num("seq", uint64(binary.BigEndian.Uint32(b[4:])))
		o.num("ack", uint64(binary.BigEndian.Uint32(b[8:])))
		o.num("window", uint64(binary.BigEndian.Uint16(b[14:])))
		o.num("payload_length", uint64(max(length-int(b[12]>>4)*4, 0)))
	case proto == protoUDP && len(b) >= udpLen:
		o.ports(b)
		o.num("payload_length", uint64(max(int(binary.BigEndian.Uint16(b[4:]))-udpLen, 0)))
	case proto == protoSCTP && len(b) >= sctpLen:
		o.ports(b)
		o.num("payload_length", uint64(max(length-sctpLen, 0)))
	case proto == protoICMP && len(b) >= 8:
		o.icmp(b, b[0] == 0 || b[0] == 8)
	case proto == protoICMPv6 && len(b) >= 8:
		o.icmp(b, b[0] == 128 || b[0] == 129)
	}
}

func (o *object) ports(b []byte) {
	o.num("src_port", uint64(binary.BigEndian.Uint16(b)))
	o.num("dst_port", uint64(binary.BigEndian.Uint16(b[2:])))
}

func (o *object) icmp(b []byte, echo bool) {
	o.num("icmp_type", uint64(b[0]))
	o.num("icmp_code", uint64(b[1]))
	if echo {
		o.num("icmp_id", uint64(binary.BigEndian.Uint16(b[4:])))
		o.num("icmp_seq", uint64(binary.BigEndian.Uint16(b[6:])))
	}
}
