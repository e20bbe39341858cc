package wire

import (
	"bytes"
	"testing"
)

// chain makes a fixed header and, behind it, extension headers and the upper layer as
// they are given: each begins with its type, which goes where it is named.
func chain(headers ...[]byte) IPv6 {
	p := make(IPv6, IPv6Len)
	p[0] = 6 << 4
	at := 6
	for _, h := range headers {
		p[at] = h[0]
		at = len(p)
		p = append(p, h[1:]...)
	}
	return p
}

func TestUpper(t *testing.T) {
	hop := []byte{ProtoHopByHop, 0, 0, 1, 4, 0, 0, 0, 0}
	long := append([]byte{ProtoDestOpts, 0, 1, 1, 12}, make([]byte, 12)...)
	first := []byte{ProtoFragment, 0, 0, 0, 1, 0, 0, 0, 9}
	later := []byte{ProtoFragment, 0, 0, 0, 9, 0, 0, 0, 9}
	auth := append([]byte{ProtoAH, 0, 4}, make([]byte, 22)...)
	udp := append([]byte{ProtoUDP}, make([]byte, 8)...)
	for _, c := range []struct {
		name string
		p    IPv6
		off  int
		next uint8
		frag uint16
		ok   bool
	}{
		{"no extension header", chain(udp), 40, ProtoUDP, 0, true},
		{"hop-by-hop", chain(hop, udp), 48, ProtoUDP, 0, true},
		{"two", chain(hop, long, udp), 64, ProtoUDP, 0, true},
		{"first fragment", chain(first, udp), 48, ProtoUDP, 1, true},
		{"later fragment", chain(hop, later, udp), 48, ProtoFragment, 9, true},
		{"authentication", chain(auth, udp), 64, ProtoUDP, 0, true},
		{"no next header", chain([]byte{ProtoNone}), 0, 0, 0, false},
		{"cut", chain(hop)[:41], 0, 0, 0, false},
		{"fragment header cut", chain(first)[:43], 0, 0, 0, false},
		{"upper layer cut off", chain(hop, udp)[:48], 48, ProtoUDP, 0, true},
	} {
		before := bytes.Clone(c.p)
		off, next, frag, ok := c.p.Upper()
		if off != c.off || next != c.next || frag != c.frag || ok != c.ok {
			t.Errorf("%s: %d, type %d, %#x, %t; want %d, %d, %#x, %t", c.name, off, next, frag, ok, c.off, c.next, c.frag, c.ok)
		}
		if !bytes.Equal(before, c.p) {
			t.Errorf("%s: changed", c.name)
		}
	}
}
