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
// end, while it is held too. Request.Read fills the Packet and wire.PutARP writes
// the reply, not the Packet's own methods: UnmarshalBinary copies the addresses
// to a new slice, MarshalBinary returns a new slice, and neither takes one that
// is there. To read a request and write its reply takes them about 230 ns and two
// allocations, 56 bytes; Read and PutARP about 35 ns and none (BenchmarkCodec).
// FuzzAnswer demands that both ways give the same Packet and the same reply, byte
// for byte. mdlayher/ethernet has two allocations more, and pads to 60 bytes.
//
// The sockets are those of github.com/mdlayher/packet. Its ReadFrom and WriteTo
// take one frame a system call; recvmmsg and sendmmsg on its descriptors take up
// to 64.
package arpd
