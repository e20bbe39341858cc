// Package arpd answers ARP requests of workloads for their gateway, and by the
// kernel's proxy_arp rules for further targets.
//
// A frame goes through two pure functions: Request.Read checks it and reads it,
// Answer decides and writes the reply. A Responder feeds them from one packet
// socket for the whole network namespace. The socket is bound to interface 0: it
// receives from every interface, also from one that did not exist when it was
// opened. A frame that a pod sends in the first instant of its interface's life
// waits in the socket's queue until the interface is known, instead of being lost
// before a bind. Frames of interfaces that are not workloads end there with the
// verdict not-workload.
//
// A request for a proxied target may come before the news of its route. It is
// held until the news is there, for at most a tenth of a second (Options.Behind).
//
// The sender of a request that is answered is handed on for the host's
// neighbour table (Options.Neighbours).
//
// Nothing is announced: no gratuitous ARP is ever sent (a workload asks when it
// needs to know, RFC 826).
//
// # mdlayher/arp
//
// A request is an arp.Packet of github.com/mdlayher/arp from its reading to its
// end, held requests included. The bytes are read by Request.Read and written by
// wire.PutARP, not by the Packet's own methods: UnmarshalBinary copies the
// addresses to a new slice and MarshalBinary returns a new slice, so a request
// that is answered costs two allocations of 56 bytes together, and both methods
// need their lengths checked before (MarshalBinary panics for others). The fuzz
// test holds Read and the reply to what these methods make of the same bytes.
// BenchmarkCodec compares: CODECFIGURES. mdlayher/ethernet is left out: its
// Frame allocates too, and pads to 60 bytes.
//
// Sockets are those of github.com/mdlayher/packet. Frames pass by its ReadFrom
// and WriteTo, which take one at a time: recvmmsg and sendmmsg on its descriptor
// take up to 64.
package arpd
