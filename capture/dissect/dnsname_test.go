package dissect_test

import (
	"bytes"
	"testing"

	"proxyarpd/capture/dissect"
)

// TestLongChains prints a message of thousands of records that each point to a chain of pointers as long as pointers
// reach. It must be given up, not followed to the end.
func TestLongChains(t *testing.T) {
	const reach, size = 1 << 14, 65000
	pointer := func(to int) []byte { return []byte{0xc0 | byte(to>>8), byte(to)} }
	chain := make([]byte, 1, reach) // ends in the root
	const start = 12 + 11           // behind the header and the first record's
	for len(chain) < reach-start-2 {
		chain = append(chain, pointer(max(start, start+len(chain)-2))...)
	}
	last := pointer(start + len(chain) - 2)
	var records []byte
	n := 1
	for ; len(chain)+len(records) < size; n++ {
		records = join(records, last, be16(5), be16(1), be32(0), be16(2), last)
	}
	message := join(be16(1), be16(0x8400), be16(0), be16(n), be32(0), []byte{0}, be16(10), be16(1), be32(0), be16(len(chain)), chain, records)
	udp := join(be16(53), be16(40000), be16(8+len(message)), be16(0), message)
	frame := join(make([]byte, 12), be16(0x0800), []byte{0x45, 0}, be16(20+len(udp)), make([]byte, 4), []byte{64, 17}, make([]byte, 10), udp)
	text := dissect.New(dissect.Options{Numeric: 2}).Append(nil, &dissect.Packet{Data: frame, Len: len(frame), LinkType: dissect.LinkEthernet})
	if followed := bytes.Count(text, []byte("CNAME")); !bytes.HasSuffix(text, []byte(" [|domain]\n")) || followed < 100 || followed > n/4 {
		t.Errorf("%d of %d names were followed: %.300q", followed, n, text)
	}
}
