package differential

import (
	"bytes"
	"slices"

	"proxyarpd/internal/wire"
)

// difference is one that is known, and may stay.
type difference struct {
	name   string
	reason string
	is     func(w *world, r *result) bool
}

// toSubnet reports whether a frame is an ICMP error to the broadcast address of one of the host's subnets, from which the
// packet that it is about claims to come. A device without ARP gives it no broadcast MAC.
func toSubnet(frame, about []byte) bool {
	if _, ok := errorType(frame); !ok || len(about) < 34 {
		return false
	}
	dst := wire.IPv4(frame[14:]).Dst()
	return dst == wire.IPv4(about[14:]).Src() && (dst == ip("10.1.15.255") || dst == ip("10.2.0.255"))
}

// known is what docs/DIFFERENCES.md lists. Everything else fails the test.
var known = []difference{
	{
		name: "broadcast-source",
		reason: "The kernel sends an error about a packet even to the broadcast address of a subnet, " +
			"by broadcast, if a packet claims to come from there. RFC 1122 section 3.2.2 forbids it, and it is of use to nobody but an attacker.",
		is: func(_ *world, r *result) bool {
			all := slices.Concat(r.kernel, r.ours) // ours where the kernel has the packet, and has told that station less so far
			return len(all) == 1 && (bytes.Equal(all[0].frame[:6], []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}) || toSubnet(all[0].frame, r.frame.Bytes))
		},
	},
	{
		name: "source-route-over-host",
		reason: "A packet that is to go over this host by its source route bears the host's own address, and packets to that are the kernel's, " +
			"which drops them if its forwarding is off. It does so with forwarding on, too, but for accept_source_route=1, which is not the default.",
		is: func(w *world, r *result) bool {
			h := wire.IPv4(r.frame.Bytes[14:])
			return w.sourceRoutes && len(r.ours) == 0 && h.Valid() && h.HeaderValid() && slices.Contains(hostOwn, h.Dst()) &&
				(bytes.IndexByte(h.Options(), 131) >= 0 || bytes.IndexByte(h.Options(), 137) >= 0)
		},
	},
	{
		name: "limit-again",
		reason: "A station that has had a redirect gets the next one after 20 ms, one that has had five errors the next one after a second. " +
			"Two hosts that run side by side do not come to the same end where a frame is that close to the time.",
		is: func(_ *world, r *result) bool {
			without := result{kernel: withoutErrors(r.kernel), ours: withoutErrors(r.ours)}
			return r.limited && without.equal() && len(without.kernel)+len(without.ours)+1 == len(r.kernel)+len(r.ours)
		},
	},
	{
		name: "default-router",
		reason: "Of several default routes the kernel takes, for errors of its own, the next one when it thinks that a gateway is dead " +
			"(fib_select_default); gateways with a permanent neighbour entry, as here, it thinks dead now and then.",
		is: func(w *world, r *result) bool {
			if !w.defaults || len(r.kernel) != 1 || len(r.ours) != 1 || r.kernel[0].port == r.ours[0].port {
				return false
			}
			_, kernel := errorType(r.kernel[0].frame)
			_, ours := errorType(r.ours[0].frame)
			return kernel && ours && bytes.Equal(wire.IPv4(r.kernel[0].frame[14:]).Payload(), wire.IPv4(r.ours[0].frame[14:]).Payload())
		},
	},
	{
		name: "looped-options",
		reason: "A packet whose route leads to lo goes round inside of the kernel until its TTL has run out, and each time options that record the way " +
			"are filled in. The error quotes it as it was at the end.",
		is: func(w *world, r *result) bool {
			h := wire.IPv4(r.frame.Bytes[14:])
			return h.Valid() && h.HeaderLen() > wire.IPv4MinLen && w.looped.IsValid() && w.looped.Contains(h.DstAddr())
		},
	},
	{
		name: "multicast-hop",
		reason: "The kernel sends a parameter problem back along a source route even where the last hop of that is a multicast group. " +
			"RFC 1122 section 3.2.2 forbids it.",
		is: func(_ *world, r *result) bool {
			return len(r.ours) == 0 && len(r.kernel) == 1 && len(r.kernel[0].frame) > 34 && r.kernel[0].frame[30]&0xf0 == 0xe0
		},
	},
}

func excused(w *world, r *result) (name string, ok bool) {
	all := known
	if w.ipv6 {
		all = known6
	}
	for _, d := range all {
		if d.is(w, r) {
			return d.name, true
		}
	}
	return "", false
}
