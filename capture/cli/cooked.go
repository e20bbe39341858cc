package cli

import (
	"encoding/binary"

	"proxyarpd/capture"
	"proxyarpd/capture/pcapfile"
)

// What packets of several interfaces have in common is the header that Linux
// cooked captures have (https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL2.html):
// so tcpdump shows -i any.
const (
	sll2Len     = 20
	ethernetLen = 14
	tagLen      = 4 // of an 802.1Q or 802.1ad tag
	hatypeEther = 1
	hatypeNone  = 0xfffe
	unknownType = 0xff // no packet type: it is shown as "?"
)

// length8023 is the protocol of a frame that has its length where others have
// their type (net/ethernet/eth.c, eth_type_trans): ETH_P_802_3 if it is one of
// Novell's without LLC, else ETH_P_802_2.
func length8023(payload []byte) uint16 {
	if len(payload) >= 2 && payload[0] == 0xff && payload[1] == 0xff {
		return 0x0001
	}
	return 0x0004
}

// cook gives p the header of a Linux cooked capture, in a buffer of its own. VLAN
// tags go with the Ethernet header as they do in the kernel: of what is received
// the outer one, for which libpcap has no place in this header, and of what is
// sent all, since a cooked packet begins with the network header.
func cook(p *pcapfile.Packet, buf []byte) (*pcapfile.Packet, []byte) {
	var h [sll2Len]byte
	payload := p.Data
	removed := 0
	hatype := uint16(hatypeNone)
	switch p.LinkType {
	case pcapfile.LinkTypeEthernet:
		if len(payload) < ethernetLen {
			return p, buf
		}
		hatype, removed = hatypeEther, ethernetLen
		outgoing := p.Flags.Direction() == pcapfile.Outbound
		for tagged(payload[removed-2:]) && (outgoing || removed == ethernetLen) {
			removed += tagLen
		}
		copy(h[0:2], payload[removed-2:])
		if binary.BigEndian.Uint16(h[0:]) < etherLeast {
			binary.BigEndian.PutUint16(h[0:], length8023(payload[removed:]))
		}
		h[11] = 6
		copy(h[12:], payload[6:12])
	case pcapfile.LinkTypeRaw, pcapfile.LinkTypeIPv4, pcapfile.LinkTypeIPv6:
		proto := uint16(0x0800)
		if len(payload) > 0 && payload[0]>>4 == 6 {
			proto = 0x86dd
		}
		binary.BigEndian.PutUint16(h[0:], proto)
	default: // has no such header to give, or one already
		return p, buf
	}
	if p.Interface != nil {
		binary.BigEndian.PutUint32(h[4:], uint32(capture.ParseIfindex(p.Interface.Description)))
	}
	binary.BigEndian.PutUint16(h[8:], hatype)
	h[10] = p.Flags.PacketType()
	if p.Flags.Direction() == pcapfile.DirectionUnknown {
		h[10] = unknownType
	}
	buf = append(append(buf[:0], h[:]...), payload[removed:]...)
	if i := p.Interface; i != nil && i.SnapLen > 0 && uint64(len(buf)) > uint64(i.SnapLen) {
		buf = buf[:i.SnapLen] // is that of the packet with this header, as with tcpdump -i any
	}
	c := *p
	c.Data, c.Len, c.LinkType = buf, p.Len-uint32(removed)+sll2Len, pcapfile.LinkTypeLinuxSLL2
	return &c, buf
}

// tagged tells whether b begins with a VLAN tag, as the kernel knows them, and a type.
func tagged(b []byte) bool {
	if len(b) < tagLen+2 {
		return false
	}
	tpid := binary.BigEndian.Uint16(b)
	return tpid == 0x8100 || tpid == 0x88a8
}
