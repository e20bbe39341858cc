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
		// No IPv6, so no neighbour and multicast listener discovery in captures.
		set = append(set, struct{ key, value string }{"net/ipv6/conf/" + which + "/disable_ipv6", "1"})
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
