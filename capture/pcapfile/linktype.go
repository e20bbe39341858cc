package pcapfile

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// LinkType is a LINKTYPE_ value (https://www.tcpdump.org/linktypes.html): the
// link-layer header that packets begin with.
type LinkType uint16

// The link types that something here speaks of.
const (
	LinkTypeNull      LinkType = 0
	LinkTypeEthernet  LinkType = 1
	LinkTypePPP       LinkType = 9
	LinkTypeRaw       LinkType = 101 // IPv4 or IPv6
	LinkTypeLoop      LinkType = 108
	LinkTypeLinuxSLL  LinkType = 113
	LinkTypeIPv4      LinkType = 228
	LinkTypeIPv6      LinkType = 229
	LinkTypeNFLOG     LinkType = 239
	LinkTypeLinuxSLL2 LinkType = 276

	linkTypeDBus    LinkType = 231
	linkTypeUSBPcap LinkType = 249
	linkTypeEBHSCR  LinkType = 279
)

// Where a pcap file's link type has what it says of frame check sequences, and
// the range of types that libpcap 1.10.3 takes whether it knows them or not.
const (
	fcsShift     = 26
	firstMatched = 104
	lastMatched  = 289
)

// sameLinkTypes are the numbers that Linux has for some types, and that stand in
// some files.
var sameLinkTypes = map[uint16]LinkType{11: 100, 12: LinkTypeRaw, 15: 102, 16: 103, 19: 106}

func linkTypeOf(n uint16) LinkType {
	if t, ok := sameLinkTypes[n]; ok {
		return t
	}
	return LinkType(n)
}

// maxSnapLen is the most bytes of a packet that the Reader accepts, libpcap's
// limits: the frames of some buses are longer than those of networks.
func (t LinkType) maxSnapLen() uint32 {
	switch t {
	case linkTypeDBus:
		return 128 << 20
	case linkTypeEBHSCR:
		return 8 << 20
	case linkTypeUSBPcap:
		return 1 << 20
	}
	return MaxSnapLen
}

// adjustSnapLen returns the snapshot length that a file means.
func (t LinkType) adjustSnapLen(n uint32) uint32 {
	if n == 0 || n > math.MaxInt32 {
		return t.maxSnapLen()
	}
	return n
}

// String returns what tcpdump prints behind "link-type": name and description,
// or the number of a type without a name.
func (t LinkType) String() string {
	if n, ok := linkTypeNames[t]; ok {
		return n
	}
	return strconv.Itoa(int(t))
}

// Name is the type's name alone, as it goes with tcpdump's -y.
func (t LinkType) Name() string {
	name, _, _ := strings.Cut(t.String(), " ")
	return name
}

// LinkTypeNamed returns the type of a name, in whichever case.
func LinkTypeNamed(name string) (LinkType, bool) {
	for t := range linkTypeNames {
		if strings.EqualFold(t.Name(), name) {
			return t, true
		}
	}
	return 0, false
}

// Check returns an error, libpcap's, for a type that it refuses to read.
func (t LinkType) Check() error {
	if _, named := linkTypeNames[t]; named || t >= firstMatched && t <= lastMatched {
		return nil
	}
	return unknownLinkType(uint32(t))
}

func unknownLinkType(n uint32) error {
	return fmt.Errorf("unknown data link type %d (min %d, max %d)", n, firstMatched, lastMatched)
}
