package netstate

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const sizeofFibRuleHdr = 12 // struct fib_rule_hdr

// parseRule reads struct fib_rule_hdr and attributes (fib_nl_fill_rule in
// net/core/fib_rules.c, fib4_rule_fill in net/ipv4/fib_rules.c).
func parseRule(b []byte) (Rule, error) {
	r := Rule{SuppressPrefixLen: -1}
	if len(b) < sizeofFibRuleHdr {
		return r, short("fib_rule_hdr", b)
	}
	family, dstLen, srcLen := b[0], int(b[1]), int(b[2])
	if most := familyBits(family); dstLen > most || srcLen > most {
		return r, fmt.Errorf("%w: rule of family %d with %d and %d bits", errMalformed, family, dstLen, srcLen)
	}
	r.TOS, r.Table, r.Action = b[3], uint32(b[4]), RuleAction(b[7])
	r.Invert = native.Uint32(b[8:])&unix.FIB_RULE_INVERT != 0
	var from, to netip.Addr
	var other []string
	a := attrs{rest: b[sizeofFibRuleHdr:]}
	for a.next() {
		switch a.typ {
		case unix.FRA_DST:
			to = a.addr(family)
		case unix.FRA_SRC:
			from = a.addr(family)
		default:
			if !parseRuleAttr(&r, &a) {
				other = append(other, fmt.Sprintf("%s=%x", ruleSelector(a.typ), a.val))
			}
		}
	}
	if a.err != nil {
		return r, a.err
	}
	if (to.IsValid() != (dstLen > 0)) || (from.IsValid() != (srcLen > 0)) {
		return r, fmt.Errorf("%w: rule with a prefix length and no prefix, or the reverse", errMalformed)
	}
	if dstLen > 0 {
		r.To = netip.PrefixFrom(to, dstLen).Masked()
	}
	if srcLen > 0 {
		r.From = netip.PrefixFrom(from, srcLen).Masked()
	}
	r.Other = strings.Join(other, " ")
	return r, nil
}

// parseRuleAttr reads one attribute other than the prefixes; false means that
// it selects or suppresses by something that Rule does not model.
func parseRuleAttr(r *Rule, a *attrs) bool {
	switch a.typ {
	case unix.FRA_PRIORITY:
		r.Priority = a.u32()
	case unix.FRA_TABLE:
		r.Table = a.u32()
	case unix.FRA_IIFNAME:
		r.IIF = a.str()
	case unix.FRA_OIFNAME:
		r.OIF = a.str()
	case unix.FRA_FWMARK:
		r.Mark = a.u32()
	case unix.FRA_FWMASK:
		r.Mask = a.u32()
	case unix.FRA_GOTO:
		r.Goto = a.u32()
	case unix.FRA_SUPPRESS_PREFIXLEN:
		r.SuppressPrefixLen = int32(a.u32())
	case unix.FRA_PROTOCOL:
		r.Protocol = Protocol(a.u8())
	case unix.FRA_FLOW, unix.FRA_PAD: // a realm is a result, not a selector
	default:
		return false
	}
	return true
}

// ruleSelector names an attribute as ip rule does where it has a word. Those
// after FRA_DPORT_RANGE are from include/uapi/linux/fib_rules.h.
func ruleSelector(typ uint16) string {
	switch typ {
	case unix.FRA_TUN_ID:
		return "tun_id"
	case unix.FRA_SUPPRESS_IFGROUP:
		return "suppress_ifgroup"
	case unix.FRA_L3MDEV:
		return "l3mdev"
	case unix.FRA_UID_RANGE:
		return "uidrange"
	case unix.FRA_IP_PROTO:
		return "ipproto"
	case unix.FRA_SPORT_RANGE:
		return "sport"
	case unix.FRA_DPORT_RANGE:
		return "dport"
	case 25:
		return "dscp"
	case 26:
		return "flowlabel"
	case 28:
		return "sport_mask"
	case 29:
		return "dport_mask"
	case 30:
		return "dscp_mask"
	}
	return "attr" + strconv.Itoa(int(typ))
}
