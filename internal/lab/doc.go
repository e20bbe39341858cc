// Package lab makes, enters and removes the network-namespace labs in which
// proxyarpd is tested, shown and measured: one or two hosts joined by a wire,
// each with pods behind veths, wired as Calico wires them. It speaks netlink
// only; iproute2 need not be installed.
//
//	  host0                                   host1
//	+------------------------+              +------------------------+
//	| ens192 192.168.1.32/24 |--------------| ens192 192.168.1.16/24 |
//	+------------------------+              +------------------------+
//	  |                                       |
//	  +- veth0 --- eth0 ns0 10.20.1.2/24      +- veth0 --- eth0 ns1 10.20.1.3/24
//
// In every pod:
//
//	169.254.1.1 dev eth0 scope link
//	default via 169.254.1.1 dev eth0
//
// On host0 (host1 is the mirror image):
//
//	10.20.1.2 dev veth0 scope link
//	10.20.1.3 via 192.168.1.16 dev ens192
//
// Nobody has the address 169.254.1.1, no host forwards (ip_forward 0,
// proxy_arp 0), IPv6 is off, and no host has a route to anything outside of
// its lab: what passes between pods passes through proxyarpd, or not at all.
//
// # Forms
//
//   - FormArticle: as drawn. A pod's address is a /24, so it takes the other
//     pod for a neighbour and asks for it directly. The host's end of the veth
//     keeps the random MAC the kernel gave it.
//   - FormSlash32: the same with /32 addresses, so everything goes through
//     the gateway 169.254.1.1.
//   - FormCalico: several pods a host, host ends called cali and 11 hex digits
//     with MAC ee:ee:ee:ee:ee:ee, /32 addresses 10.65.HOST.N, and one block
//     route per 250 pods to the other host.
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
