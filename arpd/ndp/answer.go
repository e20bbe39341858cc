package ndp

import (
	"proxyarpd/arpd"
	"proxyarpd/internal/wire"
)

// AdvertisementLen is the length of every answer in bytes.
const AdvertisementLen = wire.AdvertisementLen

// Answer decides about a solicitation that was read and, with verdict Answered, writes
// the advertisement (n = AdvertisementLen bytes, an Ethernet frame) to reply, which must
// have room for it. With any other verdict n is 0 and reply untouched. reply and the
// frame that s was read from must not overlap.
//
// The rules are those of ndisc_recv_ns (net/ipv6/ndisc.c) and RFC 4861 sections 7.2.4
// and 7.2.8. Where they differ from the kernel's:
//   - a gateway needs no local address, and wins over Routes;
//   - a target is proxied by its route; the kernel has an entry for each, and asks
//     neither for a route nor who has the address itself;
//   - a unicast probe for a proxied target is answered. The kernel forwards it, to
//     nobody, unless proxy_ndp of all interfaces is set (ip6_forward);
//   - a workload's duplicate address detection gets no answer but for a gateway: the
//     address that it probes is its own, in all likelihood;
//   - what stands behind extension headers is not looked at;
//   - nothing is delayed (proxy_delay): one host has the route;
//   - the override flag is set in all, the target's link-layer address told in all;
//   - a multicast solicitation without source link-layer address is answered to the MAC
//     that it came from, of which nothing is learnt; the kernel answers if it has the
//     neighbour already;
//   - the Ethernet source of the reply is Policy.Answer, not the device's MAC.
func Answer(reply []byte, s *Solicitation, p *Policy) (n int, v Verdict) {
	if v := judge(s, p); v != arpd.Answered {
		return 0, v
	}
	write(reply, s, p)
	return AdvertisementLen, arpd.Answered
}

// judge decides about a solicitation.
func judge(s *Solicitation, p *Policy) Verdict {
	if v := p.JudgeStations(s.Dst, s.Src, s.MAC); v != arpd.NotSpecified {
		return v
	}
	switch {
	case !isForUs(s, p):
		return arpd.IgnoreNDDestination
	case s.From == s.Target:
		return arpd.IgnoreNDOwnAddress
	}
	v := p.Judge(asker(s, p)).ForND()
	if v != arpd.Local && ofLink(s, p) {
		return arpd.IgnoreNDNotProxied
	}
	return v
}

// ofLink reports a target that belongs to this link, whatever routes say.
func ofLink(s *Solicitation, p *Policy) bool {
	return s.Target.IsLinkLocalUnicast() && (p.Uplink != nil || !p.IsGateway(s.Target))
}

// allRouters is the link's all-routers address (RFC 4291 section 2.7.1): this is one.
var allRouters = [16]byte{0xff, 0x02, 15: 0x02}

// isForUs reports whether a solicitation came to an address where we listen: one to
// another station's is on its way there, by this host as its router, and one to another
// group is for its members.
func isForUs(s *Solicitation, p *Policy) bool {
	if s.To.IsMulticast() {
		to := s.To.As16()
		return to == wire.SolicitedNode(s.Target.As16()) || to == wire.AllNodes || to == allRouters
	}
	if s.Dst.IsMulticast() && !p.IsGateway(s.Target) {
		return false // the kernel forwards nothing of the kind, and so proxies none
	}
	return s.To == s.Target || p.IsGateway(s.To)
}

func asker(s *Solicitation, p *Policy) arpd.Asker {
	a := s.Asker()
	a.Index = p.Index
	return a
}

// write makes the advertisement. To one who detects duplicates it goes to all nodes, and
// is no solicited one (RFC 4861 section 7.2.4).
func write(reply []byte, s *Solicitation, p *Policy) {
	flags := uint32(wire.NDOverride)
	if p.IsGateway(s.Target) {
		flags |= wire.NDRouter
	}
	to, dst := wire.MulticastMAC(wire.AllNodes), wire.AllNodes
	if !s.From.IsUnspecified() {
		flags |= wire.NDSolicited
		to, dst = s.MAC, s.From.As16()
	}
	target := s.Target.As16()
	wire.PutAdvertisement(reply, p.Answer, target, target, flags, to, dst)
}
