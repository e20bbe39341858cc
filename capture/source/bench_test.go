package source_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"proxyarpd/capture"
	"proxyarpd/capture/pcapfile"
	"proxyarpd/capture/source"
	"proxyarpd/capture/source/sourcetest"
)

// benchFile is a file of many packets; of a pcapng file each has a verdict.
func benchFile(b *testing.B, format pcapfile.Format, packets int) string {
	b.Helper()
	var buf bytes.Buffer
	i := &pcapfile.Interface{Name: "cali1", Description: capture.IfindexText(7), LinkType: pcapfile.LinkTypeEthernet, SnapLen: pcapfile.MaxSnapLen}
	w := pcapfile.PacketWriter(pcapfile.NewPcapWriter(&buf, pcapfile.PcapHeader{LinkType: i.LinkType, SnapLen: i.SnapLen}))
	p := pcapfile.Packet{Data: sourcetest.UDP(3), Len: 47, LinkType: i.LinkType, Interface: i, Has: pcapfile.HasTime}
	if format == pcapfile.Pcapng {
		w = pcapfile.NewWriter(&buf, &pcapfile.Section{})
		p.Comments = [][]byte{failed.AppendComment(nil)}
	}
	for n := range packets {
		p.Time = int64(n) * 1000
		if err := w.WritePacket(&p); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	name := filepath.Join(b.TempDir(), "x")
	if err := os.WriteFile(name, buf.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	return name
}

// What a packet of a file costs: by pcapfile's Reader alone, and as gopacket has it.
func BenchmarkFile(b *testing.B) {
	const packets = 20_000
	for _, format := range []pcapfile.Format{pcapfile.Pcap, pcapfile.Pcapng} {
		name := benchFile(b, format, packets)
		b.Run(format.String()+"/reader", func(b *testing.B) {
			for b.Loop() {
				f, err := os.Open(name)
				if err != nil {
					b.Fatal(err)
				}
				r, err := pcapfile.NewReader(f)
				for p := new(pcapfile.Packet); err == nil; {
					err = r.Next(p)
				}
				f.Close()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*packets), "ns/packet")
		})
		for method, read := range map[string]bool{"zerocopy": true, "copy": false} {
			b.Run(format.String()+"/"+method, func(b *testing.B) {
				for b.Loop() {
					f, err := source.OpenFile(b.Context(), name, source.Options{})
					for err == nil {
						if read {
							_, _, err = f.ZeroCopyReadPacketData()
						} else {
							_, _, err = f.ReadPacketData()
						}
					}
					if err != io.EOF {
						b.Fatal(err)
					}
					f.Close()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*packets), "ns/packet")
			})
		}
	}
}
