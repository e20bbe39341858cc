// Package netstate follows what the kernel knows of links, addresses, routes,
// policy rules and neighbours of one network namespace, as typed events in the
// kernel's own order.
//
// A [Watcher] holds one netlink socket subscribed to all the groups it needs.
// One socket, because order between kinds matters (a route over a link arrives
// after the link) and two sockets have no order between them. Dumps go through
// a second socket; the subscription is older than any dump, so whatever
// changes while a dump runs is waiting in the queue and is applied afterwards.
// Applying a change that a dump already contained changes nothing, or, where
// order or number matter, has that kind read once more.
//
// Addresses, rules and routes are told as whole sets in the kernel's order. A
// [Requester] asks and changes what following does not cover.
//
// The kernel does not announce everything:
//
//   - fib_sync_down_dev and fib_sync_down_addr (net/ipv4/fib_semantics.c) drop
//     IPv4 routes without RTM_DELROUTE when a link goes down, is deleted, or
//     loses its last address, and (main table) when a preferred source goes;
//   - the flags DEAD and LINKDOWN of a nexthop come and go silently;
//   - a nexthop object takes its routes with it (fib_flush).
//
// The Watcher knows these rules: it drops at once what the kernel certainly
// dropped, and then reads the routes again, behind a request that takes the
// RTNL lock, so that the kernel has finished too. When the socket overruns
// (ENOBUFS) everything is read again, and only the differences are reported.
//
// What is not followed, because the kernel says nothing at all: an XDP program
// attached through a bpf_link. The value of the last link message stands. Of
// sysctls the kernel tells of those that a Netconf names, and of
// ignore_routes_with_linkdown, for which the routes are read again. Neighbours enter the states INCOMPLETE and DELAY
// without a message (net/core/neighbour.c), so those states are seen only by
// chance.
//
// IPv6 is followed where Config says so; else nothing of it is read but
// neighbours, which may be gateways of IPv4 routes. What differs from IPv4:
//
//   - routes that go with a link are told, unless the sysctl
//     net.ipv6.route.skip_notify_on_dev_down is set; flags of nexthops, preferred
//     sources and MTUs of routes change in silence;
//   - each nexthop is a route of its own, told alone when it is deleted and with
//     its siblings when it is added;
//   - a dump of routes during which some are deleted may leave out others, so it
//     is made again;
//   - routes that expire are passed over long before they are deleted, and that their
//     time was put off is not told;
//   - routes to link-local addresses and to groups are left out: each link has the
//     same ones, and no packet is forwarded by them;
//   - a link's MTU and disable_ipv6 are asked for when they may have changed. What
//     is written to net.ipv6.conf.*.mtu is not told, nor that force_forwarding went
//     by writing 0 to all.forwarding where that was 0.
//
// Parsing is separate from sockets: every parser takes the bytes of one
// message and returns an error for anything that is not well formed.
package netstate
