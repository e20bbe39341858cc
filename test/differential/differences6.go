package differential

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
		name: "limit-again",
		reason: "A station that has had redirects, or an error, gets the next redirect after a second. " +
			"Two hosts that run side by side do not come to the same end where a frame is that close to the time.",
		is: func(_ *world, r *result) bool {
			without := result{kernel: withoutErrors(r.kernel), ours: withoutErrors(r.ours)}
			return r.limited && without.equal() && len(without.kernel)+len(without.ours)+1 == len(r.kernel)+len(r.ours)
		},
	},
}
