package dissect_test

import (
	"path/filepath"
	"testing"
	"time"

	"proxyarpd/capture/dissect"
)

// FuzzAppend looks for frames that make the printer panic, print without end or print what a terminal would obey.
func FuzzAppend(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.pcap"))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, corpusFiles()...) {
		for _, pkt := range readCapture(f, file) {
			f.Add(pkt.Data, pkt.LinkType, uint32(pkt.Len))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, link uint16, length uint32) {
		if len(data) > 4096 {
			return
		}
		pkt := dissect.Packet{Seconds: 1, Data: data, Len: int(length % (1 << 19)), LinkType: link}
		for _, a := range arguments {
			a.o.Location = time.UTC
			p := dissect.New(a.o)
			text := p.Append(nil, &pkt)
			// A dump is four characters a byte; a dump of what headers quote comes again for each of them.
			if limit := 4096 + 4096*len(data); len(text) > limit {
				t.Fatalf("%d bytes of text for %d of a frame", len(text), len(data))
			}
			for i, c := range text {
				if c != '\n' && c != '\t' && (c < ' ' || c >= 0x7f) {
					t.Fatalf("byte %#x at %d of %q", c, i, text)
				}
			}
			if len(text) == 0 || text[len(text)-1] != '\n' {
				t.Fatalf("no whole lines: %q", text)
			}
		}
	})
}
