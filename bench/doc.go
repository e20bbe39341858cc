// Package bench measures the same work through the kernel and through proxyarpd,
// in labs of its own, interleaved round by round in one run.
//
// # How a figure is made
//
// Contestants take turns (A B A B ...) in the same lab: the kernel as forwarder
// (ip_forward 1, proxy_arp 1, proxy_delay 0, no daemon), then proxyarpd with all of
// that at 0. Between turns the pods forget their neighbours and reach each other
// once, unmeasured. A row gives the median of the rounds, the lowest and the
// highest, and the ratio of the medians to the kernel's.
//
// # Parts
//
//   - stats.go, report.go, sequence.go: numbers only, no sockets.
//   - generator_linux.go: a pinned thread that sends prebuilt frames by sendmmsg.
//   - counter_linux.go, sink_linux.go: what arrived, by the receiving kernel's own
//     counters (cheap, exact), or datagram by datagram (sequence numbers).
//   - exchange_linux.go: closed loops, UDP ping-pong and ARP, on blocking sockets.
//   - contestant_linux.go, bed_linux.go: the lab, and who forwards in it.
//   - noise_linux.go: what other processes took of the CPUs meanwhile.
//   - run_linux.go and the work_*.go files: the figures.
package bench
