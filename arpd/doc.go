// Package arpd answers ARP requests of workloads for their gateway, and by the
// kernel's proxy_arp rules for further targets.
//
// Answer is the whole decision: bytes in, bytes and a Verdict out. A Responder
// feeds it from one packet socket for the whole network namespace: bound to
// interface 0 it receives from every interface, also from one that did not exist
// when it was opened. A frame that a pod sends in the first instant of its
// interface's life waits in the socket's queue until the interface is known,
// instead of being lost before a bind. Frames of interfaces that are not
// workloads end there with the verdict not-workload.
//
// A request for a proxied target that is faster than the news of its route waits
// for that, a moment (Options.Behind).
//
// The sender of a request that is answered is handed on for the host's
// neighbour table (Options.Neighbours).
//
// Nothing is announced: no gratuitous ARP is ever sent (a workload asks when it
// needs to know, RFC 826).
package arpd
