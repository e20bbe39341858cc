package dissect_test

import (
	"path/filepath"
	"testing"

	"proxyarpd/capture/dissect"
)

// BenchmarkAppend prints the lab's traffic, a packet each time.
func BenchmarkAppend(b *testing.B) {
	packets := readCapture(b, filepath.Join("testdata", "lab.pcap"))
	for name, o := range map[string]dissect.Options{
		"line": {Numeric: 2, Link: true}, "verbose": {Numeric: 2, Verbose: 1}, "dump": {Numeric: 2, HexASCII: 1},
	} {
		b.Run(name, func(b *testing.B) {
			p := dissect.New(o)
			var out []byte
			bytes := 0
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				pkt := &packets[i%len(packets)]
				out = p.Append(out[:0], pkt)
				bytes += len(pkt.Data)
			}
			b.SetBytes(int64(bytes / b.N))
		})
	}
}
