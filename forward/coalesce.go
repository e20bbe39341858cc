package forward

import (
	"encoding/binary"

	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// Under load, datagrams of one flow that wait together in the ring leave as
// one UDP GSO super-packet: the receiver's kernel, or the device, cuts it into
// the same datagrams again (Documentation/networking/segmentation-offloads.rst).
// One send then carries many packets, which lets userspace keep up with a flood.
//
// A datagram joins only if what comes out is what went in: no options, no
// fragment, the same TOS, TTL and next hop, the same length (the last may be
// shorter), a checksum that is there and right, and an IP ID that segmentation
// will reproduce: one more than that of the datagram before it. Equal IDs are
// accepted where DF makes the ID meaningless (RFC 6864 section 4.1); those
// datagrams leave with IDs that count up.

// coalesceFrom is how many frames must have waited together for any to be
// coalesced: below, there is no backlog to save time for.
const coalesceFrom = 8

const (
	udpLen       = 8
	coalesceHdr  = VnetLen + wire.EthernetLen + wire.IPv4MinLen + udpLen
	maxSegments  = 64    // UDP_MAX_SEGMENTS before Linux 6.9
	maxSuperIP   = 65535 // IPv4 total length
	groupBuckets = 2048  // a power of two
)

// group is a run of datagrams that leave as one, under construction.
type group struct {
	out     *route.Link
	next    *route.Neighbour
	key     [13]byte // addresses, ports, TOS
	ttl     uint8
	df      bool
	fixedID bool
	closed  bool
	lastID  uint16
	size    int // payload of each datagram but the last, bytes
	bytes   int // IP length of the super-packet
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
	ip := wire.IPv4(buf[VnetLen+wire.EthernetLen:])
	if ip.Protocol() != wire.ProtoUDP {
		return false
	}
	if !coalescable(ip, Vnet(buf)) {
		c.forget()
		return false
	}
	var key [13]byte
	copy(key[:], ip[12:24])
	key[12] = ip.TOS()
	h := binary.LittleEndian.Uint64(key[4:]) * 0x9e3779b97f4a7c15
	bucket := &c.buckets[(h>>53)&(groupBuckets-1)]
	payload := len(ip) - wire.IPv4MinLen - udpLen
	if *bucket&^placeMask == c.epoch && *bucket&placeMask != 0 {
		at := int(*bucket&placeMask) - 1
		if g := &c.groups[at]; g.key == key && g.next == n && g.out == out && c.append(g, at, ip, payload) {
			return true
		}
	}
	c.groups[place] = group{out: out, next: n, key: key, ttl: ip.TTL(), df: ip.DontFragment(),
		lastID: ip.ID(), size: payload, bytes: len(ip)}
	*bucket = c.epoch | uint32(place+1)
	return false
}

// coalescable checks what one datagram must be in itself.
func coalescable(ip wire.IPv4, v Vnet) bool {
	if v.gso() != gsoNone || ip[0] != 0x45 || ip.IsFragment() || ip.Frag()&^wire.IPv4DF != 0 || len(ip) <= wire.IPv4MinLen+udpLen {
		return false
	}
	udp := ip[wire.IPv4MinLen:]
	if int(binary.BigEndian.Uint16(udp[4:])) != len(udp) {
		return false
	}
	if v.flags()&vnetNeedsCsum != 0 {
		return v.csumStart() == wire.EthernetLen+wire.IPv4MinLen && v.csumOffset() == 6
	}
	return binary.BigEndian.Uint16(udp[6:]) != 0 &&
		wire.Fold(wire.Sum(udp, wire.PseudoSum4(ip.Src(), ip.Dst(), wire.ProtoUDP, len(udp)))) == 0
}

func (c *coalescer) append(g *group, at int, ip wire.IPv4, payload int) bool {
	if g.closed || payload > g.size || c.count[at] >= maxSegments || g.bytes+payload > maxSuperIP ||
		ip.TTL() != g.ttl || ip.DontFragment() != g.df {
		return false
	}
	switch id := ip.ID(); {
	case id == g.lastID+1 && !g.fixedID:
		g.lastID = id
	case id == g.lastID && g.df && (g.fixedID || c.count[at] == 1):
		g.fixedID = true
	default:
		return false
	}
	g.closed = payload < g.size
	g.bytes += payload
	c.parts[c.used] = ip[wire.IPv4MinLen+udpLen:]
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
	v := Vnet(buf)
	v[0], v[1] = vnetNeedsCsum, gsoUDPL4
	binary.NativeEndian.PutUint16(v[2:], coalesceHdr-VnetLen)
	binary.NativeEndian.PutUint16(v[4:], uint16(g.size))
	v.setCsumStart(wire.EthernetLen + wire.IPv4MinLen)
	binary.NativeEndian.PutUint16(v[8:], 6)
	ip := wire.IPv4(buf[VnetLen+wire.EthernetLen:])
	ip.SetTotalLen(g.bytes)
	ip.UpdateHeaderChecksum()
	udp := ip[wire.IPv4MinLen:]
	length := g.bytes - wire.IPv4MinLen
	binary.BigEndian.PutUint16(udp[4:], uint16(length))
	binary.BigEndian.PutUint16(udp[6:], ^wire.Fold(wire.PseudoSum4(ip.Src(), ip.Dst(), wire.ProtoUDP, length)))
	return tail
}
