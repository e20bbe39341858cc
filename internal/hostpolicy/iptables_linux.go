package hostpolicy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Hooks of a legacy table, in the order of struct ipt_getinfo's arrays.
var iptHooks = [...]struct {
	index int
	name  string
}{
	{unix.NF_INET_PRE_ROUTING, "PREROUTING"},
	{unix.NF_INET_FORWARD, "FORWARD"},
	{unix.NF_INET_POST_ROUTING, "POSTROUTING"},
}

// xtables is where legacy tables of one family are, and how their rules are laid out.
type xtables struct {
	family  Family
	command string
	names   string // the file that lists the tables
	domain  int    // of sockets
	level   int    // of their options
	target  int    // offset of target_offset in struct ipt_entry, or ip6t_entry
	next    int    // of next_offset
	entry   int    // its size: matches and target follow
}

// The families (include/uapi/linux/netfilter_ipv4/ip_tables.h, netfilter_ipv6/ip6_tables.h).
var (
	xtables4 = xtables{IPv4, "iptables", "ip_tables_names", unix.AF_INET, unix.SOL_IP, 88, 90, 112}
	xtables6 = xtables{IPv6, "ip6tables", "ip6_tables_names", unix.AF_INET6, unix.SOL_IPV6, 140, 142, 168}
)

// iptables reports legacy tables, of iptables and ip6tables.
func (in *inspector) iptables(ctx context.Context) ([]Finding, error) {
	found, err := xtables4.inspect(ctx)
	if err != nil || !in.ipv6 {
		return found, err
	}
	found6, err := xtables6.inspect(ctx)
	return append(found, found6...), err
}

// inspect reports the tables of one family. Only tables that the kernel lists as present are opened: asking for another
// one would load its module and register its hooks, which costs every packet of the namespace.
func (x *xtables) inspect(ctx context.Context) ([]Finding, error) {
	names, err := os.ReadFile("/proc/thread-self/net/" + x.names)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// No such file where ip_tables or ip6_tables is not loaded; but without /proc nothing is known.
		if _, err := os.Stat("/proc/thread-self/net"); err != nil {
			return nil, err
		}
		return nil, nil
	case err != nil:
		return nil, err
	}
	if len(bytes.TrimSpace(names)) == 0 {
		return nil, nil
	}
	fd, err := unix.Socket(x.domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)

	var found []Finding
	for sc := bufio.NewScanner(bytes.NewReader(names)); sc.Scan(); {
		table := sc.Text()
		f, err := x.table(ctx, fd, table)
		if errors.Is(err, unix.ENOENT) {
			continue // gone since
		}
		if err != nil {
			return found, fmt.Errorf("table %s: %w", table, err)
		}
		found = append(found, f...)
	}
	return found, nil
}

// table reads one table. The size asked for must be the size it has, so a change in between is tried again.
func (x *xtables) table(ctx context.Context, fd int, table string) ([]Finding, error) {
	var err error
	for range dumpTries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var b []byte
		if b, err = x.info(fd, table); err != nil {
			return nil, err
		}
		info, perr := parseIPTInfo(b)
		if perr != nil {
			return nil, perr
		}
		var entries []byte
		entries, err = x.entries(fd, table, info.size)
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return x.judge(table, info, entries)
	}
	return nil, err
}

// iptSize bounds the memory that a table may claim (kube-proxy's largest are some ten megabytes).
const iptSize = 1 << 30

// An iptTableInfo is struct ipt_getinfo, or ip6t_getinfo, which is laid out alike.
type iptTableInfo struct {
	valid     uint32
	entry     [5]uint32 // where a hook's chain begins
	underflow [5]uint32 // its last entry, the policy
	size      uint32
}

const iptInfoLen = 32 + 4 + 5*4 + 5*4 + 4 + 4

func parseIPTInfo(b []byte) (info iptTableInfo, err error) {
	if len(b) < iptInfoLen {
		return info, fmt.Errorf("ipt_getinfo of %d bytes", len(b))
	}
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
	info.valid = u32(32)
	for h := range 5 {
		info.entry[h], info.underflow[h] = u32(36+4*h), u32(56+4*h)
	}
	if info.size = u32(80); info.size > iptSize {
		return info, fmt.Errorf("rules of %d bytes", info.size)
	}
	return info, nil
}

// iptTargetLen is the size of struct xt_entry_target; a standard target's verdict follows.
const iptTargetLen = 32

// judge counts the rules of the chains that forwarded packets meet. A chain's rules stand between its
// hook's entry and its underflow; user-defined chains and the error target come after all of them.
func (x *xtables) judge(table string, info iptTableInfo, entries []byte) ([]Finding, error) {
	var found []Finding
	for _, h := range iptHooks {
		if info.valid&(1<<h.index) == 0 {
			continue
		}
		at, end := int(info.entry[h.index]), int(info.underflow[h.index])
		rules := 0
		for at < end {
			if at+x.entry > len(entries) {
				return found, errors.New("an entry leaves the table")
			}
			next := int(binary.NativeEndian.Uint16(entries[at+x.next:]))
			if next < x.entry {
				return found, fmt.Errorf("an entry of %d bytes", next)
			}
			at += next
			rules++
		}
		if at != end || at+x.entry > len(entries) {
			return found, fmt.Errorf("chain %s does not end at its policy", h.name)
		}
		target := at + int(binary.NativeEndian.Uint16(entries[at+x.target:]))
		if target+iptTargetLen+4 > len(entries) {
			return found, fmt.Errorf("chain %s has a policy outside of the table", h.name)
		}
		// A verdict is -NF_x-1, and NF_DROP is 0.
		drop := int32(binary.NativeEndian.Uint32(entries[target+iptTargetLen:])) == -1
		if rules == 0 && !drop {
			continue
		}
		policy := ""
		if drop {
			policy = " (policy DROP)"
		}
		found = append(found, Finding{Kind: KindIPTables, Count: rules, Family: x.family, NAT: table == "nat",
			What: fmt.Sprintf("%s (legacy) table %s chain %s%s", x.command, table, h.name, policy)})
	}
	return found, nil
}
