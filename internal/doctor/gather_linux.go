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
	f.dead, f.routed = deadRoutes(), map[*family]map[int32][]netip.Addr{}
	for _, v := range families {
		f.routed[v] = view.Table.HostsOver(v.Family)
	}
	f.host = hostIPv6{advertised: advertisedDefaults(), proxied: proxyEntries()}
	f.local, f.host.linkLocal = hostAddresses()
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

// deadRoutes are routes of the main table whose only way is dead.
func deadRoutes() (dead []deadRoute) {
	for _, v := range families {
		most := len(dead) + mostDead
		_ = netlink.RouteListFilteredIter(v.netlink(), &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
			const gone = unix.RTNH_F_DEAD | unix.RTNH_F_LINKDOWN
			if r.Flags&gone != 0 && len(r.MultiPath) == 0 && r.Dst != nil && !isOfLink(prefixOf(r.Dst)) {
				dead = append(dead, deadRoute{r.Dst.String(), v})
			}
			return len(dead) < most
		})
	}
	return dead
}

// netlink is the family's number.
func (v *family) netlink() int {
	if v == ipv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// isOfLink reports a prefix that each interface with IPv6 has a route to.
func isOfLink(p netip.Prefix) bool {
	return p.Addr().Is6() && (p.Addr().IsLinkLocalUnicast() || p.Addr().IsMulticast())
}

// advertisedDefaults are the interfaces of the IPv6 default routes that router
// advertisements have made, by index.
func advertisedDefaults() map[int]bool {
	by := map[int]bool{}
	_ = netlink.RouteListFilteredIter(unix.AF_INET6, &netlink.Route{Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_RA}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL, func(r netlink.Route) bool {
		if to := prefixOf(r.Dst); !to.IsValid() || to.Bits() == 0 {
			by[r.LinkIndex] = true
		}
		return true
	})
	return by
}

// hostAddresses are those of this host's interfaces, and what the link-local ones are good
// for.
func hostAddresses() (local map[string]bool, of map[int]netstate.AddressState) {
	local, of = map[string]bool{}, map[int]netstate.AddressState{}
	for _, v := range families {
		all, err := netlink.AddrList(nil, v.netlink())
		if err != nil {
			continue // as of a kernel without IPv6
		}
		for _, a := range all {
			addr, _ := netip.AddrFromSlice(a.IP)
			addr = addr.Unmap()
			if v == ipv6 && addr.IsLinkLocalUnicast() {
				addr = addr.WithZone(strconv.Itoa(a.LinkIndex))
				of[a.LinkIndex] = max(of[a.LinkIndex], netstate.AddressStateOf(uint32(a.Flags)))
			}
			local[addr.String()] = true
		}
	}
	return local, of
}

// isLocal reports whether the kernel answers on an interface for an address of this host.
func (f *facts) isLocal(host string, a netip.Addr) bool {
	if a.Is6() && a.IsLinkLocalUnicast() {
		for _, l := range f.workloads {
			if l.Name == host {
				a = a.WithZone(strconv.Itoa(l.Index))
			}
		}
	}
	return f.local[a.String()]
}

// proxyEntries are the kernel's of neighbour discovery, by interface.
func proxyEntries() map[int][]netip.Addr {
	by := map[int][]netip.Addr{}
	all, _ := netlink.NeighProxyList(0, unix.AF_INET6)
	for _, n := range all {
		if a, ok := netip.AddrFromSlice(n.IP); ok {
			by[n.LinkIndex] = append(by[n.LinkIndex], a)
		}
	}
	return by
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
		p := &pod{host: l.Name, hostMTU: l.MTU, hostDown: !l.Up(), netns: path}
		if err := inNetns(path, func() (err error) { return p.look(f, l) }); err != nil {
			continue // the pod has gone meanwhile
		}
		for _, v := range families {
			a := p.of(v)
			if to := f.routed[v][int32(l.Index)]; len(to) > 0 {
				a.leads = to[0]
			}
			for i := range a.addresses {
				a.addresses[i].routed = f.view.Table.LeadsTo(a.addresses[i].Addr, int32(l.Index))
			}
		}
		f.pods = append(f.pods, *p)
	}
	if len(f.pods) == 0 {
		f.noPods = "none of them is named in /run/netns, or is a process's"
	}
}
