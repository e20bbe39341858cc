package bench

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// bulk are many workload interfaces, made as fast as netlink goes: the host's
// ends on host0, the other ends all in one pod's namespace.
type bulk struct {
	host, pod *netlink.Handle
	podFd     *int // of the pod's namespace
	links     []bulkLink
}

type bulkLink struct {
	host *netlink.Veth
	end  int // interface index in the pod's namespace
	mac  net.HardwareAddr
	addr netip.Addr
}

// openBulk prepares to make interfaces between host0 and a node.
func openBulk(b *bed, node string) (*bulk, error) {
	k := &bulk{}
	open := func(node string, h **netlink.Handle, fd **int) error {
		return b.Do(node, func() (err error) {
			if *h, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
				return fmt.Errorf("bench: rtnetlink: %w", err)
			}
			if fd != nil {
				n, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					return fmt.Errorf("bench: namespace: %w", err)
				}
				*fd = &n
			}
			return nil
		})
	}
	err := open(host(0), &k.host, nil)
	if err == nil {
		err = open(node, &k.pod, &k.podFd)
	}
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// add makes one interface pair, the pod's end up and the host's not yet.
func (k *bulk) add() (*bulkLink, error) {
	n := len(k.links)
	l := bulkLink{
		mac:  net.HardwareAddr{0x02, 0xbe, 0, 0, byte(n >> 8), byte(n)},
		addr: netip.AddrFrom4([4]byte{10, 66, byte(n / 250), byte(1 + n%250)}),
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = fmt.Sprintf("calibulk%06d", n)
	attrs.HardwareAddr = net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
	l.host = netlink.NewVeth(attrs)
	l.host.PeerName, l.host.PeerHardwareAddr = fmt.Sprintf("bulk%d", n), l.mac
	l.host.PeerNamespace = netlink.NsFd(*k.podFd)
	if err := k.host.LinkAdd(l.host); err != nil {
		return nil, fmt.Errorf("bench: make %s: %w", attrs.Name, err)
	}
	k.links = append(k.links, l)
	made, err := k.host.LinkByName(attrs.Name)
	if err != nil {
		return nil, fmt.Errorf("bench: %s: %w", attrs.Name, err)
	}
	end, err := k.pod.LinkByName(l.host.PeerName)
	if err == nil {
		err = k.pod.LinkSetUp(end)
	}
	if err != nil {
		return nil, fmt.Errorf("bench: %s: %w", l.host.PeerName, err)
	}
	at := &k.links[n]
	at.host.Index, at.end = made.Attrs().Index, end.Attrs().Index
	return at, nil
}

// up brings the host's end up, and nothing else.
func (k *bulk) up(l *bulkLink) error {
	if err := k.host.LinkSetUp(l.host); err != nil {
		return fmt.Errorf("bench: set %s up: %w", l.host.Name, err)
	}
	return nil
}

// route leads to the pod, as the CNI plug-in would have it.
func (k *bulk) route(l *bulkLink) error {
	r := &netlink.Route{LinkIndex: l.host.Index, Scope: netlink.SCOPE_LINK,
		Dst: &net.IPNet{IP: l.addr.AsSlice(), Mask: net.CIDRMask(32, 32)}}
	if err := k.host.RouteAdd(r); err != nil {
		return fmt.Errorf("bench: route to %s: %w", l.addr, err)
	}
	return nil
}

// Close removes the interfaces.
func (k *bulk) Close() error {
	var errs []error
	for _, l := range k.links {
		if err := k.host.LinkDel(l.host); err != nil {
			errs = append(errs, fmt.Errorf("bench: remove %s: %w", l.host.Name, err))
		}
	}
	if k.podFd != nil {
		errs = append(errs, unix.Close(*k.podFd))
	}
	for _, h := range []*netlink.Handle{k.host, k.pod} {
		if h != nil {
			h.Close()
		}
	}
	return errors.Join(errs...)
}
