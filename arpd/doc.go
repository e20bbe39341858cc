// Package arpd answers ARP requests of workloads: for their gateway always, for
// other targets by the rules of the kernel's proxy_arp. On uplinks it answers
// requests for workloads, and announces their addresses (RFC 1027, RFC 5227).
//
// Two pure functions handle a frame: Request.Read checks and reads it, Answer
// decides and writes the reply. A Responder calls them with the frames of one
// packet socket. The socket is bound to interface 0, so it receives from every
// interface of the network namespace, also from one that appears later. A frame
// that is sent in the first instant of an interface waits in the socket's queue
// until the interface is known. Frames of interfaces where nothing is answered get
// the verdict not-workload.
//
// A request for a proxied target may arrive before the event of its route. Then
// it is held for at most a tenth of a second (Options.Behind).
//
// The sender of an answered request is reported, for the host's neighbour table
// (Options.Neighbours).
//
// Workloads are sent no gratuitous ARP: they ask when they need to know (RFC 826).
// The stations of an uplink's network may have asked when another host had the
// address: an Announcer tells them, as its Agenda says.
//
// # Other protocols
//
// A Responder may have another Protocol than ARP: package ndp's, by which it answers
// neighbour solicitations. It shares all but the header: the rules about who is answered
// for what (Policy.Judge), what is held, learnt and limited, and the verdicts. An
// Announcer announces addresses of both families.
//
// # mdlayher/arp
//
// A request is an arp.Packet of github.com/mdlayher/arp from its reading to its
// end. Request.Read fills the Packet and wire.PutARP writes
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
