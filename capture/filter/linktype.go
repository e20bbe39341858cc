package filter

import "fmt"

// LinkType says what a frame begins with: a LINKTYPE_ value of pcap files, or a DLT_ value where they differ.
type LinkType int

// The link types that [Compile] knows.
const (
	Null      LinkType = 0   // LINKTYPE_NULL of a little-endian host: an address family, then IP
	Ethernet  LinkType = 1   // LINKTYPE_ETHERNET
	PPP       LinkType = 9   // LINKTYPE_PPP: with address and control
	RawDLT    LinkType = 12  // DLT_RAW on Linux: what pcap_datalink(3) calls LINKTYPE_RAW
	PPPSerial LinkType = 50  // LINKTYPE_PPP_HDLC: PPP in HDLC-like framing
	PPPEther  LinkType = 51  // LINKTYPE_PPP_ETHER: sessions of PPPoE
	Raw       LinkType = 101 // LINKTYPE_RAW: IPv4 or IPv6 without link layer
	PPPBSDOS  LinkType = 103 // LINKTYPE_PPP_BSDOS
	Loop      LinkType = 108 // LINKTYPE_LOOP: an address family in network byte order, then IP
	LinuxSLL  LinkType = 113 // LINKTYPE_LINUX_SLL: cooked capture
	PPPPppd   LinkType = 166 // LINKTYPE_PPP_PPPD: PPP, with the direction in place of the address
	IPv4      LinkType = 228 // LINKTYPE_IPV4
	IPv6      LinkType = 229 // LINKTYPE_IPV6
	NFLOG     LinkType = 239 // LINKTYPE_NFLOG: of which nothing but the length can be tested
	LinuxSLL2 LinkType = 276 // LINKTYPE_LINUX_SLL2: cooked capture with the interface index

	NullBig LinkType = -1 // LINKTYPE_NULL of a big-endian host
)

// linkNames are libpcap's descriptions.
var linkNames = map[LinkType]string{
	Null: "BSD loopback", NullBig: "BSD loopback", Loop: "OpenBSD loopback", Ethernet: "Ethernet", Raw: "Raw IP", RawDLT: "Raw IP", IPv4: "Raw IPv4",
	IPv6: "Raw IPv6", LinuxSLL: "Linux cooked v1", LinuxSLL2: "Linux cooked v2", PPP: "PPP", PPPSerial: "PPP over serial", PPPEther: "PPPoE",
	PPPBSDOS: "BSD/OS PPP", PPPPppd: "PPP for pppd, with direction flag", NFLOG: "Linux netfilter log messages",
}

func (l LinkType) String() string {
	if name, ok := linkNames[l]; ok {
		return name
	}
	return fmt.Sprintf("link type %d", int(l))
}

// The offset that a link type without such a field has.
const notSet = ^uint32(0)

// offset is where a header begins: a constant, and what the register reg holds at run time if variable is set.
type offset struct {
	base     uint32
	variable bool
	reg      int
}

const noReg = -1

// layout is where the headers are that the next primitive tests; "vlan" and its like change it.
type layout struct {
	link LinkType

	linkHdr, linkType, linkPayload offset

	nl, nlNoSNAP uint32 // network header, from linkPayload; the second without SNAP

	geneve       bool
	vlanVariable bool // an outer VLAN tag may be in the metadata: linkType and linkPayload vary
	labels       int  // MPLS labels so far
	vlans        int
}

func newLayout(link LinkType) (layout, error) {
	if link == Raw {
		link = RawDLT
	}
	l := layout{link: link}
	for _, o := range []*offset{&l.linkHdr, &l.linkType, &l.linkPayload} {
		o.reg = noReg
	}
	switch link {
	case Ethernet:
		l.linkType.base, l.linkPayload.base, l.nlNoSNAP = 12, 14, 3
	case Null, NullBig, Loop:
		l.linkPayload.base = 4
	case PPP, PPPSerial, PPPPppd:
		l.linkType.base, l.linkPayload.base = 2, 4
	case PPPEther:
		l.linkType.base, l.linkPayload.base = 6, 8
	case PPPBSDOS:
		l.linkType.base, l.linkPayload.base = 5, 24
	case RawDLT, IPv4, IPv6:
		l.linkType.base = notSet
	case NFLOG:
		l.linkType.base, l.linkPayload.base = notSet, notSet
		l.nl, l.nlNoSNAP = notSet, notSet
	case LinuxSLL:
		l.linkType.base, l.linkPayload.base = 14, 16
	case LinuxSLL2:
		l.linkType.base, l.linkPayload.base = 0, 20
	default:
		return layout{}, fmt.Errorf("filter: no filters for %v", link)
	}
	return l, nil
}

// push makes what follows a new link-layer header of type link.
func (l *layout) push(link LinkType, hdr offset) {
	l.link, l.linkHdr = link, hdr
	l.geneve = false
}
