// Package bench measures the same work through the kernel and through proxyarpd,
// in labs of its own, interleaved round by round in one run.
//
// # How a figure is made
//
// A work is a list of steps, a step one comparison. In it the contestants take
// turns (A B A B ...) in the same lab: the kernel as forwarder (ip_forward 1,
// proxy_arp 1, proxy_delay 0, no daemon), proxyarpd with all of that at 0, and so
// on. Between turns the pods forget their neighbours and reach each other once,
// unmeasured. docs/BENCH.md is the user's view.
//
// # Parts
//
//   - stats.go, histogram.go, tally.go, search.go: numbers only, no sockets.
//   - report.go, table.go, compare.go: what is made of them; html.go, plots.go,
//     svg.go, report.html: the page; markdown.go: the tables of docs/BENCH.md.
//   - generator_linux.go: a pinned thread that sends prebuilt frames by sendmmsg.
//   - sink_linux.go, sink_program.go: what arrived, by an eBPF filter on the
//     receiving socket. trial_linux.go puts both together.
//   - exchange_linux.go: closed loops, UDP, TCP and ARP, on blocking sockets.
//   - bed_linux.go, found_linux.go, bulk_linux.go: where it happens.
//   - contestant_linux.go, rps_linux.go, ceiling_linux.go: who forwards there.
//   - noise_linux.go, cputime_linux.go: where CPU time went meanwhile.
//   - run_linux.go and the work_*.go files: the figures.
package bench
