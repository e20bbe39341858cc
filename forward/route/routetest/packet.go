package routetest

import (
	"encoding/binary"
	"net/netip"

	"proxyarpd/internal/wire"
)

// Choices are taken from bytes, zero when there are no more.
type Choices []byte

// Next is the next byte.
func (c *Choices) Next() int {
	if len(*c) == 0 {
		return 0
	}
	b := (*c)[0]
	*c = (*c)[1:]
	return int(b)
}

// OneIn is true for zero bytes too seldom to matter, and false without bytes.
func (c *Choices) OneIn(n int) bool { return c.Next()%n == n-1 }

// Choose takes one of all.
func Choose[T any](c *Choices, all []T) T { return all[c.Next()%len(all)] }

// Packet draws an IPv4 packet and where it comes in: most are sound, so that they
// get far.
func (w *World) Packet(c *Choices) (in *Link, ip []byte) {
	in = &w.Links[c.Next()%len(w.Links)]
	var options []byte
	if c.OneIn(4) {
		options = newOptions(c)
	}
	header := 20 + len(options)
	ip = make([]byte, header+Choose(c, []int{8, 20, 28, 100, 600, 1480, 1490})+c.Next()%4)
	ip[0], ip[1] = 0x40|byte(header/4), Choose(c, []byte{0, 0, 4, 8, 16, 0xf0, 9, 0x47})
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	ip[6] = Choose(c, []byte{0, 0x40, 0, 0x40, 0x20, 0x60})
	ip[8], ip[9] = Choose(c, []byte{64, 255, 2, 1, 0, 3}), Choose(c, []byte{17, 6, 1, 17})
	src, dst := address(c).As4(), address(c).As4()
	if c.OneIn(2) && len(in.Addrs) > 0 { // a neighbour
		src = in.Addrs[0].Prefix.Addr().Next().As4()
	}
	copy(ip[12:], src[:])
	copy(ip[16:], dst[:])
	copy(ip[20:], options)
	for i := range ip[header:] {
		ip[header+i] = byte(i * 5)
	}
	if ip[9] == 6 && len(ip) >= header+13 {
		ip[header+12] = Choose(c, []byte{0x50, 0x80, 0x40, 0xf0})
	}
	if c.OneIn(8) { // a broken header
		ip[c.Next()%header] ^= byte(c.Next())
	}
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], wire.Checksum(ip[:header]))
	if c.OneIn(16) {
		ip[10] ^= byte(c.Next())
	}
	return in, ip
}

// address is mostly one that somebody may have.
func address(c *Choices) netip.Addr {
	if c.OneIn(6) {
		return Choose(c, worldAddrs)
	}
	return Choose(c, unicastAddrs)
}

// newOptions makes IP options, a multiple of four bytes.
func newOptions(c *Choices) []byte {
	var b []byte
	for range 1 + c.Next()%3 {
		length := Choose(c, []int{7, 11, 12, 4, 3, 2, 8})
		o := make([]byte, length)
		o[0] = Choose(c, []byte{7, 68, 131, 137, 148, 134, 7, 68, 25, 1, 0})
		o[1] = byte(length)
		if c.OneIn(8) {
			o[1] = byte(c.Next())
		}
		if length > 2 {
			o[2] = Choose(c, []byte{4, 5, 8, 9, 5, 4, 0, 13, 40})
		}
		if length > 3 {
			o[3] = Choose(c, []byte{0, 1, 3, 0xf0, 2, 0xf3, 10})
		}
		if length > 7 {
			a := worldAddrs[c.Next()%len(worldAddrs)].As4()
			copy(o[4:], a[:])
		}
		b = append(b, o...)
	}
	for len(b)%4 != 0 {
		b = append(b, byte(c.Next()%2))
	}
	return b[:min(len(b), 40)]
}
