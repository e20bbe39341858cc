package netstate

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

const maxAddrLen = 32 // MAX_ADDR_LEN of include/linux/netdevice.h

// Up reports whether the link is administratively up.
func (l Link) Up() bool { return l.Flags&unix.IFF_UP != 0 }

// Running reports whether the link is up and has a carrier.
func (l Link) Running() bool {
	return l.Up() && l.Flags&unix.IFF_RUNNING != 0
}

// parseLink reads what follows the netlink header of an RTM_NEWLINK or
// RTM_DELLINK: struct ifinfomsg and attributes (rtnl_fill_ifinfo in
// net/core/rtnetlink.c). The caller has looked at the family.
func parseLink(b []byte) (Link, error) {
	var l Link
	if len(b) < unix.SizeofIfInfomsg {
		return l, short("ifinfomsg", b)
	}
	l.Type = native.Uint16(b[2:])
	index := int32(native.Uint32(b[4:]))
	l.Flags = native.Uint32(b[8:])
	if index <= 0 {
		return l, fmt.Errorf("%w: link index %d", errMalformed, index)
	}
	l.Index = int(index)
	a := attrs{rest: b[unix.SizeofIfInfomsg:]}
	for a.next() {
		parseLinkAttr(&l, &a)
	}
	l.Multipoint = l.Multipoint && multipoint[l.Kind]
	if a.err == nil && l.Name == "" {
		a.err = fmt.Errorf("%w: link %d has no name", errMalformed, index)
	}
	return l, a.err
}

func parseLinkAttr(l *Link, a *attrs) {
	switch a.typ {
	case unix.IFLA_IFNAME:
		if l.Name = a.str(); len(l.Name) >= unix.IFNAMSIZ {
			a.fail()
		}
	case unix.IFLA_ADDRESS:
		if l.AddrLen = len(a.val); l.AddrLen > maxAddrLen {
			a.fail()
		} else if l.AddrLen == 6 {
			l.MAC = [6]byte(a.val)
		}
	case unix.IFLA_PERM_ADDRESS:
		if len(a.val) == len(l.PermMAC) {
			l.PermMAC = [6]byte(a.val)
		}
	case unix.IFLA_BROADCAST:
		l.Multipoint = isMultipoint(a.val)
	case unix.IFLA_AF_SPEC:
		for n := (attrs{rest: a.val}); n.next() || a.take(&n); {
			switch n.typ {
			case unix.AF_INET:
				l.Forwards = forwards(&n)
			case unix.AF_INET6:
				l.readInet6(&n)
			}
		}
	case unix.IFLA_PROTINFO: // of a bridge's port, too, which is another family's
		l.readInet6(a)
	case unix.IFLA_MTU:
		l.MTU = int(a.u32())
	case unix.IFLA_MASTER:
		l.Master = a.index()
	case unix.IFLA_GROUP:
		l.Group = a.u32()
	case unix.IFLA_LINK:
		l.ParentIndex = a.index()
	case unix.IFLA_LINK_NETNSID:
		l.ParentForeign = true
	case unix.IFLA_OPERSTATE:
		l.OperState = OperState(a.u8())
	case unix.IFLA_NUM_TX_QUEUES:
		l.NumTxQueues = int(a.u32())
	case unix.IFLA_CARRIER_CHANGES:
		l.CarrierChanges = a.u32()
	case unix.IFLA_QDISC:
		l.Qdisc = a.str()
	case unix.IFLA_GSO_MAX_SIZE:
		l.GSOMaxSize = a.u32()
	case unix.IFLA_GSO_IPV4_MAX_SIZE:
		l.GSOIPv4MaxSize = a.u32()
	case unix.IFLA_LINKINFO:
		for n := (attrs{rest: a.val}); n.next() || a.take(&n); {
			if n.typ == unix.IFLA_INFO_KIND {
				l.Kind = n.str()
			}
		}
	case unix.IFLA_XDP:
		for n := (attrs{rest: a.val}); n.next() || a.take(&n); {
			if n.typ == unix.IFLA_XDP_ATTACHED {
				l.XDP = n.u8() != 0
			}
		}
	}
}

// multipoint are the kinds of tunnels whose IFLA_BROADCAST is the remote end.
var multipoint = map[string]bool{"ipip": true, "sit": true, "gre": true, "ip6tnl": true, "ip6gre": true}

// isMultipoint reports whether an IFLA_BROADCAST names no one end.
func isMultipoint(b []byte) bool {
	addr, ok := netip.AddrFromSlice(b)
	return ok && (addr.IsUnspecified() || addr.IsMulticast())
}

// forwards reads the IPv4 settings of a link, in the order of IPV4_DEVCONF_*
// from 1 on (include/uapi/linux/ip.h; inet_fill_link_af in net/ipv4/devinet.c).
func forwards(spec *attrs) (on bool) {
	const iflaInetConf, devconfForwarding = 1, 1
	for n := (attrs{rest: spec.val}); n.next() || spec.take(&n); {
		if at := (devconfForwarding - 1) * 4; n.typ == iflaInetConf && len(n.val) >= at+4 {
			on = native.Uint32(n.val[at:]) != 0
		}
	}
	return on
}

// take carries the error of a nested walk that has ended to the outer one. It
// is always false, to stand at the end of a loop's condition.
func (a *attrs) take(nested *attrs) bool {
	if a.err == nil {
		a.err = nested.err
	}
	return false
}

// isWireless reports whether the message is one of the wireless extensions'
// (wireless_nlevent_flush in net/wireless/wext-core.c), which carry an event
// and hardly anything of the link.
func isWireless(b []byte) bool {
	if len(b) < unix.SizeofIfInfomsg {
		return false
	}
	for a := (attrs{rest: b[unix.SizeofIfInfomsg:]}); a.next(); {
		if a.typ == unix.IFLA_WIRELESS {
			return true
		}
	}
	return false
}
