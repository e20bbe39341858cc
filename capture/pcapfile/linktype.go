package pcapfile

import "strconv"

// LinkType is a LINKTYPE_ value (https://www.tcpdump.org/linktypes.html): the
// link-layer header that packets begin with.
type LinkType uint16

// The link types of Ethernet, IP and loopback interfaces.
const (
	LinkTypeNull      LinkType = 0
	LinkTypeEthernet  LinkType = 1
	LinkTypeRaw       LinkType = 101 // IPv4 or IPv6
	LinkTypeLoop      LinkType = 108
	LinkTypeLinuxSLL  LinkType = 113
	LinkTypeIPv4      LinkType = 228
	LinkTypeIPv6      LinkType = 229
	LinkTypeLinuxSLL2 LinkType = 276
)

var linkTypeNames = map[LinkType]string{
	LinkTypeNull:      "NULL (BSD loopback)",
	LinkTypeEthernet:  "EN10MB (Ethernet)",
	LinkTypeRaw:       "RAW (Raw IP)",
	LinkTypeLoop:      "LOOP (OpenBSD loopback)",
	LinkTypeLinuxSLL:  "LINUX_SLL (Linux cooked v1)",
	LinkTypeIPv4:      "IPV4 (Raw IPv4)",
	LinkTypeIPv6:      "IPV6 (Raw IPv6)",
	LinkTypeLinuxSLL2: "LINUX_SLL2 (Linux cooked v2)",
}

// String returns what tcpdump prints behind "link-type": name and description,
// or the number of one that is not named here.
func (t LinkType) String() string {
	if n, ok := linkTypeNames[t]; ok {
		return n
	}
	return strconv.Itoa(int(t))
}
