package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// labSysctls sets the calling thread's namespace, which has no link but lo yet,
// to what a lab stands on. A new namespace inherits IPv4's values from the
// machine's first one (net.core.devconf_inherit_init_net), so none is a default
// that could be relied on: Docker sets ip_forward, systemd rp_filter.
func labSysctls() error {
	set := []struct{ key, value string }{{"net/ipv4/ip_forward", "0"}}
	for _, which := range []string{"all", "default"} {
		for _, name := range []string{"forwarding", "proxy_arp", "rp_filter", "arp_ignore", "arp_announce", "arp_filter"} {
			set = append(set, struct{ key, value string }{"net/ipv4/conf/" + which + "/" + name, "0"})
		}
		// Addresses can be used at once, and nobody asks for routers: little is in captures
		// that no test asked for.
		for _, s := range []struct{ name, value string }{
			{"disable_ipv6", "0"}, {"forwarding", "0"}, {"proxy_ndp", "0"}, {"accept_ra", "0"}, {"accept_redirects", "0"},
			{"accept_dad", "0"}, {"router_solicitations", "0"}, {"addr_gen_mode", "0"},
		} {
			set = append(set, struct{ key, value string }{"net/ipv6/conf/" + which + "/" + s.name, s.value})
		}
	}
	for _, s := range set {
		if err := writeSysctl(s.key, s.value); err != nil {
			if strings.HasPrefix(s.key, "net/ipv6/") && errors.Is(err, fs.ErrNotExist) {
				continue // a kernel without IPv6
			}
			return err
		}
	}
	return nil
}

// kernelHasIPv6 reports whether the kernel does IPv6.
func kernelHasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6/conf")
	return err == nil
}

// carriesIPv6 reports whether links of an MTU carry IPv6; 0 is the kernel's 1500.
func carriesIPv6(mtu int) bool { return mtu == 0 || mtu >= minMTU6 }

// writeSysctl writes only what differs: /proc/sys may be read-only and right.
func writeSysctl(key, value string) error {
	path := filepath.Join("/proc/sys", key)
	if old, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(old)) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("lab: sysctl: %w", err)
	}
	return nil
}

// sysctlPath takes net.ipv4.ip_forward and, for interface names with a dot,
// net/ipv4/conf/eth0.1/forwarding.
func sysctlPath(key string) (string, error) {
	if !strings.Contains(key, "/") {
		key = strings.ReplaceAll(key, ".", "/")
	}
	if !strings.HasPrefix(key, "net/") || filepath.Clean(key) != key {
		return "", fmt.Errorf("lab: sysctl %s: only net.* belongs to a namespace", key)
	}
	return key, nil
}

// Sysctl reads a net.* sysctl as the node sees it.
func (l *Lab) Sysctl(node, key string) (string, error) {
	path, err := sysctlPath(key)
	if err != nil {
		return "", err
	}
	var value []byte
	err = l.Do(node, func() (err error) {
		value, err = os.ReadFile(filepath.Join("/proc/sys", path))
		return err
	})
	return strings.TrimSpace(string(value)), err
}

// SetSysctl writes a net.* sysctl of the node.
func (l *Lab) SetSysctl(node, key, value string) error {
	path, err := sysctlPath(key)
	if err != nil {
		return err
	}
	return l.Do(node, func() error { return writeSysctl(path, value) })
}
