package forward

import (
	"encoding/binary"

	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// maxSuper is how long a frame may be, with its virtio_net_hdr and link-layer header, that the
// kernel sends on as it comes from a packet socket: what its payload length can say, and
// GSO_LEGACY_MAX_SIZE, less than which a device takes by default.
const maxSuper = 65535

// big reports an IPv6 super-packet of more than 64 KB (BIG TCP). From a packet socket the kernel does not
// believe what it is told of such (SKB_GSO_DODGY), and looks: it takes the jumbo payload option out
// (net/ipv6/ip6_offload.c, ipv6_gso_segment), sends the rest on with a payload length of 0, and whoever gets it
// drops it.
func big(ip []byte, v Vnet) bool {
	return len(ip) > maxSuper && isIPv6(ip) && v.gso() == gsoTCPv6 && v.gsoSize() > 0
}

// sendBig sends one as several super-packets that are no longer than maxSuper.
func (e *emitter) sendBig(buf []byte, out *route.Link, as route.Verdict) {
	l2len := out.L2Len()
	ip, v := buf[VnetLen+l2len:], Vnet(buf)
	at, proto := upper(ip)
	jumbo := jumboLen(ip)
	hlen := at - jumbo
	pseudo := pseudoOf(ip, v, at, proto)
	size := (maxSuper - VnetLen - l2len - hlen - int(ip[at+12]>>4)*4) / v.gsoSize() * v.gsoSize()
	size = max(size, v.gsoSize()) // with an MTU of 64 KB one segment may be longer, and is a packet
	if need := len(buf) + (len(ip)/size+1)*(VnetLen+l2len+hlen+60); len(e.big) < need {
		e.big = make([]byte, need)
	}
	used := 0
	var frame []byte
	room := func(n int) []byte {
		frame = e.big[used : used+VnetLen+l2len+n]
		used += len(frame)
		return frame[VnetLen+l2len:]
	}
	cut(ip, size, room, func(seg []byte, data int) {
		copy(frame, buf[:VnetLen+l2len])
		p := Vnet(frame)
		p[0] |= vnetNeedsCsum
		if data <= v.gsoSize() {
			p[1] = gsoNone
			binary.NativeEndian.PutUint16(p[4:], 0)
		}
		p.setHeaderLen(l2len + len(seg) - data)
		p.setCsumStart(l2len + hlen)
		binary.NativeEndian.PutUint16(p[8:], uint16(checksumAt(proto)))
		l4 := seg[hlen:]
		binary.BigEndian.PutUint16(l4[checksumAt(proto):], ^wire.Fold(pseudo+uint32(len(l4))))
		e.send(frame, out, as)
		as = route.NotSpecified // one packet, one verdict: its first piece counts
	})
	e.flush() // they lie in big
}
