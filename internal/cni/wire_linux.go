package cni

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// wiring is what a pod's interface is to be.
type wiring struct {
	*conf
	attachment
	host      string // the name of the host's end
	netns     string // path
	mtu       int
	addresses []*net.IPNet // host addresses: /32, /128
	routes    []netlink.Route
}

// gateway6 is the link-local address of the host's end (RFC 4291 appendix A, of
// its MAC), by which IPv6 leaves the pod.
func gateway6(mac net.HardwareAddr) net.IP {
	return net.IP{0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]}
}

func (c *conf) wiring(args *skel.CmdArgs, host string, ipam *types100.Result) (*wiring, error) {
	w := &wiring{conf: c, attachment: c.attachment(args), host: host, netns: args.Netns, mtu: c.MTU}
	for _, ip := range ipam.IPs {
		w.addresses = append(w.addresses, hostNet(ip.Address.IP))
	}
	for _, r := range ipam.Routes {
		dst := r.Dst
		w.routes = append(w.routes, w.route(&dst))
	}
	for _, all := range []*net.IPNet{{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, {IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}} {
		ofFamily := func(ip net.IP) bool { return (ip.To4() == nil) == (all.IP.To4() == nil) }
		has := slices.ContainsFunc(w.addresses, func(a *net.IPNet) bool { return ofFamily(a.IP) })
		told := slices.ContainsFunc(w.routes, func(r netlink.Route) bool { return ofFamily(r.Dst.IP) })
		if has && !told {
			w.routes = append(w.routes, w.route(all))
		}
	}
	var err error
	if w.mtu == 0 {
		w.mtu, err = defaultMTU()
	}
	return w, err
}

// route is one of the pod's, by the gateway of its family.
func (w *wiring) route(dst *net.IPNet) netlink.Route {
	if dst.IP.To4() == nil {
		return netlink.Route{Dst: dst, Gw: gateway6(w.mac)}
	}
	return netlink.Route{Dst: dst, Gw: w.gateway.AsSlice()}
}

func hostNet(ip net.IP) *net.IPNet {
	if v4 := ip.To4(); v4 != nil {
		return &net.IPNet{IP: v4, Mask: net.CIDRMask(32, 32)}
	}
	return &net.IPNet{IP: ip, Mask: net.CIDRMask(128, 128)}
}

const ethernetMTU = 1500 // bytes

// defaultMTU is that of the interface of the host's default route, so that what
// a pod sends fits.
func defaultMTU() (int, error) {
	routes, err := netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return 0, fmt.Errorf("the host's routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		if r.LinkIndex == 0 && len(r.MultiPath) > 0 {
			r.LinkIndex = r.MultiPath[0].LinkIndex
		}
		if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
			return link.Attrs().MTU, nil
		}
	}
	return ethernetMTU, nil
}

// connect makes the interface, and nothing if it fails.
func (w *wiring) connect() (host, pod *types100.Interface, err error) {
	in, podNS, err := enter(w.netns)
	if err != nil {
		return nil, nil, err
	}
	defer podNS.Close()
	defer in.Close()
	if err := w.evict(); err != nil {
		return nil, nil, err
	}
	veth := netlink.NewVeth(netlink.LinkAttrs{Name: w.host, MTU: w.mtu, HardwareAddr: w.mac, TxQLen: -1})
	veth.PeerName, veth.PeerNamespace, veth.PeerMTU = w.ifname, netlink.NsFd(podNS), uint32(w.mtu)
	if err := netlink.LinkAdd(veth); err != nil {
		return nil, nil, fmt.Errorf("make %s and %s in %s: %w", w.host, w.ifname, w.netns, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, netlink.LinkDel(veth))
		}
	}()
	// From here on DEL and GC know it.
	if err := netlink.LinkSetAlias(veth, w.alias()); err != nil {
		return nil, nil, fmt.Errorf("alias of %s: %w", w.host, err)
	}
	if err := w.hostSide(veth); err != nil {
		return nil, nil, err
	}
	mac, err := w.podSide(in)
	if err != nil {
		return nil, nil, err
	}
	return &types100.Interface{Name: w.host, Mac: w.mac.String(), Mtu: w.mtu},
		&types100.Interface{Name: w.ifname, Mac: mac.String(), Mtu: w.mtu, Sandbox: w.netns}, nil
}

// evict removes the interface of an earlier container of the same pod.
func (w *wiring) evict() error {
	old, err := find(nil, w.host)
	if old == nil || err != nil {
		return err
	}
	switch a, ours := parseAlias(old.Attrs().Alias); {
	case old.Type() != "veth":
		return fmt.Errorf("%s is there, and a %s", w.host, old.Type())
	case ours && a == w.attachment:
		return fmt.Errorf("%s is there already: ADD came twice for container %s", w.host, w.container)
	}
	return gone(netlink.LinkDel(old))
}

// hostSide brings the host's end up, with the routes to the pod.
func (w *wiring) hostSide(veth netlink.Link) error {
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("%s up: %w", w.host, err)
	}
	for _, a := range w.addresses {
		r := w.hostRoute(a, veth.Attrs().Index)
		if err := netlink.RouteReplace(&r); err != nil {
			return fmt.Errorf("route %v dev %s: %w", a, w.host, hint(err, a))
		}
	}
	return nil
}

func (w *wiring) hostRoute(a *net.IPNet, index int) netlink.Route {
	r := netlink.Route{Dst: a, LinkIndex: index}
	if a.IP.To4() != nil {
		r.Scope = unix.RT_SCOPE_LINK
	}
	return r
}

// hint adds to an error what the kernel means by it.
func hint(err error, a *net.IPNet) error {
	if a.IP.To4() == nil && errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w: IPv6 is off there (disable_ipv6): turn it on, or have the ipam plugin give IPv4 alone", err)
	}
	return err
}

// podSide configures the pod's end.
func (w *wiring) podSide(in *netlink.Handle) (net.HardwareAddr, error) {
	link, err := in.LinkByName(w.ifname)
	if err != nil {
		return nil, fmt.Errorf("%s in %s: %w", w.ifname, w.netns, err)
	}
	if err := in.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("%s in %s up: %w", w.ifname, w.netns, err)
	}
	for _, a := range w.addresses {
		addr := &netlink.Addr{IPNet: a}
		if a.IP.To4() == nil {
			addr.Flags = unix.IFA_F_NODAD // nobody else is on this link
		}
		if err := in.AddrAdd(link, addr); err != nil {
			return nil, fmt.Errorf("address %v of %s in %s: %w", a, w.ifname, w.netns, hint(err, a))
		}
	}
	for _, r := range w.podRoutes(link.Attrs().Index) {
		if err := in.RouteAdd(&r); err != nil {
			return nil, fmt.Errorf("route %v by %v in %s: %w", r.Dst, r.Gw, w.netns, err)
		}
	}
	return link.Attrs().HardwareAddr, nil
}

// podRoutes are those of the pod, with the one to the gateway of IPv4 first,
// without which the kernel takes no route by it.
func (w *wiring) podRoutes(index int) (all []netlink.Route) {
	if slices.ContainsFunc(w.routes, func(r netlink.Route) bool { return r.Gw.To4() != nil }) {
		all = append(all, netlink.Route{Dst: hostNet(w.gateway.AsSlice()), Scope: unix.RT_SCOPE_LINK})
	}
	all = append(all, w.routes...)
	for i := range all {
		all[i].LinkIndex = index
	}
	return all
}

// check compares what is there with what should be.
func (w *wiring) check() error {
	host, err := find(nil, w.host)
	switch {
	case err != nil:
		return err
	case host == nil:
		return fmt.Errorf("%s is missing", w.host)
	}
	if a, ours := parseAlias(host.Attrs().Alias); !ours || a != w.attachment {
		return fmt.Errorf("%s is not that of container %s", w.host, w.container)
	}
	in, podNS, err := enter(w.netns)
	if err != nil {
		return err
	}
	defer podNS.Close()
	defer in.Close()
	pod, err := find(in, w.ifname)
	switch {
	case err != nil:
		return err
	case pod == nil:
		return fmt.Errorf("%s is missing in %s", w.ifname, w.netns)
	case host.Attrs().Flags&net.FlagUp == 0:
		return fmt.Errorf("%s is down", w.host)
	case pod.Attrs().Flags&net.FlagUp == 0:
		return fmt.Errorf("%s is down in %s", w.ifname, w.netns)
	}
	index := host.Attrs().Index
	for _, a := range w.addresses {
		if err := hasAddress(in, pod, a); err != nil {
			return fmt.Errorf("%s in %s: %w", w.ifname, w.netns, err)
		}
		if err := hasRoute(nil, w.hostRoute(a, index)); err != nil {
			return err
		}
	}
	for _, r := range w.podRoutes(pod.Attrs().Index) {
		if err := hasRoute(in, r); err != nil {
			return fmt.Errorf("%s: %w", w.netns, err)
		}
	}
	return nil
}

func hasAddress(in *netlink.Handle, link netlink.Link, want *net.IPNet) error {
	all, err := in.AddrList(link, unix.AF_UNSPEC)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(all, func(a netlink.Addr) bool { return a.IPNet.String() == want.String() }) {
		return fmt.Errorf("address %v is missing", want)
	}
	return nil
}

// hasRoute looks for a route in table main, of the host if in is nil.
func hasRoute(in *netlink.Handle, want netlink.Route) error {
	family := unix.AF_INET6
	if want.Dst.IP.To4() != nil {
		family = unix.AF_INET
	}
	list := netlink.RouteListFiltered
	if in != nil {
		list = in.RouteListFiltered
	}
	all, err := list(family, &netlink.Route{Table: unix.RT_TABLE_MAIN, LinkIndex: want.LinkIndex}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_OIF)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(all, func(r netlink.Route) bool {
		return (r.Dst == nil && isDefault(want.Dst) || r.Dst != nil && r.Dst.String() == want.Dst.String()) && r.Gw.Equal(want.Gw)
	}) {
		return fmt.Errorf("route %v by %v is missing", want.Dst, want.Gw)
	}
	return nil
}

func isDefault(n *net.IPNet) bool {
	ones, _ := n.Mask.Size()
	return ones == 0
}

// remove removes the interfaces of the attachments that are to go; the pods'
// ends go with the host's.
func remove(toGo func(attachment) bool) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("the host's interfaces: %w", err)
	}
	var errs []error
	for _, l := range links {
		if a, ours := parseAlias(l.Attrs().Alias); ours && toGo(a) {
			errs = append(errs, gone(netlink.LinkDel(l)))
		}
	}
	return errors.Join(errs...)
}

// find gives the link of a name, nil if there is none; of the host if in is nil.
func find(in *netlink.Handle, name string) (netlink.Link, error) {
	byName := netlink.LinkByName
	if in != nil {
		byName = in.LinkByName
	}
	link, err := byName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return link, nil
}

// gone takes for done what was to be removed and has just gone.
func gone(err error) error {
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// enter opens a network namespace; both results are the caller's to close.
func enter(path string) (*netlink.Handle, netns.NsHandle, error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return nil, ns, fmt.Errorf("network namespace %s: %w", path, err)
	}
	in, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		ns.Close()
		return nil, ns, fmt.Errorf("network namespace %s: %w", path, err)
	}
	return in, ns, nil
}
