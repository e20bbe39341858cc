package ndp

import (
	"fmt"
	"net/netip"

	"proxyarpd/arpd"
	"proxyarpd/internal/wire"
)

// Explain judges a solicitation as Answer does and tells the rules one by one, the last
// of which decides. It is for people, and allocates.
func Explain(s *Solicitation, p *Policy) (v Verdict, steps []arpd.Step) {
	v = judge(s, p)
	rules := append(p.StationRules(s.Dst, s.Src, s.MAC),
		arpd.Rule{Rule: "IPv6 destination", Says: func() (string, bool) {
			switch {
			case !isForUs(s, p):
				return fmt.Sprintf("%s is neither the target, a gateway nor the target's group", s.To), true
			case s.From.IsUnspecified():
				return fmt.Sprintf("%s: duplicate address detection for %s (RFC 4862)", s.To, s.Target), false
			}
			return fmt.Sprintf("%s: %s asks for %s", s.To, s.From, s.Target), false
		}, Verdicts: []Verdict{arpd.IgnoreNDDestination}},
		arpd.Rule{Rule: "IPv6 source", Says: func() (string, bool) {
			if s.From == s.Target {
				return "asks for its own address", true
			}
			return fmt.Sprintf("%s is another address than the target", s.From), false
		}, Verdicts: []Verdict{arpd.IgnoreNDOwnAddress}},
		arpd.Rule{Rule: "scope of the target", Says: func() (string, bool) {
			if ofLink(s, p) {
				return fmt.Sprintf("%s belongs to this link, and is no gateway", s.Target), true
			}
			return fmt.Sprintf("%s is a gateway, or not bound to this link", s.Target), false
		}, Verdicts: []Verdict{arpd.IgnoreNDNotProxied}})
	return v, arpd.Tell(v, append(rules, p.Rules(asker(s, p))...))
}

// NewSolicitation makes the solicitation that a station would send to the target's
// group: who has target, tell from. A from of :: makes it duplicate address detection.
func NewSolicitation(sender wire.MAC, from, target netip.Addr) *Solicitation {
	group := wire.SolicitedNode(target.As16())
	return &Solicitation{Dst: wire.MulticastMAC(group), Src: sender, MAC: sender, From: from, To: netip.AddrFrom16(group), Target: target}
}
