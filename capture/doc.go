// Package capture is what `proxyarpd capture` is made of: the verdict that ends
// each line, the ring between the datapath and a session, and the command
// itself with tcpdump's options.
//
// The text comes from capture/dissect, filter expressions are compiled by
// capture/filter, files are capture/pcapfile's. Nothing here knows the datapath:
// the daemon tells of a packet by a Verdict and its bytes.
package capture
