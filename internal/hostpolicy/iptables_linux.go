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

// legacy is what the two programs of legacy tables differ in.
type legacy struct {
	program string
	names   string // file of the tables that are present
	family  int    // of the socket to ask by
	level   int    // of its options
	target  int    // offsets in struct ipt_entry, or ip6t_entry, which is followed by its
	next    int    // matches and its target
	length  int    // of that structure
}

var (
	legacyIPv4 = &legacy{"iptables", "ip_tables_names", unix.AF_INET, unix.SOL_IP, 88, 90, 112}
	legacyIPv6 = &legacy{"ip6tables", "ip6_tables_names", unix.AF_INET6, unix.SOL_IPV6, 140, 142, 168}
)

// iptables reports legacy tables of all families that are forwarded.
func (in *inspector) iptables(ctx context.Context) ([]Finding, error) {
	found, err := legacyIPv4.tables(ctx)
	if err != nil || !in.ipv6 {
		return found, err
	}
	more, err := legacyIPv6.tables(ctx)
	return append(found, more...), err
}

// tables reports those of one family. Only tables that the kernel lists as present are opened: asking for another one
// would load its module and register its hooks, which costs every packet of the namespace.
func (l *legacy) tables(ctx context.Context) ([]Finding, error) {
	names, err := os.ReadFile("/proc/thread-self/net/" + l.names)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// No such file where ip_tables is not loaded; but without /proc nothing is known.
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
	fd, err := unix.Socket(l.family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)

	var found []Finding
	for sc := bufio.NewScanner(bytes.NewReader(names)); sc.Scan(); {
		table := sc.Text()
		f, err := l.table(ctx, fd, table)
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
func (l *legacy) table(ctx context.Context, fd int, table string) ([]Finding, error) {
	var err error
	for range dumpTries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var b []byte
		if b, err = l.info(fd, table); err != nil {
			return nil, err
		}
		info, perr := parseIPTInfo(b)
		if perr != nil {
			return nil, perr
		}
		var entries []byte
		entries, err = l.entries(fd, table, info.size)
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return l.judge(table, info, entries)
	}
	return nil, err
}

// iptSize bounds the memory that a table may claim (kube-proxy's largest are some ten megabytes).
const iptSize = 1 << 30

// An iptTableInfo is struct ipt_getinfo (include/uapi/linux/netfilter_ipv4/ip_tables.h), and ip6t_getinfo.
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

const iptTargetLen = 32 // struct xt_entry_target; a standard target's verdict follows

// judge counts the rules of the chains that forwarded packets meet. A chain's rules stand between its
// hook's entry and its underflow; user-defined chains and the error target come after all of them.
func (l *legacy) judge(table string, info iptTableInfo, entries []byte) ([]Finding, error) {
	var found []Finding
	for _, h := range iptHooks {
		if info.valid&(1<<h.index) == 0 {
			continue
		}
		at, end := int(info.entry[h.index]), int(info.underflow[h.index])
		rules := 0
		for at < end {
			if at+l.length > len(entries) {
				return found, errors.New("an entry leaves the table")
			}
			next := int(binary.NativeEndian.Uint16(entries[at+l.next:]))
			if next < l.length {
				return found, fmt.Errorf("an entry of %d bytes", next)
			}
			at += next
			rules++
		}
		if at != end || at+l.length > len(entries) {
			return found, fmt.Errorf("chain %s does not end at its policy", h.name)
		}
		target := at + int(binary.NativeEndian.Uint16(entries[at+l.target:]))
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
		found = append(found, Finding{Kind: KindIPTables, Count: rules,
			What: fmt.Sprintf("%s (legacy) table %s chain %s%s", l.program, table, h.name, policy)})
	}
	return found, nil
}
