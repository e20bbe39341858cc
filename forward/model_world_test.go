package forward

import (
	"encoding/binary"

	"proxyarpd/forward/route"
	"proxyarpd/forward/route/routetest"
)

// newFrame makes a frame out of bytes, with a packet that the world draws.
func (w world) newFrame(data []byte) Frame {
	c := routetest.Choices(data)
	in, ip := w.Packet(&c)
	f := Frame{Ifindex: in.Ifindex, Ethernet: in.Flags&route.LinkEthernet != 0}
	f.Buf = append(newVnet(&c), w.ethernet(&c, &f, in)...)
	f.Buf = append(f.Buf, ip...)
	if c.OneIn(8) {
		f.Buf = append(f.Buf, 0, 0, 0, 0, 0, 0) // padding
	}
	if c.OneIn(16) {
		f.Buf = f.Buf[:max(10, len(f.Buf)-c.Next()*4)]
	}
	switch c.Next() {
	case 253:
		f.Tagged = true
	case 254:
		f.Lost = route.DropRateLimit
	case 255:
		f.Ifindex = 99
	}
	return f
}

func (w world) ethernet(c *routetest.Choices, f *Frame, in *routetest.Link) []byte {
	if !f.Ethernet {
		return nil
	}
	b := make([]byte, 14)
	copy(b, in.MAC[:])
	copy(b[6:], []byte{2, 9, 9, 9, 9, 9})
	b[12] = 8
	switch c.Next() % 16 {
	case 15:
		f.PktType = byte(c.Next() % 5)
		mac := routetest.Choose(c, [][6]byte{{}, {0xee, 0xee, 0xee, 0xee, 0xee, 0xee}, {2, 8, 8, 8, 8, 8}, in.MAC})
		copy(b, mac[:])
	case 14:
		b[13] = 6
	}
	return b
}

func newVnet(c *routetest.Choices) []byte {
	v := make([]byte, 10)
	if !c.OneIn(4) {
		return v
	}
	n := binary.NativeEndian
	v[0], v[1] = routetest.Choose(c, []byte{0, 1}), routetest.Choose(c, []byte{0, 1, 1, 5, 5, 0x81, 4, 3})
	n.PutUint16(v[2:], routetest.Choose(c, []uint16{54, 42, 0, 9000}))
	n.PutUint16(v[4:], routetest.Choose(c, []uint16{1448, 500, 40, 0}))
	n.PutUint16(v[6:], routetest.Choose(c, []uint16{34, 38, 20, 1500}))
	n.PutUint16(v[8:], routetest.Choose(c, []uint16{6, 16}))
	return v
}
