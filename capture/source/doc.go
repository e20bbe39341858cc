// Package source gives other Go programs proxyarpd's packets by the interface
// by which Go programs read packets: each source is a
// [gopacket.PacketDataSource] and a [gopacket.ZeroCopyPacketDataSource].
//
//   - [OpenFile] reads a capture file, pcap or pcapng, or standard input.
//   - [OpenLive] captures from a packet socket, without a daemon.
//   - [Dial] captures through a running daemon, which says what became of each
//     packet.
//
// What is known of a packet beside its bytes is in the CaptureInfo's
// AncillaryData: one [*Ancillary], which [AncillaryOf] finds. Its Verdict is set
// for packets of a daemon and of pcapng files that `proxyarpd capture -w` wrote.
//
//	s, err := source.Dial(ctx, source.DefaultControl, source.Options{Drops: true})
//	...
//	packets := gopacket.NewPacketSource(s, layers.LayerTypeEthernet)
//	for p := range packets.Packets() {
//		a := source.AncillaryOf(p.Metadata().CaptureInfo)
//		fmt.Println(a.Verdict.Reason, p)
//	}
//
// # Link types
//
// Packets of one source may have several link types: [Ancillary] has the
// packet's, LinkType of a source that of its first, or of its interface. Its
// numbers are those of https://www.tcpdump.org/linktypes.html, which
// gopacket/layers has as layers.LinkType where they fit into eight bits.
//
// # Goroutines and errors
//
// Packets are read by one goroutine at a time. Stop, Close, Err, Statistics and
// AskStatistics are for any. An error ends a source: the read that meets it
// returns it, those that follow return io.EOF, and Err returns it for who reads
// through a channel of gopacket's, which does not hand on errors.
//
// This package needs gopacket's core alone, not its layers.
package source
