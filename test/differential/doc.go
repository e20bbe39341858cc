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
// What is known to differ stands in differences.go, and for readers in
// docs/DIFFERENCES.md.
package differential
