package netstate

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const sizeofFibRuleHdr = 12 // struct fib_rule_hdr

// Attributes that x/sys/unix lacks (include/uapi/linux/fib_rules.h).
const (
	fraDSCP      = 25
	fraFlowLabel = 26
	fraSPortMask = 28
	fraDPortMask = 29
	fraDSCPMask  = 30
)

const allDSCP = 1<<6 - 1

// parseRule reads struct fib_rule_hdr and attributes (fib_nl_fill_rule in
// net/core/fib_rules.c, fib4_rule_fill in net/ipv4/fib_rules.c).
func parseRule(b []byte) (Rule, error) {
	r := Rule{SuppressPrefixLen: -1, SuppressGroup: -1}
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
	case unix.FRA_SUPPRESS_IFGROUP:
		r.SuppressGroup = int64(a.u32())
	case unix.FRA_L3MDEV:
		r.L3MDev = a.u8() != 0
	case unix.FRA_UID_RANGE:
		if len(a.val) != 8 {
			a.fail()
			break
		}
		r.UIDs = UIDRange{native.Uint32(a.val), native.Uint32(a.val[4:]), true}
	case unix.FRA_FLOW, unix.FRA_PAD: // a realm is a result, not a selector
	default:
		return parseRuleUpper(r, a)
	}
	return true
}

// parseRuleUpper is parseRuleAttr for what selects by a packet's header beyond
// its addresses.
func parseRuleUpper(r *Rule, a *attrs) bool {
	switch a.typ {
	case unix.FRA_IP_PROTO:
		r.IPProto = a.u8()
	case unix.FRA_SPORT_RANGE:
		a.ports(&r.SPort)
	case unix.FRA_DPORT_RANGE:
		a.ports(&r.DPort)
	case fraSPortMask:
		r.SPort.Mask = a.u16()
	case fraDPortMask:
		r.DPort.Mask = a.u16()
	case fraDSCP:
		if r.DSCP = a.u8(); r.DSCPMask == 0 {
			r.DSCPMask = allDSCP
		}
	case fraDSCPMask:
		r.DSCPMask = a.u8()
	default:
		return false
	}
	return true
}

// ports reads struct fib_rule_port_range.
func (a *attrs) ports(p *PortRange) {
	if len(a.val) != 4 {
		a.fail()
		return
	}
	p.First, p.Last = native.Uint16(a.val), native.Uint16(a.val[2:])
}

// ruleSelector names an attribute that is not modelled as ip rule does where it
// has a word.
func ruleSelector(typ uint16) string {
	switch typ {
	case unix.FRA_TUN_ID:
		return "tun_id"
	case fraFlowLabel:
		return "flowlabel"
	}
	return "attr" + strconv.Itoa(int(typ))
}
