// Package lab makes, enters and removes the network-namespace labs in which
// proxyarpd is tested, shown and measured: one or two hosts joined by a wire,
// each with pods behind veths, wired as Calico wires them. It speaks netlink
// only; iproute2 need not be installed.
//
//	  host0                                          host1
//	+------------------------------+               +------------------------------+
//	| ens192 192.168.1.32/24       |---------------| ens192 192.168.1.16/24       |
//	|        fd00:192:168:1::32/64 |               |        fd00:192:168:1::16/64 |
//	+------------------------------+               +------------------------------+
//	  |                                              |
//	  +- veth0 --- eth0 ns0 10.20.1.2/24             +- veth0 --- eth0 ns1 10.20.1.3/24
//	  |                     fd00:10:20:1::2/128      |                     fd00:10:20:1::3/128
//
// In every pod:
//
//	169.254.1.1 dev eth0 scope link
//	default via 169.254.1.1 dev eth0
//	default via fe80::ecee:eeff:feee:eeee dev eth0 onlink
//
// On host0 (host1 is the mirror image):
//
//	10.20.1.2 dev veth0 scope link
//	10.20.1.3 via 192.168.1.16 dev ens192
//	fd00:10:20:1::2 dev veth0
//	fd00:10:20:1::3 via fd00:192:168:1::16 dev ens192
//
// Nobody has the address 169.254.1.1; fe80::ecee:eeff:feee:eeee is that of host
// ends with MAC ee:ee:ee:ee:ee:ee (FormCalico). No host forwards (ip_forward 0,
// proxy_arp 0, and so for IPv6), and no host has a route to anything outside of
// its lab: what passes between pods passes through proxyarpd, or not at all.
// Links with an MTU below 1280, and kernels without IPv6, have IPv4 alone.
//
// # Forms
//
//   - FormArticle: as drawn. A pod's IPv4 address is a /24, so it takes the other
//     pod for a neighbour and asks for it directly. The host's end of the veth
//     keeps the random MAC the kernel gave it.
//   - FormSlash32: the same with /32 addresses, so everything goes through
//     the gateway 169.254.1.1.
//   - FormCalico: several pods a host, host ends called cali and 11 hex digits
//     with MAC ee:ee:ee:ee:ee:ee, addresses 10.65.HOST.N/32 and
//     fd00:10:65:HOST::N/128, and one block route per 250 pods to the other host.
//
// # Lifetime
//
// Namespaces are bind mounts /run/netns/NAME-NODE, so `ip netns exec` sees
// them. What exists is described in /run/proxyarpd/lab-NAME.json, and whoever
// makes, changes or removes a lab holds the flock of lab-NAME.lock. A lab
// marked transient (tests, the demo) holds that lock as long as its process
// lives: a free lock therefore means that the owner was killed, and the lab is
// removed by the next one who looks.
package lab
