package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"proxyarpd/forward/route"
	"proxyarpd/internal/conntrack"
	"proxyarpd/internal/daemon"
	"proxyarpd/internal/hostpolicy"
	"proxyarpd/internal/netstate"
	"proxyarpd/internal/privilege"
)

// Examine looks at the host of the calling thread's network namespace as it is for
// a daemon with that configuration, and asks the one that runs, if one does.
func Examine(ctx context.Context, cfg daemon.Config) ([]Finding, error) {
	f, err := gather(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return examine(f), nil
}

// gather finds out all that is asked about.
func gather(ctx context.Context, cfg daemon.Config) (*facts, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	f := &facts{cfg: &cfg, sysctl: readSysctl, has: privilege.Has}
	var err error
	f.status, f.noDaemon = daemon.Query(ctx, cfg.Control, 0)
	view, req, err := daemon.Survey(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("look at the host: %w", err)
	}
	defer req.Close()
	f.view = view
	var ifs []hostpolicy.Interface
	for index, l := range view.Links {
		link := view.Table.Link(int32(index))
		switch {
		case view.Policies[index] != nil && view.Policies[index].Uplink == nil:
			f.workloads = append(f.workloads, l)
		case link != nil && link.Flags&route.LinkUplink != 0:
			f.uplinks = append(f.uplinks, l)
		default:
			continue
		}
		ifs = append(ifs, hostpolicy.Interface{Name: l.Name, Index: l.Index})
	}
	byName := func(a, b *netstate.Link) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(f.workloads, byName)
	slices.SortFunc(f.uplinks, byName)
	if f.forwards() {
		f.rules, f.unknown = hostpolicy.Inspect(ctx, ifs, cfg.IPv6, func(id uint32) bool { return f.status != nil && slices.Contains(f.status.Programs, id) })
		if errors.Is(f.unknown, hostpolicy.ErrUserNamespace) {
			f.unknown = nil
		}
		f.programs, f.tun = loadable(), tunDevice()
		f.askConntrack(ctx)
	}
	f.readOnly = readOnly("/proc/sys")
	f.dead = deadRoutes()
	f.advertised = advertisedDefaults()
	f.local = localAddresses()
	f.managers = readManagers(os.DirFS("/"), workloadNames(f))
	f.lookIntoPods()
	f.askAll(ctx)
	return f, nil
}

// askConntrack counts the flows of workloads that the kernel translates, to destinations that are not left to it. What
// can't be asked, a kernel without conntrack say, has none.
func (f *facts) askConntrack(ctx context.Context) {
	if len(f.workloads) == 0 {
		return
	}
	t, in := f.view.Table, f.view.Table.Link(int32(f.workloads[0].Index))
	_ = conntrack.List(ctx, func(from, to netip.Addr) {
		if in != nil && t.Class(from) == route.ToWorkload && t.OwnerOf(to, in) == route.NotSpecified {
			f.translated.flows++
			f.translated.from, f.translated.to = from, to
		}
	})
}

// workloadNames are those of the interfaces, or what a workload's might be called
// where there is none yet.
func workloadNames(f *facts) (names []string) {
	for _, l := range f.workloads {
		names = append(names, l.Name)
	}
	if len(names) == 0 {
		for _, g := range f.cfg.Workloads {
			if strings.HasPrefix(g, "!") {
				continue // an exclusion
			}
			names = append(names, strings.NewReplacer("*", "0", "?", "0").Replace(g))
		}
	}
	return names
}

func readSysctl(key string) (int, bool) {
	b, err := os.ReadFile("/proc/sys/net/ipv4/" + key)
	if err != nil {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	return n, err == nil
}

func readOnly(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Flags&unix.ST_RDONLY != 0
}

func tunDevice() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// mostDead is how many routes that lead nowhere are told at most.
const mostDead = 1000

// deadRoutes are IPv4 routes of the main table whose only way is dead.
func deadRoutes() (dead []string) {
	_ = netlink.RouteListFilteredIter(unix.AF_INET, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
		const gone = unix.RTNH_F_DEAD | unix.RTNH_F_LINKDOWN
		if r.Flags&gone != 0 && len(r.MultiPath) == 0 && r.Dst != nil {
			dead = append(dead, r.Dst.String())
		}
		return len(dead) < mostDead
	})
	return dead
}

// advertisedDefaults are the interfaces of the IPv6 default routes that router
// advertisements have made, by index.
func advertisedDefaults() map[int]bool {
	by := map[int]bool{}
	_ = netlink.RouteListFilteredIter(unix.AF_INET6, &netlink.Route{Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_RA}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL, func(r netlink.Route) bool {
		if bits, _ := maskSize(r.Dst); r.Dst == nil || bits == 0 {
			by[r.LinkIndex] = true
		}
		return true
	})
	return by
}

// localAddresses are the IPv4 addresses of this host's interfaces; nil where they can't be told.
func localAddresses() map[string]bool {
	all, err := netlink.AddrList(nil, unix.AF_INET)
	if err != nil {
		return nil
	}
	local := map[string]bool{}
	for _, a := range all {
		local[a.IP.String()] = true
	}
	return local
}

// mostPods is into how many pods is looked.
const mostPods = 256

// lookIntoPods enters the namespaces of the workloads' other ends.
func (f *facts) lookIntoPods() {
	if len(f.workloads) == 0 {
		return
	}
	if !f.has(unix.CAP_SYS_ADMIN) {
		f.noPods = "CAP_SYS_ADMIN is missing"
		return
	}
	byID := namespacesByID()
	for _, l := range f.workloads[:min(len(f.workloads), mostPods)] {
		link, err := netlink.LinkByIndex(l.Index)
		if err != nil || link.Attrs().NetNsID < 0 {
			continue
		}
		path, ok := byID[link.Attrs().NetNsID]
		if !ok {
			continue
		}
		var p *pod
		if err := inNetns(path, func() (err error) {
			p, err = f.lookAtPod(l, path)
			return err
		}); err != nil {
			continue // the pod has gone meanwhile
		}
		f.routeBack(l, p)
		f.pods = append(f.pods, *p)
	}
	if len(f.pods) == 0 {
		f.noPods = "none of them is named in /run/netns, or is a process's"
	}
}

// askAtOnce is at how many places is asked together.
const askAtOnce = 32

// askAll asks for the gateways from each pod, where the daemon is to answer, and on
// uplinks, where nobody is.
func (f *facts) askAll(ctx context.Context) {
	if !f.has(unix.CAP_NET_RAW) {
		return
	}
	all := make([]answer, len(f.pods)+len(f.uplinks))
	var g errgroup.Group
	g.SetLimit(askAtOnce)
	for i := range f.pods {
		p, a := &f.pods[i], &all[i]
		if !p.up || p.noARP || ctx.Err() != nil {
			continue
		}
		g.Go(func() error {
			if err := inNetns(p.netns, func() error { *a = ask(p.name, f.sender(p), f.gateways()); return nil }); err != nil {
				a.err = err
			}
			a.where, a.pod, a.host = p.where(), true, p.host
			return nil
		})
	}
	here, err := os.Open("/proc/thread-self/ns/net")
	for i, l := range f.uplinks {
		a := &all[len(f.pods)+i]
		if err != nil || l.Type != unix.ARPHRD_ETHER || l.Flags&unix.IFF_NOARP != 0 || !l.Running() || ctx.Err() != nil {
			continue
		}
		g.Go(func() error {
			if err := inNetns(fmt.Sprintf("/proc/self/fd/%d", here.Fd()), func() error { *a = ask(l.Name, addressOf(l.Index), f.gateways()); return nil }); err != nil {
				a.err = err
			}
			a.where = l.Name
			return nil
		})
	}
	_ = g.Wait() // each has its own error
	if err == nil {
		_ = here.Close()
	}
	f.answers = slices.DeleteFunc(all, func(a answer) bool { return a.where == "" })
}

// sender is the address that a pod asks with.
func (f *facts) sender(p *pod) netip.Addr {
	for _, s := range p.addresses {
		if a, err := netip.ParseAddr(s); err == nil {
			return a
		}
	}
	return netip.IPv4Unspecified()
}

// routeBack says which of a pod's addresses lead to its interface here.
func (f *facts) routeBack(l *netstate.Link, p *pod) {
	for _, s := range p.addresses {
		a, err := netip.ParseAddr(s)
		p.routed = append(p.routed, err == nil && f.view.Table.LeadsTo(a, int32(l.Index)))
	}
}

// lookAtPod reads what a pod has configured. It is called in its namespace.
func (f *facts) lookAtPod(l *netstate.Link, path string) (*pod, error) {
	link, err := netlink.LinkByIndex(l.ParentIndex)
	if err != nil {
		return nil, err
	}
	at := link.Attrs()
	p := &pod{host: l.Name, hostMTU: l.MTU, netns: path, name: at.Name, mtu: at.MTU, up: at.RawFlags&unix.IFF_UP != 0,
		noARP: at.RawFlags&unix.IFF_NOARP != 0, fixed: map[string]macIs{}}
	addrs, err := netlink.AddrList(link, unix.AF_INET)
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		p.addresses = append(p.addresses, a.IP.String())
	}
	routes, err := netlink.RouteList(link, unix.AF_INET)
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		if bits, _ := maskSize(r.Dst); r.Dst != nil && bits != 0 {
			continue
		}
		if r.Gw == nil {
			p.direct = true
		} else {
			p.gateways = append(p.gateways, r.Gw.String())
		}
	}
	neighbours, err := netlink.NeighList(at.Index, unix.AF_INET)
	if err != nil {
		return nil, err
	}
	policy := f.view.Policies[l.Index]
	for _, n := range neighbours {
		if n.State&(unix.NUD_PERMANENT|unix.NUD_NOARP) != 0 && len(n.HardwareAddr) == 6 && policy != nil && slices.Contains(p.gateways, n.IP.String()) {
			is := macIs{mac: [6]byte(n.HardwareAddr), want: policy.Answer}
			if is.mac == policy.Own {
				is.want = is.mac // as good
			}
			p.fixed[n.IP.String()] = is
		}
	}
	return p, nil
}

// addressOf is an address of an interface, 0.0.0.0 if it has none.
func addressOf(index int) netip.Addr {
	link := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}}
	addrs, err := netlink.AddrList(link, unix.AF_INET)
	if err == nil && len(addrs) > 0 {
		if a, ok := netip.AddrFromSlice(addrs[0].IP.To4()); ok {
			return a
		}
	}
	return netip.IPv4Unspecified()
}
