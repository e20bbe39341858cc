package daemon

import (
	"golang.org/x/sys/unix"

	"proxyarpd/forward"
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

// roleOf says what an interface is to us. Ports of a bridge, bond or VRF are
// left alone: their frames are the master's. Interfaces without an Ethernet
// header are left to the kernel.
func (d *Daemon) roleOf(l *netstate.Link) role {
	if l.Flags&unix.IFF_LOOPBACK != 0 || l.Kind == kindVRF {
		return roleNone
	}
	ethernet := l.Type == unix.ARPHRD_ETHER && l.AddrLen == 6
	if l.Master != 0 || !(ethernet || l.Type == unix.ARPHRD_NONE) {
		return roleNone
	}
	if matches(d.cfg.Workloads, l.Name) {
		if !ethernet {
			return roleNone // there is no ARP to answer
		}
		return roleWorkload
	}
	if d.cfg.Engine == EngineNone {
		return roleNone
	}
	if d.cfg.Uplinks[0] == UplinkAuto {
		if d.builder.UsedLinks()[int32(l.Index)] > 0 {
			return roleUplink
		}
		return roleNone
	}
	if matches(d.cfg.Uplinks, l.Name) {
		return roleUplink
	}
	return roleNone
}

// addresses gives the addresses of an interface as the datapath wants them.
func (d *Daemon) addresses(ifindex int) []forward.Address {
	all := make([]forward.Address, 0, len(d.addrs[ifindex]))
	for _, a := range d.addrs[ifindex] {
		all = append(all, forward.Address{Local: a.Local, Prefix: a.Prefix, Scope: uint8(a.Scope),
			Secondary: a.Flags&unix.IFA_F_SECONDARY != 0})
	}
	return all
}

// link describes an interface to the datapath.
func (d *Daemon) link(l *netstate.Link, p *port) forward.Link {
	f := forward.Link{
		Ifindex: int32(l.Index), Name: l.Name, MAC: l.MAC, MTU: l.MTU, Slot: p.slot,
		Aliases: p.aliases, Conf: d.linkConf(p),
	}
	// Carrier, not IFF_RUNNING, for which the kernel's linkwatch takes its time:
	// routes lead here already, and what passes by the qdisc gets through.
	if l.Up() && l.Flags&unix.IFF_LOWER_UP != 0 {
		f.Flags |= forward.LinkUp
	}
	if p.role == roleWorkload {
		f.Flags |= forward.LinkWorkload
	} else {
		f.Flags |= forward.LinkUplink
	}
	if l.Type == unix.ARPHRD_ETHER {
		f.Flags |= forward.LinkEthernet
	}
	if (l.Qdisc == "noqueue" || !settled(l)) && !d.egress[l.Index] {
		f.Flags |= forward.LinkBypass
	}
	if l.Flags&unix.IFF_NOARP != 0 {
		f.Flags |= forward.LinkNoARP
	}
	return f
}

// settled reports whether the interface has the queueing discipline that it is
// to keep. One that has just come up has noop, which loses in silence what it
// is given, until the kernel's linkwatch has replaced it (net/sched/sch_generic.c).
func settled(l *netstate.Link) bool {
	return l.Running() && l.Qdisc != "noop" && l.Qdisc != ""
}
