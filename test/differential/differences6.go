package differential

import (
	"slices"

	"proxyarpd/internal/wire"
)

// known6 is what docs/DIFFERENCES.md lists for IPv6. Everything else fails the test.
var known6 = []difference{
	{
		name: "no-router's-destination",
		reason: "The kernel forwards a packet to the unspecified address by the default route, and one to a link-local address back to the link that it came from. " +
			"RFC 4291 section 2.5.2 forbids the one, and nobody can want the other.",
		is: func(_ *world, r *result) bool {
			h := ipv6Of(r.frame.Bytes)
			if h == nil || len(r.ours) > 0 {
				return false
			}
			dst := h.DstAddr()
			return dst.IsUnspecified() || dst.IsLinkLocalUnicast()
		},
	},
	{
		name: "discovery-beyond-the-link",
		reason: "Neighbour solicitations, and router advertisements of a workload, with hop limit 255, as neighbours send them, are not forwarded: " +
			"they are the responder's or the kernel's, which do not answer for an address that is elsewhere. What the kernel forwards of them no node takes, " +
			"since it has hop limit 254 then (RFC 4861 section 7.1.1).",
		is: func(_ *world, r *result) bool {
			h := ipv6Of(r.frame.Bytes)
			if h == nil || len(r.ours) > 0 || h.HopLimit() != 255 {
				return false
			}
			typ, l4 := upper6(h)
			return typ == wire.ProtoICMPv6 && len(l4) > 0 && (l4[0] == wire.ICMPv6NeighSolicit ||
				ports[r.frame.Port].pod && (l4[0] == wire.ICMPv6RouterAdvert || l4[0] == wire.ICMPv6Redirect))
		},
	},
	{
		name: "link-local-beyond-64",
		reason: "An error to a link-local source that is not of fe80::/64 the kernel sends by a default route where there is one. " +
			"RFC 4291 section 2.5.6 has no such addresses.",
		is: func(_ *world, r *result) bool {
			h := ipv6Of(r.frame.Bytes)
			return h != nil && h.SrcAddr().IsLinkLocalUnicast() && h.Src() != up1Station6("fe80::", int(h.Src()[15])) && len(r.ours) == 0
		},
	},
	{
		name: "redirect-elsewhere",
		reason: "The kernel sends a redirect to a sender that is a neighbour on another link than that which the packet came by. " +
			"RFC 4861 section 8.2 has routers tell neighbours on the link alone, and no other takes it.",
		is: func(_ *world, r *result) bool {
			rest := slices.DeleteFunc(slices.Clone(r.kernel), func(o output) bool {
				typ, ok := errorType(o.frame)
				return ok && typ == wire.ICMPv6Redirect && o.port != r.frame.Port
			})
			without := result{kernel: rest, ours: r.ours}
			return len(rest) < len(r.kernel) && without.equal()
		},
	},
	{
		name: "limit-again",
		reason: "A station that has had redirects, or an error, gets the next redirect after a second. " +
			"Two hosts that run side by side do not come to the same end where a frame is that close to the time.",
		is: func(_ *world, r *result) bool {
			without := result{kernel: withoutErrors(r.kernel), ours: withoutErrors(r.ours)}
			return r.limited && without.equal() && len(without.kernel)+len(without.ours)+1 == len(r.kernel)+len(r.ours)
		},
	},
}
