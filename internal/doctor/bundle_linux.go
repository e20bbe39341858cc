package doctor

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"proxyarpd/internal/daemon"
)

// mostRoutes bounds each list of a bundle: the first lines of a million tell enough.
const mostRoutes = 10000

// Bundle writes a tar archive, compressed by gzip, of what a bug report needs:
// findings, configuration, the daemon's status, links, addresses, routes, rules,
// neighbours, sysctls, versions. No packet is in it.
func Bundle(ctx context.Context, w io.Writer, cfg daemon.Config, found []Finding) error {
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	var errs []error
	add := func(name string, text []byte) {
		h := &tar.Header{Name: "proxyarpd-report/" + name, Mode: 0o600, Size: int64(len(text)), ModTime: time.Now().Truncate(time.Second)}
		err := t.WriteHeader(h)
		if err == nil {
			_, err = t.Write(text)
		}
		errs = append(errs, err)
	}
	addJSON := func(name string, v any) {
		text, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			text = []byte(err.Error())
		}
		add(name, append(text, '\n'))
	}
	addJSON("findings.json", found)
	addJSON("config.json", cfg)
	if s, err := daemon.Query(ctx, cfg.Control, 0); err != nil {
		add("status.txt", []byte(err.Error()+"\n"))
	} else {
		addJSON("status.json", s)
	}
	add("versions.txt", versions(cfg.Version))
	add("links.txt", list(func(say func(string)) error {
		links, err := netlink.LinkList()
		for _, l := range links {
			a := l.Attrs()
			say(fmt.Sprintf("%d %s %s flags %s mtu %d mac %s master %d parent %d netnsid %d oper %s", a.Index, a.Name, l.Type(), a.Flags, a.MTU, a.HardwareAddr,
				a.MasterIndex, a.ParentIndex, a.NetNsID, a.OperState))
		}
		return err
	}))
	add("addresses.txt", list(func(say func(string)) error {
		addrs, err := netlink.AddrList(nil, unix.AF_UNSPEC)
		for _, a := range addrs {
			say(fmt.Sprintf("%d %s", a.LinkIndex, a.String()))
		}
		return err
	}))
	add("routes.txt", list(func(say func(string)) (err error) {
		for _, v := range families {
			n := 0
			err = errors.Join(err, netlink.RouteListFilteredIter(v.netlink(), &netlink.Route{}, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
				n++
				say(fmt.Sprintf("table %d %s", r.Table, r.String()))
				return n < mostRoutes
			}))
			if n == mostRoutes {
				say("and more")
			}
		}
		return err
	}))
	add("rules.txt", list(func(say func(string)) (err error) {
		for _, v := range families {
			rules, wrong := netlink.RuleList(v.netlink())
			for _, r := range rules {
				say(v.name + " " + r.String())
			}
			err = errors.Join(err, wrong)
		}
		return err
	}))
	add("neighbours.txt", list(func(say func(string)) error {
		all, err := netlink.NeighList(0, unix.AF_UNSPEC)
		for _, n := range all[:min(len(all), mostRoutes)] {
			say(fmt.Sprintf("%d %s %s state %#x flags %#x", n.LinkIndex, n.IP, n.HardwareAddr, n.State, n.Flags))
		}
		return err
	}))
	add("proxied.txt", list(func(say func(string)) error {
		all, err := netlink.NeighProxyList(0, unix.AF_UNSPEC)
		for _, n := range all[:min(len(all), mostRoutes)] {
			say(fmt.Sprintf("%d %s", n.LinkIndex, n.IP))
		}
		return err
	}))
	add("sysctls.txt", sysctlsText())
	errs = append(errs, t.Close(), z.Close())
	return errors.Join(errs...)
}

// list makes lines of what fn says; an error is one more.
func list(fn func(say func(string)) error) []byte {
	var b strings.Builder
	if err := fn(func(line string) { fmt.Fprintln(&b, line) }); err != nil {
		fmt.Fprintln(&b, "error:", err)
	}
	return []byte(b.String())
}

func versions(own string) []byte {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return []byte(err.Error())
	}
	release, _ := os.ReadFile("/etc/os-release")
	return fmt.Appendf(nil, "proxyarpd %s, %s %s/%s\nLinux %s %s\n%s", own, runtime.Version(), runtime.GOOS, runtime.GOARCH,
		unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Version[:]), release)
}

// sysctlsText has the settings that count for ARP, neighbour discovery and forwarding.
func sysctlsText() []byte {
	var b strings.Builder
	for _, pattern := range []string{"ipv4/ip_forward", "ipv4/ip_default_ttl", "ipv4/fib_*", "ipv4/icmp_*", "ipv4/conf/*/*arp*", "ipv4/conf/*/forwarding", "ipv4/conf/*/rp_filter", "ipv4/conf/*/*redirects",
		"ipv4/conf/*/accept_local", "ipv4/conf/*/route_localnet", "ipv4/conf/*/accept_source_route", "ipv4/neigh/*/proxy_*", "ipv4/neigh/*/*solicit", "ipv4/neigh/*/unres_qlen_bytes",
		"ipv6/fib_*", "ipv6/icmp/*", "ipv6/conf/*/*forwarding", "ipv6/conf/*/disable_ipv6", "ipv6/conf/*/accept_ra", "ipv6/conf/*/*dad*", "ipv6/conf/*/addr_gen_mode", "ipv6/conf/*/hop_limit", "ipv6/conf/*/mtu",
		"ipv6/conf/*/proxy_ndp", "ipv6/conf/*/*_na", "ipv6/conf/*/*redirects", "ipv6/neigh/*/proxy_*", "ipv6/neigh/*/*solicit", "ipv6/neigh/*/unres_qlen_bytes"} {
		files, _ := filepath.Glob("/proc/sys/net/" + pattern) // the pattern is sound
		for _, f := range files {
			if text, err := os.ReadFile(f); err == nil {
				fmt.Fprintf(&b, "%s = %s\n", strings.ReplaceAll(strings.TrimPrefix(f, "/proc/sys/"), "/", "."), strings.TrimSpace(string(text)))
			}
		}
	}
	return []byte(b.String())
}
