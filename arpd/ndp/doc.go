// Package ndp answers neighbour solicitations (RFC 4861) as package arpd answers ARP
// requests: of workloads for their gateway always, for other targets by the routes, and
// on uplinks for workloads.
//
// Two pure functions handle a frame: Solicitation.Read checks and reads it, Answer
// decides and writes the advertisement. All else is arpd's: the Responder with its
// socket, limits and counters, the rules of Policy.Judge, and the Announcer, which sends
// unsolicited advertisements for addresses of IPv6. Its own are Groups, the memberships
// in solicited-node groups by which solicitations get through to the host at all.
//
// # Source of an advertisement
//
// It is the target, of every advertisement. RFC 4861 section 7.2.4 asks for an address
// of the interface. A gateway's address is one that we hold there, and the kernel takes
// the target of a solicitation for an own address, too. For the address of a workload
// an address of the interface would do, but there may be none: workload interfaces need
// no global address, and switches that bind a port to its addresses refuse a link-local
// one. Target and MAC together are what those see in each packet that the workload sends
// through this host, so what lets these pass lets the advertisement pass.
//
// # Flags
//
// Override is set in all: while a route leads to a workload one host has it, so what a
// neighbour cache has besides is old. RFC 4861 section 7.2.8 leaves it to the owner to
// override a proxy, but here there is no owner on the link. Router is set for gateways
// alone, whatever the kernel's forwarding is.
package ndp

import "proxyarpd/arpd"

// The types that are those of ARP, with addresses of IPv6 in them.
type (
	Policy    = arpd.Policy
	Uplink    = arpd.Uplink
	Routes    = arpd.Routes
	Options   = arpd.Options
	Responder = arpd.Responder
	Verdict   = arpd.Verdict
)

// Open is arpd.Open for neighbour discovery: its socket receives the IPv6 frames of all
// interfaces, of which its filter passes solicitations and advertisements.
func Open(o Options) (*Responder, error) {
	o.Protocol = new(protocol)
	return arpd.Open(o)
}
