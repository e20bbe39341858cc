package forward

import (
	"bytes"
	"testing"

	"proxyarpd/internal/wire"
)

// TestFragmentsOne: a packet that fits goes out in one piece, without the
// reserved bit, as from ip_do_fragment.
func TestFragmentsOne(t *testing.T) {
	b := packet("10.65.0.1", "10.66.0.9", 100)
	ip := wire.IPv4(b[VnetLen+wire.EthernetLen:])
	ip.SetFrag(0x8000)
	ip.UpdateHeaderChecksum()
	n := 0
	ok := fragments(ip, 1500, make([]byte, 1500), func(piece []byte) {
		n++
		p := wire.IPv4(piece)
		if p.Frag() != 0 || !p.ChecksumOK() || !bytes.Equal(p.Payload(), ip.Payload()) {
			t.Errorf("frag %#x, %x", p.Frag(), p)
		}
	})
	if !ok || n != 1 {
		t.Errorf("%v, %d pieces", ok, n)
	}
}
