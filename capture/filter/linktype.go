package filter

import "fmt"

// LinkType says what a frame begins with: a LINKTYPE_ value of pcap files, or a DLT_ value where they differ.
type LinkType int

// The link types that [Compile] knows.
const (
	Ethernet  LinkType = 1   // LINKTYPE_ETHERNET
	RawDLT    LinkType = 12  // DLT_RAW on Linux: what pcap_datalink(3) calls LINKTYPE_RAW
	Raw       LinkType = 101 // LINKTYPE_RAW: IPv4 or IPv6 without link layer
	LinuxSLL  LinkType = 113 // LINKTYPE_LINUX_SLL: cooked capture
	LinuxSLL2 LinkType = 276 // LINKTYPE_LINUX_SLL2: cooked capture with the interface index

	ppp LinkType = 9 // what "pppoes" leads to
)

func (l LinkType) String() string {
	switch l {
	case Ethernet:
		return "Ethernet"
	case Raw, RawDLT:
		return "raw IP"
	case LinuxSLL:
		return "Linux cooked v1"
	case LinuxSLL2:
		return "Linux cooked v2"
	case ppp:
		return "PPP"
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
	case RawDLT:
		l.linkType.base = notSet
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
