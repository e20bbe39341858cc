// Package capture has what the daemon and `proxyarpd capture` share: the request
// and the reply that begin a capture, the verdict that ends each line, and the
// ring between the datapath and a session.
//
// The command with tcpdump's options is capture/cli. Text comes from
// capture/dissect, filter expressions are compiled by capture/filter, files are
// read and written by capture/pcapfile. This package does not know the datapath:
// the daemon describes a packet by a Verdict and its bytes.
package capture
