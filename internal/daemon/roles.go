package daemon

import (
	"golang.org/x/sys/unix"

	"proxyarpd/forward/route"
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
func (d *Daemon) roleOf(l *netstate.Link) role {
	layer := layerOf(l)
	if l.Flags&unix.IFF_LOOPBACK != 0 || l.Kind == kindVRF || l.Master != 0 || d.isRelay(l.Index) || layer != bare && layer != ethernet {
		return roleNone
	}
	if matches(d.cfg.Workloads, l.Name) {
		if layer != ethernet {
			return roleNone // there is no ARP to answer
		}
		return roleWorkload
	}
	if d.cfg.Engine != EngineNone && (d.cfg.Uplinks[0] == UplinkAuto || matches(d.cfg.Uplinks, l.Name)) {
		return roleUplink
	}
	return roleNone
}

// leftAlone says why the packets of an interface that one might expect to be
// handled are the kernel's; "" if there is nothing to say.
func (d *Daemon) leftAlone(l *netstate.Link) string {
	master := d.links[l.Master]
	switch {
	case l.Kind == kindVRF:
		return "VRF: its packets are left to the kernel"
	case l.Master != 0 && master != nil && master.Kind == kindVRF:
		return "port of a VRF: its packets are left to the kernel"
	case matches(d.cfg.Workloads, l.Name) && d.roleOf(l) == roleNone && l.Flags&unix.IFF_LOOPBACK == 0:
		return "matches --workload but is left alone: it is a port of another device, or no Ethernet"
	case d.cfg.Engine == EngineNone || l.Master != 0:
		return ""
	case layerOf(l) == foreign:
		return "its packets, and those that are routed to it, are left to the kernel: their link-layer header is not Ethernet's"
	case l.Multipoint && d.roleOf(l) == roleUplink:
		return "packets that are routed to it are left to the kernel: a tunnel without a remote address takes them from the kernel's routing alone"
	}
	return ""
}

// idle reports whether an uplink only receives: no route leads over it.
func (d *Daemon) idle(l *netstate.Link, p *port) bool {
	return p.role == roleUplink && d.builder.UsedLinks()[int32(l.Index)] == 0
}

// addresses gives the addresses of an interface as the datapath wants them.
func (d *Daemon) addresses(ifindex int) []route.Address {
	list := d.addrs[ifindex]
	if list == nil {
		return nil
	}
	all := make([]route.Address, 0, len(list.all))
	for _, a := range list.all {
		all = append(all, route.Address{Local: a.Local, Prefix: a.Prefix, Scope: uint8(a.Scope),
			Secondary: a.Flags&unix.IFA_F_SECONDARY != 0})
	}
	return all
}

// link describes an interface to the datapath.
func (d *Daemon) link(l *netstate.Link, p *port) route.Link {
	f := route.Link{
		Ifindex: int32(l.Index), Name: l.Name, MAC: l.MAC, MTU: l.MTU, Slot: p.slot,
		Aliases: p.aliases, Conf: d.linkConf(p),
	}
	// Carrier, not IFF_RUNNING, for which the kernel's linkwatch takes its time:
	// routes lead here already, and what passes by the qdisc gets through.
	if l.Up() && l.Flags&unix.IFF_LOWER_UP != 0 {
		f.Flags |= route.LinkUp
	}
	if p.role == roleWorkload {
		f.Flags |= route.LinkWorkload
	} else {
		f.Flags |= route.LinkUplink
	}
	if layerOf(l) == ethernet {
		f.Flags |= route.LinkEthernet
	}
	if (l.Qdisc == "noqueue" || !settled(l)) && !d.egress[l.Index] && !d.unseen {
		f.Flags |= route.LinkBypass
	}
	if l.Flags&unix.IFF_NOARP != 0 {
		f.Flags |= route.LinkNoARP
	}
	if l.Forwards {
		f.Flags |= route.LinkKernelForwards
	}
	if p.refused {
		f.Flags |= route.LinkLeft
	}
	if l.Multipoint {
		f.Flags |= route.LinkReceiveOnly
	}
	if l.Type == unix.ARPHRD_PPP {
		f.Flags |= route.LinkNoOffload
	}
	return f
}

// settled reports whether the interface has the queueing discipline that it is
// to keep. One that has just come up has noop, which loses in silence what it
// is given, until the kernel's linkwatch has replaced it (net/sched/sch_generic.c).
func settled(l *netstate.Link) bool {
	return l.Running() && l.Qdisc != "noop" && l.Qdisc != ""
}
