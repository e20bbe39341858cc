package wire

import (
	"encoding/binary"
	"net/netip"
)

// ARPOp is the operation of an ARP packet (RFC 826, ar$op).
type ARPOp uint16

// The operations of RFC 826. Others exist (RARP, InARP); nothing here speaks them.
const (
	ARPRequest ARPOp = 1
	ARPReply   ARPOp = 2
)

// Hardware types (ar$hrd). The kernel takes both on an Ethernet device
// (net/ipv4/arp.c, arp_process: "IEEE 802 devices ... will accept ARP hardware
// types of either 1 (Ethernet) or 6 (IEEE 802.2)") and sends the first.
const (
	ARPHardwareEthernet uint16 = 1
	ARPHardwareIEEE802  uint16 = 6
)

const (
	// ARPFixedLen is the part whose layout does not depend on address lengths.
	ARPFixedLen = 8
	// ARPLen is an ARP packet with 6-byte hardware and 4-byte protocol addresses.
	ARPLen = ARPFixedLen + 2*6 + 2*4
)

// ARP is an ARP packet (RFC 826) for IPv4 over Ethernet, without the Ethernet
// header; padding may follow it.
//
// Valid only checks the length. The addresses stand where the accessors look
// only if IsIPv4OverEthernet holds.
type ARP []byte

// Valid reports whether ARPLen bytes are there.
func (a ARP) Valid() bool { return len(a) >= ARPLen }

// HardwareType is ar$hrd.
func (a ARP) HardwareType() uint16 { return binary.BigEndian.Uint16(a[0:2]) }

// ProtocolType is ar$pro, an EtherType.
func (a ARP) ProtocolType() EtherType { return EtherType(binary.BigEndian.Uint16(a[2:4])) }

// HardwareLen is ar$hln.
func (a ARP) HardwareLen() uint8 { return a[4] }

// ProtocolLen is ar$pln.
func (a ARP) ProtocolLen() uint8 { return a[5] }

// Op is ar$op.
func (a ARP) Op() ARPOp { return ARPOp(binary.BigEndian.Uint16(a[6:8])) }

// SenderMAC is ar$sha.
func (a ARP) SenderMAC() MAC { return MAC(a[8:14]) }

// SenderIP is ar$spa.
func (a ARP) SenderIP() netip.Addr { return netip.AddrFrom4([4]byte(a[14:18])) }

// TargetMAC is ar$tha; nobody may rely on it in a request.
func (a ARP) TargetMAC() MAC { return MAC(a[18:24]) }

// TargetIP is ar$tpa.
func (a ARP) TargetIP() netip.Addr { return netip.AddrFrom4([4]byte(a[24:28])) }

// SenderHardwareAddr and TargetHardwareAddr are ar$sha and ar$tha as slices of the
// packet, for whoever wants no copy.
func (a ARP) SenderHardwareAddr() []byte { return a[8:14:14] }

// TargetHardwareAddr is as SenderHardwareAddr.
func (a ARP) TargetHardwareAddr() []byte { return a[18:24:24] }

// IsIPv4OverEthernet reports whether the four fields that say what the
// addresses are have the values the kernel demands on an Ethernet device. It
// needs ARPFixedLen bytes only, so that a wrong length field is told apart from
// a frame that was cut.
func (a ARP) IsIPv4OverEthernet() bool {
	if len(a) < ARPFixedLen {
		return false
	}
	hrd := a.HardwareType()
	return (hrd == ARPHardwareEthernet || hrd == ARPHardwareIEEE802) &&
		a.ProtocolType() == EtherTypeIPv4 && a.HardwareLen() == 6 && a.ProtocolLen() == 4
}

// PutARP writes an ARP packet for IPv4 over Ethernet at b[:ARPLen], with hardware
// type Ethernet. Both protocol addresses must be IPv4 addresses.
func PutARP(b []byte, op ARPOp, sha MAC, spa netip.Addr, tha MAC, tpa netip.Addr) {
	_ = b[ARPLen-1]
	binary.BigEndian.PutUint16(b[0:2], ARPHardwareEthernet)
	binary.BigEndian.PutUint16(b[2:4], uint16(EtherTypeIPv4))
	b[4], b[5] = 6, 4
	binary.BigEndian.PutUint16(b[6:8], uint16(op))
	sender, target := spa.As4(), tpa.As4()
	copy(b[8:14], sha[:])
	copy(b[14:18], sender[:])
	copy(b[18:24], tha[:])
	copy(b[24:28], target[:])
}
