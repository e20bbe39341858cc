// Package filter compiles expressions of pcap-filter(7), the language of tcpdump's filters, and runs them on frames.
//
//	f, err := filter.Compile("tcp port 443 and not host 10.0.0.1", filter.Ethernet)
//	if f.Match(frame, wireLen) { ... }
//
// # What it promises
//
// A filter selects the frames that libpcap 1.10.3 selects when it reads a capture file, decision by decision, also
// where that surprises:
//
//   - "and" and "or" have the same precedence and associate to the left; "not" binds tighter.
//   - A load beyond the captured bytes rejects the frame, also under "not".
//   - "vlan", "mpls", "pppoes" and "geneve" shift what stands to their right, also beyond an "or".
//   - An operand without qualifier inherits those of the one before it: "port 80 or 443".
//   - "host" means ip, arp or rarp; "port" means tcp, udp or sctp, first fragments only, no IPv6 extension headers;
//     tcp[...] and its like look into IPv4 only.
//   - An expression that can match nothing ("arp and ip") is an error.
//
// libpcap defines the language by the program that it generates, and which loads that program executes depends on
// libpcap's optimizer: a load that the optimizer drops can no longer reject a short frame. A tree of closures
// cannot follow that. So this package does as libpcap does: lexer, parser, typed syntax tree, a control flow graph of
// classic BPF blocks, the same passes of optimization in the same order, and then an interpreter. The program serves a
// packet socket as well (see [Filter.Program] and [CompileSocket]), which a tree of closures could not either.
//
// # Where it deviates
//
//   - Names of hosts are looked up in /etc/hosts only, never in DNS; names of networks, ports, protocols and Ethernet
//     addresses in /etc/networks, /etc/services, /etc/protocols and /etc/ethers. A name that is not there is an error.
//   - Expressions are at most 64 KiB long, nest at most 200 deep, and may not make more than 4096 blocks or
//     65536 instructions; libpcap has no such limits, but can need minutes.
//   - "protochain" follows at most 256 headers; libpcap can be made to loop for ever by a forged frame.
//   - After "geneve ... or", programs read memory that was not written: it is 0 here, anything in libpcap.
//   - A number behind a "\" is a port, but not a host; one that does not fit into 32 bits is an error everywhere.
//   - "ip broadcast" knows no netmask and means, as with tcpdump -r, the destination 0.0.0.0 or 255.255.255.255.
//   - Primitives of other link types (802.11, ATM, SS7, pf) are errors, as in libpcap; the wording of errors of the
//     syntax is not libpcap's. That of all others begins as libpcap's does.
package filter
