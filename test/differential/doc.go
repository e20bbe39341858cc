// Package differential shows that proxyarpd is a router as Linux is: the same
// frames go into a host that forwards with the kernel and into one that runs
// proxyarpd, alike in all else, and what leaves at every port of both is
// compared, byte by byte.
//
// Frames come from a generator with a seed, in classes; the same seed, class
// and index make the same frame again:
//
//	go test ./test/differential -args -seed 7 -frames 100000
//	go test ./test/differential -args -seed 7 -world strict -replay ttl:12
//
// A world is of IPv4 or of IPv6 (world6.go); the IP ID or the flow label is the
// mark by which what comes out is known. With -engine kernel both hosts forward
// with the kernel: what differs then is chance, or the comparison's own fault.
//
// What is known to differ stands in differences.go and differences6.go, and for
// readers in docs/DIFFERENCES.md.
package differential
