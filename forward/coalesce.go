package forward

import (
	"encoding/binary"
	"math/bits"

	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// Under load, datagrams of one flow that wait together in the ring leave as
// one UDP GSO super-packet: the receiver's kernel, or the device, cuts it into
// the same datagrams again (Documentation/networking/segmentation-offloads.rst).
// One send then carries many packets, which lets userspace keep up with a flood.
//
// A datagram joins only if what comes out is what went in: no options or extension
// headers, no fragment, the same TOS, TTL and next hop, of IPv6 the same traffic class,
// flow label and hop limit, the same length (the last may be shorter), a checksum that is
// there and right, and of IPv4 an IP ID that segmentation will reproduce: one more than
// that of the datagram before it. Equal IDs are accepted where DF makes the ID
// meaningless (RFC 6864 section 4.1); those datagrams leave with IDs that count up.

// coalesceFrom is how many frames must have waited together for any to be
// coalesced: below, there is no backlog to save time for.
const coalesceFrom = 8

const (
	udpLen       = 8
	maxSegments  = 64    // UDP_MAX_SEGMENTS before Linux 6.9
	maxSuperIP   = 65535 // IPv4 total length, and what devices take of IPv6
	groupBuckets = 2048  // a power of two
)

// group is a run of datagrams that leave as one, under construction.
type group struct {
	datagram // the first one, with the ID of the last
	out      *route.Link
	next     *route.Neighbour
	fixedID  bool
	closed   bool
	bytes    int // IP length of the super-packet
}

// datagram is one that may be joined, as far as others must be like it.
type datagram struct {
	key  flowKey
	hlen int // of the network header, bytes
	size int // of the payload, bytes
	ttl  uint8
	df   bool
	id   uint16
}

// flowKey is what is the same in all datagrams of a group, beside TTL and lengths: addresses,
// ports, and the first word of the header, of IPv4 but for the length.
type flowKey struct {
	addrs        [4]uint64
	ports, first uint32
}

// key4 is the key of a datagram without options.
func key4(ip wire.IPv4) flowKey {
	return flowKey{addrs: [4]uint64{binary.BigEndian.Uint64(ip[12:])}, ports: binary.BigEndian.Uint32(ip[wire.IPv4MinLen:]),
		first: uint32(ip[0])<<24 | uint32(ip.TOS())<<16}
}

// key6 is the key of a datagram without extension headers.
func key6(ip wire.IPv6) flowKey {
	return flowKey{addrs: [4]uint64{binary.BigEndian.Uint64(ip[8:]), binary.BigEndian.Uint64(ip[16:]), binary.BigEndian.Uint64(ip[24:]), binary.BigEndian.Uint64(ip[32:])},
		ports: binary.BigEndian.Uint32(ip[wire.IPv6Len:]), first: binary.BigEndian.Uint32(ip)}
}

// bucket is where the newest group of a flow is looked for: the same for all datagrams
// that must not overtake each other, whatever their first word.
func (k *flowKey) bucket() uint64 {
	h := k.addrs[0] ^ k.addrs[2] ^ bits.RotateLeft64(k.addrs[1]^k.addrs[3], 32) ^ uint64(k.ports)<<32
	return h * 0x9e3779b97f4a7c15 >> 53 & (groupBuckets - 1)
}

// coalescer joins datagrams within one batch. Its arrays are indexed by the
// place in emitter.out where a group, or a lone frame, will be sent.
type coalescer struct {
	groups  [BatchSize]group
	first   [BatchSize]int16 // chain of further payloads, index into parts + 1
	last    [BatchSize]int16
	count   [BatchSize]int // datagrams
	parts   [BatchSize][]byte
	link    [BatchSize]int16
	used    int
	buckets [groupBuckets]uint32 // epoch, and place + 1 of the newest group of a flow
	epoch   uint32               // buckets of others are empty
	tails   [BatchSize][]byte
	joined  int // place of the group that the last datagram joined
}

func (c *coalescer) reset() {
	c.used = 0
	c.forget()
}

// A bucket has the epoch in its upper bits: a new epoch empties all of them.
const (
	epochOne  = 1 << 10
	placeMask = epochOne - 1 // place + 1 is at most BatchSize
)

// alone says that a frame of its own will stand at place.
func (c *coalescer) alone(place int) { c.count[place], c.first[place] = 1, 0 }

// forget keeps all groups so far from growing: something that must not be
// overtaken follows.
func (c *coalescer) forget() {
	if c.epoch += epochOne; c.epoch == 0 {
		clear(c.buckets[:])
	}
}

// join tries to add the datagram in buf to a group. If there is none that it
// fits, and it could found one, place, where it will be sent, becomes that
// group. joined says that the frame will leave as part of an earlier one.
func (c *coalescer) join(buf []byte, n *route.Neighbour, out *route.Link, place int) (joined bool) {
	ip, v := buf[VnetLen+wire.EthernetLen:], Vnet(buf)
	var d datagram
	if isIPv6(ip) {
		h := wire.IPv6(ip)
		if h.NextHeader() != wire.ProtoUDP {
			if wire.IPv6IsExtension(h.NextHeader()) {
				c.forget() // it may be of any flow
			}
			return false
		}
		if !coalescable6(h, v) {
			c.forget()
			return false
		}
		d = datagram{key: key6(h), hlen: wire.IPv6Len, ttl: h.HopLimit()}
	} else {
		h := wire.IPv4(ip)
		if h.Protocol() != wire.ProtoUDP {
			return false
		}
		if !coalescable4(h, v) {
			c.forget()
			return false
		}
		d = datagram{key: key4(h), hlen: wire.IPv4MinLen, ttl: h.TTL(), df: h.DontFragment(), id: h.ID()}
	}
	d.size = len(ip) - d.hlen - udpLen
	bucket := &c.buckets[d.key.bucket()]
	if *bucket&^placeMask == c.epoch && *bucket&placeMask != 0 {
		at := int(*bucket&placeMask) - 1
		if g := &c.groups[at]; g.key == d.key && g.next == n && g.out == out && c.append(g, at, &d, ip) {
			return true
		}
	}
	c.groups[place] = group{datagram: d, out: out, next: n, bytes: len(ip)}
	*bucket = c.epoch | uint32(place+1)
	return false
}

// coalescable4 checks what one datagram must be in itself.
func coalescable4(ip wire.IPv4, v Vnet) bool {
	return ip[0] == 0x45 && !ip.IsFragment() && ip.Frag()&^wire.IPv4DF == 0 && wholeDatagram(ip, wire.IPv4MinLen, v)
}

// coalescable6 is coalescable4 for IPv6. The jumbogram's payload length is 0.
func coalescable6(ip wire.IPv6, v Vnet) bool {
	return ip.PayloadLen() != 0 && wholeDatagram(ip, wire.IPv6Len, v)
}

// wholeDatagram reports whether a UDP datagram behind a header of hlen bytes is sound, and
// has a checksum that is right or left to be filled in.
func wholeDatagram(ip []byte, hlen int, v Vnet) bool {
	if v.gso() != gsoNone || len(ip) <= hlen+udpLen {
		return false
	}
	udp := ip[hlen:]
	if int(binary.BigEndian.Uint16(udp[4:])) != len(udp) {
		return false
	}
	if v.flags()&vnetNeedsCsum != 0 {
		return v.csumStart() == wire.EthernetLen+hlen && v.csumOffset() == 6
	}
	// The addresses, which the checksum covers, too, stand right before it.
	addrs := 8
	if hlen == wire.IPv6Len {
		addrs = 32
	}
	return binary.BigEndian.Uint16(udp[6:]) != 0 && wire.Fold(wire.Sum(ip[hlen-addrs:], wire.ProtoUDP+uint32(len(udp)))) == 0
}

// append adds the datagram d, which is ip, to the group at a place, if it fits.
func (c *coalescer) append(g *group, at int, d *datagram, ip []byte) bool {
	if g.closed || d.size > g.size || c.count[at] >= maxSegments || g.bytes+d.size > maxSuperIP || d.ttl != g.ttl || d.df != g.df {
		return false
	}
	switch {
	case g.hlen == wire.IPv6Len: // has no ID
	case d.id == g.id+1 && !g.fixedID:
		g.id = d.id
	case d.id == g.id && g.df && (g.fixedID || c.count[at] == 1):
		g.fixedID = true
	default:
		return false
	}
	g.closed = d.size < g.size
	g.bytes += d.size
	c.parts[c.used] = ip[g.hlen+udpLen:]
	c.link[c.used] = 0
	c.used++
	if c.first[at] == 0 {
		c.first[at] = int16(c.used)
	} else {
		c.link[c.last[at]-1] = int16(c.used)
	}
	c.last[at] = int16(c.used)
	c.count[at]++
	c.joined = at
	return true
}

// finish makes the frame at a place the head of its super-packet and gives the
// payloads that follow it. from is where in tails they go.
func (c *coalescer) finish(place int, buf []byte, from int) (tail [][]byte) {
	g := &c.groups[place]
	tail = c.tails[from:from]
	for i := c.first[place]; i != 0; i = c.link[i-1] {
		tail = append(tail, c.parts[i-1])
	}
	v, hlen := Vnet(buf), g.hlen
	v[0], v[1] = vnetNeedsCsum, gsoUDPL4
	v.setHeaderLen(wire.EthernetLen + hlen + udpLen)
	binary.NativeEndian.PutUint16(v[4:], uint16(g.size))
	v.setCsumStart(wire.EthernetLen + hlen)
	binary.NativeEndian.PutUint16(v[8:], 6)
	ip := buf[VnetLen+wire.EthernetLen:]
	if isIPv6(ip) {
		wire.IPv6(ip).SetPayloadLen(g.bytes - wire.IPv6Len)
	} else {
		h := wire.IPv4(ip)
		h.SetTotalLen(g.bytes)
		h.UpdateHeaderChecksum()
	}
	udp := ip[hlen:]
	length := g.bytes - hlen
	binary.BigEndian.PutUint16(udp[4:], uint16(length))
	binary.BigEndian.PutUint16(udp[6:], ^wire.Fold(pseudoSum(ip, wire.ProtoUDP, length)))
	return tail
}
