// Package route decides what happens to an IPv4 packet, as Linux's routing code
// would, and moves nothing.
//
// A Builder takes links, addresses, routes, rules, neighbours and settings as the
// kernel tells them, and publishes a Table. A Table is immutable, so any
// goroutine may read it. Table.Decide is a pure function: a packet and the link
// that it came in by go in, a Decision comes out, with verdict, route, next hop,
// neighbour and ICMP error.
//
// Table.Owner says whether a packet is ours or the kernel's. A Class says the
// same of a destination, for who sees nothing else: the eBPF programs.
package route
