package hostpolicy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Attributes that x/sys/unix lacks (include/uapi/linux/netfilter/nf_tables.h).
const (
	nftaHookDevs          = 4 // NFTA_HOOK_DEVS: list of devices of a netdev chain
	nftaDeviceName        = 1 // NFTA_DEVICE_NAME
	nftaDevicePrefix      = 2 // NFTA_DEVICE_PREFIX, 6.18
	nftaFlowtableTable    = 1 // NFTA_FLOWTABLE_TABLE
	nftaFlowtableName     = 2 // NFTA_FLOWTABLE_NAME
	nftaFlowtableHook     = 3 // NFTA_FLOWTABLE_HOOK
	nftaFlowtableHookDevs = 3 // NFTA_FLOWTABLE_HOOK_DEVS
	nftTableDormant       = 1 // NFT_TABLE_F_DORMANT
	nfInetIngress         = 5 // NF_INET_INGRESS
	sizeofNfgenmsg        = 4
)

// A nftTable is named by family and name.
type nftTable struct {
	family uint8
	name   string
}

// A nftChain is what a chain's message tells of it.
type nftChain struct {
	table    nftTable
	name     string
	base     bool // is attached to a hook
	hook     uint32
	drop     bool // policy drop
	nat      bool // of type nat
	rules    int
	devices  []string // of a netdev or inet ingress chain
	prefixes []string // of the same, 6.16 and later: every device whose name begins so
}

// nftables reports base chains that forwarded packets meet, and flowtables. The tables of iptables-nft and
// ip6tables-nft are among them. Google's nftables library is not used here: it gives neither a chain's devices nor its number of rules
// without decoding each rule, of which kube-proxy writes tens of thousands.
func (in *inspector) nftables(ctx context.Context) ([]Finding, error) {
	nfnl := func(msg uint16) ([][]byte, error) {
		m, err := dump(ctx, unix.NETLINK_NETFILTER, unix.NFNL_SUBSYS_NFTABLES<<8|msg, make([]byte, sizeofNfgenmsg))
		if errors.Is(err, unix.EINVAL) {
			// What nfnetlink_rcv_msg says where there is no such subsystem or message.
			return nil, fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
		}
		return m, err
	}
	tables, err := nfnl(unix.NFT_MSG_GETTABLE)
	if err != nil || len(tables) == 0 {
		return nil, err
	}
	dormant := map[nftTable]bool{}
	for _, m := range tables {
		if t, asleep := parseTable(m); asleep {
			dormant[t] = true
		}
	}
	chains, err := nfnl(unix.NFT_MSG_GETCHAIN)
	if err != nil {
		return nil, err
	}
	var found []Finding
	for _, m := range chains {
		if c := parseChain(m); !dormant[c.table] {
			found = append(found, in.judgeChain(c)...)
		}
	}
	flowtables, err := nfnl(unix.NFT_MSG_GETFLOWTABLE)
	if errors.Is(err, errors.ErrUnsupported) {
		return found, nil // older than 4.16
	}
	for _, m := range flowtables {
		if f, ok := in.judgeFlowtable(m); ok {
			found = append(found, f)
		}
	}
	return found, err
}

// judgeChain returns a finding (for a device chain one for each of our interfaces) if the chain can do anything
// to a forwarded packet.
func (in *inspector) judgeChain(c nftChain) []Finding {
	if !c.base || c.rules == 0 && !c.drop {
		return nil
	}
	hook, perDevice := "", false
	switch c.table.family {
	case unix.NFPROTO_IPV4, unix.NFPROTO_IPV6, unix.NFPROTO_INET:
		switch c.hook {
		case unix.NF_INET_PRE_ROUTING:
			hook = "prerouting"
		case unix.NF_INET_FORWARD:
			hook = "forward"
		case unix.NF_INET_POST_ROUTING:
			hook = "postrouting"
		case nfInetIngress:
			if c.table.family == unix.NFPROTO_INET {
				hook, perDevice = "ingress", true
			}
		}
	case unix.NFPROTO_NETDEV:
		perDevice = true
		switch c.hook {
		case unix.NF_NETDEV_INGRESS:
			hook = "ingress"
		case unix.NF_NETDEV_EGRESS:
			hook = "egress"
		}
	}
	if hook == "" {
		return nil
	}
	detail := "hook " + hook
	if c.drop {
		detail += ", policy drop"
	}
	f := Finding{Kind: KindNFTables, What: fmt.Sprintf("nft table %s %s chain %s (%s)",
		familyName(c.table.family), c.table.name, c.name, detail), Count: c.rules, Family: familyOf(c.table.family), NAT: c.nat}
	if !perDevice {
		return []Finding{f}
	}
	var found []Finding
	for _, ifc := range in.ifs {
		if c.covers(ifc.Name) {
			g := f
			g.Interface = ifc.Name
			g.What = strings.TrimSuffix(f.What, ")") + ", device " + ifc.Name + ")"
			found = append(found, g)
		}
	}
	return found
}

func (c *nftChain) covers(device string) bool {
	for _, d := range c.devices {
		if d == device {
			return true
		}
	}
	for _, p := range c.prefixes {
		if strings.HasPrefix(device, p) {
			return true
		}
	}
	return false
}

// familyOf says whose packets meet the chains of a table.
func familyOf(nfproto uint8) Family {
	switch nfproto {
	case unix.NFPROTO_IPV4:
		return IPv4
	case unix.NFPROTO_IPV6:
		return IPv6
	}
	return AnyFamily
}

func familyName(f uint8) string {
	switch f {
	case unix.NFPROTO_IPV4:
		return "ip"
	case unix.NFPROTO_IPV6:
		return "ip6"
	case unix.NFPROTO_INET:
		return "inet"
	case unix.NFPROTO_NETDEV:
		return "netdev"
	}
	return fmt.Sprint(f)
}

func parseTable(m []byte) (t nftTable, dormant bool) {
	if len(m) < sizeofNfgenmsg {
		return t, false
	}
	t.family = m[0]
	for typ, v := range attributes(m[sizeofNfgenmsg:]) {
		switch typ {
		case unix.NFTA_TABLE_NAME:
			t.name = text(v)
		case unix.NFTA_TABLE_FLAGS:
			dormant = be32(v)&nftTableDormant != 0
		}
	}
	return t, dormant
}

// parseChain reads NFT_MSG_NEWCHAIN. The chain's use count is its number of rules: only a chain that is no base
// chain can be jumped to, so nothing else counts there (nft_verdict_init in net/netfilter/nf_tables_api.c).
func parseChain(m []byte) (c nftChain) {
	if len(m) < sizeofNfgenmsg {
		return c
	}
	c.table.family = m[0]
	for typ, v := range attributes(m[sizeofNfgenmsg:]) {
		switch typ {
		case unix.NFTA_CHAIN_TABLE:
			c.table.name = text(v)
		case unix.NFTA_CHAIN_NAME:
			c.name = text(v)
		case unix.NFTA_CHAIN_POLICY:
			c.drop = len(v) >= 4 && be32(v) == 0 // NF_DROP
		case unix.NFTA_CHAIN_TYPE:
			c.nat = text(v) == "nat"
		case unix.NFTA_CHAIN_USE:
			c.rules = int(be32(v))
		case unix.NFTA_CHAIN_HOOK:
			c.base = true
			for typ, v := range attributes(v) {
				switch typ {
				case unix.NFTA_HOOK_HOOKNUM:
					c.hook = be32(v)
				case unix.NFTA_HOOK_DEV:
					c.devices = append(c.devices, text(v))
				case nftaHookDevs:
					names, prefixes := parseDevices(v)
					c.devices = append(c.devices, names...)
					c.prefixes = append(c.prefixes, prefixes...)
				}
			}
		}
	}
	return c
}

// parseDevices reads a device list. 6.16 writes a prefix as a name without NUL, 6.18 under its own type.
func parseDevices(b []byte) (names, prefixes []string) {
	for typ, v := range attributes(b) {
		switch {
		case typ == nftaDeviceName && len(v) > 0 && v[len(v)-1] == 0:
			names = append(names, text(v))
		case typ == nftaDeviceName, typ == nftaDevicePrefix:
			prefixes = append(prefixes, text(v))
		}
	}
	return names, prefixes
}

// judgeFlowtable reports a flowtable on one of our interfaces: its fast path would see none of their packets.
func (in *inspector) judgeFlowtable(m []byte) (Finding, bool) {
	if len(m) < sizeofNfgenmsg {
		return Finding{}, false
	}
	var table, name string
	var c nftChain
	for typ, v := range attributes(m[sizeofNfgenmsg:]) {
		switch typ {
		case nftaFlowtableTable:
			table = text(v)
		case nftaFlowtableName:
			name = text(v)
		case nftaFlowtableHook:
			for typ, v := range attributes(v) {
				if typ == nftaFlowtableHookDevs {
					c.devices, c.prefixes = parseDevices(v)
				}
			}
		}
	}
	switch m[0] {
	case unix.NFPROTO_IPV4, unix.NFPROTO_IPV6, unix.NFPROTO_INET:
	default:
		return Finding{}, false
	}
	for _, ifc := range in.ifs {
		if c.covers(ifc.Name) {
			return Finding{Kind: KindNFTables, Family: familyOf(m[0]), Interface: ifc.Name, What: fmt.Sprintf(
				"nft table %s %s flowtable %s (device %s)", familyName(m[0]), table, name, ifc.Name)}, true
		}
	}
	return Finding{}, false
}
