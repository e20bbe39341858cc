package route

import (
	"encoding/binary"
	"net/netip"
	"strconv"
)

// RuleAction is what a policy rule does (include/uapi/linux/fib_rules.h, FR_ACT_*).
type RuleAction uint8

// The actions.
const (
	RuleToTable     RuleAction = 1
	RuleGoto        RuleAction = 2
	RuleNop         RuleAction = 3
	RuleBlackhole   RuleAction = 6
	RuleUnreachable RuleAction = 7
	RuleProhibit    RuleAction = 8
)

// String is the word of ip-rule(8).
func (a RuleAction) String() string {
	switch a {
	case RuleToTable:
		return "lookup"
	case RuleGoto:
		return "goto"
	case RuleNop:
		return "nop"
	case RuleBlackhole:
		return "blackhole"
	case RuleUnreachable:
		return "unreachable"
	case RuleProhibit:
		return "prohibit"
	}
	return strconv.Itoa(int(a))
}

// Rule is a policy rule as `ip rule` shows it. Packets have fwmark 0 here.
type Rule struct {
	Priority uint32
	Action   RuleAction
	Table    uint32
	Goto     uint32       // priority to go on at
	From, To netip.Prefix // invalid: any
	IIF      string       // "": any
	TOS      uint8        // the keyword tos: matches three bits of the DSCP; 0: any
	// DSCP, in the place that it has in the TOS byte, must match in the bits
	// of DSCPMask; mask 0: any.
	DSCP, DSCPMask uint8
	// FlowLabel, of 20 bits, must match in the bits of FlowLabelMask; mask 0: any.
	FlowLabel, FlowLabelMask uint32
	Proto                    uint8 // 0: any
	SPort, DPort             PortMatch
	Invert                   bool
	// Never is set for a selector that no forwarded packet here can match
	// (a mark, an oif, a uid that is not 0).
	Never bool
	// Undecided is set for a selector that packets of the kernel's may match
	// otherwise than ours: a mark that netfilter gives them, a tunnel's metadata.
	Undecided bool
	// SuppressPrefixLen drops results with a prefix of at most this length; -1: none.
	SuppressPrefixLen int
	// SuppressGroup drops results whose first nexthop is an interface of this
	// group, if SuppressByGroup is set.
	SuppressGroup   uint32
	SuppressByGroup bool

	fib    *fib
	iif    int32
	target int // index of the rule that Goto names, of the next one if there is none
}

// PortMatch selects ports, in host byte order: those from Low to High or, if
// Mask is not 0, those equal to Low in its bits. The zero PortMatch selects all.
type PortMatch struct{ Low, High, Mask uint16 }

// set is fib_rule_port_range_set (include/net/fib_rules.h).
func (m PortMatch) set() bool { return m.Low != 0 && m.High != 0 }

// matches is fib_rule_port_match.
func (m PortMatch) matches(port uint16) bool {
	if m.Mask != 0 {
		return (m.Low^port)&m.Mask == 0
	}
	return !m.set() || m.Low <= port && port <= m.High
}

// dissects reports whether the rule makes the kernel look at protocol and ports
// before it looks for a route (fib_rule_requires_fldissect).
func (r *Rule) dissects() bool {
	return r.IIF != "lo" && (r.Proto != 0 || r.SPort.set() || r.DPort.set())
}

// flow is what rules and routes select by (struct flowi4, struct flowi6). Protocol
// and ports are 0 unless a rule asks for them. A source that is not known yet is
// 0.0.0.0, or no address for IPv6 (RT6_LOOKUP_F_HAS_SADDR is not set).
type flow struct {
	dst, src     netip.Addr
	iif          int32  // of the ingress link; lo's for what this host sends itself
	tos          uint8  // TOS byte, or traffic class
	label        uint32 // flow label, 20 bits
	near         int32  // the interface whose routes IPv6 prefers among those of one metric; 0: any
	proto        uint8
	sport, dport uint16 // host byte order
}

// setPorts takes protocol and ports from what the dissector found, for the rules
// that ask for them.
func (f *flow) setPorts(k *flowKeys) {
	f.proto = k.proto
	f.sport, f.dport = binary.BigEndian.Uint16(k.ports[:]), binary.BigEndian.Uint16(k.ports[2:])
}

// reverse is the flow of the way back, as rp_filter asks for it
// (net/ipv4/fib_frontend.c, __fib_validate_source).
func (f *flow) reverse(iif int32) flow {
	return flow{dst: f.src, src: f.dst, iif: iif, tos: f.tos, label: f.label, proto: f.proto, sport: f.dport, dport: f.sport}
}

// matches is fib_rule_match, fib4_rule_match and fib6_rule_match (net/core/
// fib_rules.c, net/ipv4/fib_rules.c, net/ipv6/fib6_rules.c).
func (r *Rule) matches(f *flow) bool {
	return !r.Never &&
		(r.IIF == "" || (r.iif == f.iif && f.iif != 0)) &&
		(!r.From.IsValid() || r.From.Contains(f.src)) &&
		(!r.To.IsValid() || r.To.Contains(f.dst)) &&
		(r.TOS == 0 || r.TOS == f.tos&tosMask) &&
		(r.DSCP^f.tos)&r.DSCPMask == 0 &&
		(r.FlowLabel^f.label)&r.FlowLabelMask == 0 &&
		(r.Proto == 0 || r.Proto == f.proto) &&
		r.SPort.matches(f.sport) && r.DPort.matches(f.dport)
}

// suppresses is fib4_rule_suppress and fib6_rule_suppress, which see results that
// are no errors only. groups are those of interfaces.
func (r *Rule) suppresses(groups map[int32]uint32, got *Route) bool {
	if got.refuses() {
		return false
	}
	return int(got.Bits) <= r.SuppressPrefixLen ||
		r.SuppressByGroup && got.Dev != 0 && groups[got.Dev] == r.SuppressGroup
}

var (
	ruleUnreachable = &Route{Type: TypeUnreachable}
	ruleProhibit    = &Route{Type: TypeProhibit}
	ruleBlackhole   = &Route{Type: TypeBlackhole}
)

// decide follows fib_rules_lookup (net/core/fib_rules.c).
func (w *routing) decide(f *flow) (*Route, *Rule) {
	for i := 0; i < len(w.rules); i++ {
		r := &w.rules[i]
		if r.matches(f) == r.Invert {
			continue
		}
		switch r.Action {
		case RuleGoto:
			i = r.target - 1 // targets lie behind: the kernel refuses others
			continue
		case RuleNop:
			continue
		case RuleUnreachable:
			return ruleUnreachable, r
		case RuleProhibit:
			return ruleProhibit, r
		case RuleBlackhole:
			return ruleBlackhole, r
		}
		if r.fib == nil {
			continue
		}
		if got := r.fib.forFlow(f); got != nil && got.Type != TypeThrow && !r.suppresses(w.groups, got) {
			return got, r
		}
	}
	return nil, nil
}
