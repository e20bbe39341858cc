package forward_test

import (
	"testing"

	"proxyarpd/forward"
	"proxyarpd/internal/wire"
)

// TestTimestampOption: the loop's own clock is there for each packet.
func TestTimestampOption(t *testing.T) {
	l, p, _, _ := newLoop(t)
	for range 3 {
		p.Inject(forward.IfPod1, forward.Packet("10.65.0.1", "10.65.0.2", 40, func(_ forward.Vnet, ip wire.IPv4) {
			ip[0] = 0x47                                   // two words of options where UDP was
			copy(ip[20:], []byte{68, 8, 5, 0, 0, 0, 0, 0}) // a timestamp, room for one
		}))
	}
	once(t, l)
	sent := p.Sent()
	if len(sent) != 3 {
		t.Fatalf("%d sent: %v", len(sent), l.Counters().Read().ByVerdict)
	}
	for _, s := range sent {
		if h := ip(s); h[22] != 9 || !h.ChecksumOK() {
			t.Errorf("options % x", h.Options())
		}
	}
}
