package daemon

import (
	"golang.org/x/sys/unix"

	"proxyarpd/internal/netstate"
)

type role uint8

const (
	roleNone role = iota
	roleWorkload
	roleUplink
)

func (r role) String() string { return [...]string{"none", "workload", "uplink"}[r] }

const kindVRF = "vrf" // of a link, as IFLA_INFO_KIND has it

// linkLayer is how IPv4 travels on a link.
type linkLayer uint8

const (
	notIP    linkLayer = iota // not at all
	bare                      // without a link-layer header
	ethernet                  // behind an Ethernet header
	foreign                   // behind a header of another kind, which is the kernel's to make
)

const arphrdRawIP = 519 // ARPHRD_RAWIP

// layers are those of the types of devices (include/uapi/linux/if_arp.h, ARPHRD_*)
// that carry IPv4.
var layers = map[uint16]linkLayer{
	unix.ARPHRD_ETHER: ethernet,
	unix.ARPHRD_NONE:  bare, // TUN, WireGuard
	arphrdRawIP:       bare, // modems
	unix.ARPHRD_PPP:   bare,
	unix.ARPHRD_SLIP:  bare, unix.ARPHRD_CSLIP: bare, unix.ARPHRD_SLIP6: bare, unix.ARPHRD_CSLIP6: bare,
	unix.ARPHRD_TUNNEL: bare, unix.ARPHRD_TUNNEL6: bare, unix.ARPHRD_SIT: bare,
	unix.ARPHRD_IPGRE: bare, unix.ARPHRD_IP6GRE: bare,
	unix.ARPHRD_INFINIBAND: foreign, unix.ARPHRD_IEEE1394: foreign, unix.ARPHRD_FDDI: foreign,
	unix.ARPHRD_CISCO: foreign, unix.ARPHRD_RAWHDLC: foreign, unix.ARPHRD_DLCI: foreign, unix.ARPHRD_AX25: foreign,
}

// layerOf is the link layer of a link.
func layerOf(l *netstate.Link) linkLayer {
	layer := layers[l.Type]
	switch {
	case layer == ethernet && l.AddrLen != 6:
		return foreign
	case l.Multipoint && (l.Type == unix.ARPHRD_IPGRE || l.Type == unix.ARPHRD_IP6GRE):
		return foreign // its link-layer header is the outer IP header (net/ipv4/ip_gre.c, ipgre_header)
	}
	return layer
}

// roleOf says what an interface is to us. Ports of a bridge, bond or VRF are
// left alone: their frames are the master's.
func (o *owner) roleOf(l *netstate.Link) role { return o.roleBy(l, o.cfg) }

// roleBy is roleOf by another configuration.
func (o *owner) roleBy(l *netstate.Link, cfg *Config) role {
	layer := layerOf(l)
	if l.Flags&unix.IFF_LOOPBACK != 0 || l.Kind == kindVRF || l.Master != 0 || l.Index == o.eng.Device().Index || layer != bare && layer != ethernet {
		return roleNone
	}
	if cfg.meansWorkload(l.Name) {
		if layer != ethernet {
			return roleNone // there is no ARP to answer
		}
		return roleWorkload
	}
	if (cfg.forwards() || len(cfg.AnswerUplink) > 0) && cfg.meansUplink(l.Name) {
		return roleUplink
	}
	return roleNone
}

// leftAlone says why the packets of an interface that one might expect to be
// handled are the kernel's; "" if there is nothing to say.
func (o *owner) leftAlone(l *netstate.Link) string {
	master := o.links[l.Master]
	switch {
	case l.Kind == kindVRF:
		return "VRF: its packets are left to the kernel"
	case l.Master != 0 && master != nil && master.Kind == kindVRF:
		return "port of a VRF: its packets are left to the kernel"
	case o.cfg.meansWorkload(l.Name) && o.roleOf(l) == roleNone && l.Flags&unix.IFF_LOOPBACK == 0:
		return "matches --workload but is left alone: it is a port of another device, or no Ethernet"
	case !o.eng.Forwards() || l.Master != 0:
		return ""
	case layerOf(l) == foreign:
		return "its packets, and those that are routed to it, are left to the kernel: their link-layer header is not Ethernet's"
	case l.Multipoint && o.roleOf(l) == roleUplink:
		return "packets that are routed to it are left to the kernel: a tunnel without a remote address takes them from the kernel's routing alone"
	}
	return ""
}

// idle reports whether an uplink only receives: no route leads over it.
func (o *owner) idle(p *port) bool {
	return p.role == roleUplink && o.builder.UsedLinks()[int32(p.index)] == 0
}

// warnLeftAlone says why an interface is, unless it has been said before.
func (o *owner) warnLeftAlone(l *netstate.Link, said string) {
	if why := o.leftAlone(l); why != "" && why != said {
		o.log.Warn(why, "interface", l.Name)
	}
}
