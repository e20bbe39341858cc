// Package wire gives views on the headers that proxyarpd reads and rewrites.
//
// A header is a named byte slice. Valid checks once that the slice is long
// enough for every accessor; after that no accessor can fail. All multi-byte
// values are returned in host byte order and stored in network byte order.
// A view borrows the caller's bytes: it copies nothing and keeps nothing.
package wire

import (
	"encoding/binary"
	"fmt"
)

// MAC is an EUI-48 address (IEEE 802).
type MAC [6]byte

// Broadcast is the Ethernet broadcast address.
var Broadcast = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// ParseMAC reads the form aa:bb:cc:dd:ee:ff, the only one that iproute2 prints.
func ParseMAC(s string) (MAC, error) {
	var m MAC
	if len(s) != 17 {
		return m, fmt.Errorf("%q is not a MAC address of the form aa:bb:cc:dd:ee:ff", s)
	}
	for i := range m {
		hi, ok1 := unhex(s[3*i])
		lo, ok2 := unhex(s[3*i+1])
		if !ok1 || !ok2 || (i < 5 && s[3*i+2] != ':') {
			return MAC{}, fmt.Errorf("%q is not a MAC address of the form aa:bb:cc:dd:ee:ff", s)
		}
		m[i] = hi<<4 | lo
	}
	return m, nil
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// String gives the form aa:bb:cc:dd:ee:ff.
func (m MAC) String() string {
	const digits = "0123456789abcdef"
	var b [3*len(m) - 1]byte
	for i, v := range m {
		if i > 0 {
			b[3*i-1] = ':'
		}
		b[3*i], b[3*i+1] = digits[v>>4], digits[v&15]
	}
	return string(b[:])
}

// MarshalText gives String, for JSON and YAML.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText is ParseMAC.
func (m *MAC) UnmarshalText(b []byte) error {
	v, err := ParseMAC(string(b))
	if err == nil {
		*m = v
	}
	return err
}

// IsMulticast reports the group bit (IEEE 802.3 clause 3.2.3); broadcast has it too.
func (m MAC) IsMulticast() bool { return m[0]&1 != 0 }

// IsZero reports 00:00:00:00:00:00, which no station may send from.
func (m MAC) IsZero() bool { return m == MAC{} }

// EtherType names the payload of an Ethernet II frame (IANA "IEEE 802 Numbers").
type EtherType uint16

// The EtherTypes that the datapath tells apart.
const (
	EtherTypeIPv4 EtherType = 0x0800
	EtherTypeARP  EtherType = 0x0806
	EtherTypeVLAN EtherType = 0x8100
	EtherTypeIPv6 EtherType = 0x86dd
)

// EthernetLen is the length of an untagged Ethernet II header in bytes.
const EthernetLen = 14

// Ethernet is an Ethernet II frame from its destination address on, without
// preamble and FCS.
type Ethernet []byte

// Valid reports whether the header is there.
func (e Ethernet) Valid() bool { return len(e) >= EthernetLen }

// Dst is the destination address.
func (e Ethernet) Dst() MAC { return MAC(e[0:6]) }

// Src is the source address.
func (e Ethernet) Src() MAC { return MAC(e[6:12]) }

// Type is the EtherType (or, below 0x600, an IEEE 802.3 length).
func (e Ethernet) Type() EtherType { return EtherType(binary.BigEndian.Uint16(e[12:14])) }

// SetDst stores the destination address.
func (e Ethernet) SetDst(m MAC) { copy(e[0:6], m[:]) }

// SetSrc stores the source address.
func (e Ethernet) SetSrc(m MAC) { copy(e[6:12], m[:]) }

// SetType stores the EtherType.
func (e Ethernet) SetType(t EtherType) { binary.BigEndian.PutUint16(e[12:14], uint16(t)) }

// Payload is what follows the header, padding included.
func (e Ethernet) Payload() []byte { return e[EthernetLen:] }
