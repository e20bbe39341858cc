package differential

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"proxyarpd/internal/wire"
)

// output is one packet that a host sent.
type output struct {
	port  int
	frame []byte // from the link-layer header, whole, as it would be on a wire
}

// onWire cuts a frame that stands for several, completes checksums that were
// left to a device, and gives what a wire would carry.
func onWire(buf []byte, emit func(frame []byte)) {
	v, frame := buf[:vnetLen], bytes.Clone(buf[vnetLen:])
	if h := ipv6Of(frame); h != nil {
		onWire6(v, frame, emit)
		return
	}
	hlen := 0
	if len(frame) >= 34 {
		hlen = int(frame[14]&15) * 4
	}
	tcp := v[1]&0x7f == gsoTCPv4
	size := int(binary.NativeEndian.Uint16(v[4:]))
	if v[1] == 0 || hlen < 20 || len(frame) < 14+hlen+8 || size == 0 || !tcp && v[1] != gsoUDPL4 {
		complete(v, frame, frame[min(23, len(frame)-1)])
		emit(frame)
		return
	}
	head := 14 + hlen + 8
	if tcp {
		head = 14 + hlen + int(frame[14+hlen+12]>>4)*4
	}
	data := frame[head:]
	for n := 0; n*size < len(data); n++ {
		piece := data[n*size : min((n+1)*size, len(data))]
		last := (n+1)*size >= len(data)
		emit(segment(frame[:head], piece, n, size, hlen, tcp, last))
	}
}

// complete fills in a checksum that was left to a device.
func complete(vnet, frame []byte, proto byte) {
	if vnet[0]&vnetNeedsCsum == 0 {
		return
	}
	start := int(binary.NativeEndian.Uint16(vnet[6:]))
	at := start + int(binary.NativeEndian.Uint16(vnet[8:]))
	if at+2 > len(frame) {
		return
	}
	sum := wire.Checksum(frame[start:])
	if sum == 0 && proto == wire.ProtoUDP {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(frame[at:], sum)
}

func segment(head, piece []byte, n, size, hlen int, tcp, last bool) []byte {
	s := append(bytes.Clone(head), piece...)
	h := wire.IPv4(s[14:])
	h.SetTotalLen(len(h))
	h.SetID(h.ID() + uint16(n))
	h.UpdateHeaderChecksum()
	cutUpper(s[14+hlen:], n, size, tcp, last, wire.PseudoSum4(h.Src(), h.Dst(), h.Protocol(), len(s)-14-hlen))
	return s
}

// cutUpper makes the TCP or UDP header of a super-packet that of its segment n. pseudo is
// the sum over the segment's pseudo-header.
func cutUpper(l4 []byte, n, size int, tcp, last bool, pseudo uint32) {
	at := 6
	if tcp {
		at = 16
		binary.BigEndian.PutUint32(l4[4:], binary.BigEndian.Uint32(l4[4:])+uint32(n*size))
		if !last {
			l4[13] &^= 0x09 // FIN, PSH
		}
		if n > 0 {
			l4[13] &^= 0x80 // CWR
		}
	} else {
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	}
	l4[at], l4[at+1] = 0, 0
	sum := wire.Fold(wire.Sum(l4, pseudo))
	if sum == 0 && !tcp {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(l4[at:], sum)
}

// kind is what an output is to the comparison.
type kind int

const (
	forwarded kind = iota
	report         // an ICMP error of the host's own
	answer         // anything else of the host's own
	foreign        // ARP and the like
)

// owned are the addresses that only the hosts themselves send from.
type owned struct {
	addrs    map[addr]bool
	prefixes []netip.Prefix
}

func (o *owned) has(a addr) bool {
	return o.addrs[a] || slices.ContainsFunc(o.prefixes, func(p netip.Prefix) bool { return p.Contains(netip.AddrFrom4(a)) })
}

// classify tells what an output is, and the mark of the packet that it comes from.
func classify(frame []byte, own *owned) (k kind, mark uint32) {
	if h := ipv6Of(frame); h != nil {
		return classify6(h)
	}
	if len(frame) < 34 || frame[12] != 8 || frame[13] != 0 {
		return foreign, 0
	}
	h := wire.IPv4(frame[14:])
	src := h.Src()
	resets := src[0] == 127 && h.ID() == 0 // the host's TCP does, of route_localnet; no frame that is sent has this ID
	if !own.has(src) && !resets || !h.HeaderValid() {
		return forwarded, uint32(h.ID())
	}
	l4 := h.Payload()
	if h.Protocol() == wire.ProtoICMP && len(l4) >= 8+20 && wire.ICMPIsError(l4[0]) {
		return report, uint32(binary.BigEndian.Uint16(l4[8+4:]))
	}
	return answer, 0
}

// normalise makes equal what may differ: the IP ID of the host's own packets,
// times in timestamp options, and the checksums over them.
func normalise(frame []byte, k kind) []byte {
	if k == foreign {
		return frame
	}
	b := bytes.Clone(frame)
	if h := ipv6Of(b); h != nil {
		normalise6(h, k)
		return b
	}
	h := wire.IPv4(b[14:])
	if !h.HeaderValid() {
		return b
	}
	sound := h.ChecksumOK()
	blankTimes(h)
	if k != forwarded {
		h.SetID(0)
	}
	if l4 := h.Payload(); k == answer && h.Protocol() == wire.ProtoICMP && len(l4) > 8 && l4[0] == 14 {
		clear(l4) // times
	}
	if l4 := h.Payload(); k == report {
		soundICMP := wire.Checksum(l4) == 0
		if quoted := wire.IPv4(l4[8:]); quoted.HeaderValid() {
			blankTimes(quoted) // its checksum is that of the packet as it came
		}
		if soundICMP {
			binary.BigEndian.PutUint16(l4[2:], 0)
			binary.BigEndian.PutUint16(l4[2:], wire.Checksum(l4))
		}
	}
	if sound {
		h.UpdateHeaderChecksum()
	}
	return b
}

// blankTimes clears the times of day in timestamp options that are those of now.
// They stand before the option's pointer, one every four or eight bytes (RFC 791):
// nowhere else is looked for them, since what an option was sent with may look
// like the time of day.
func blankTimes(h wire.IPv4) {
	opts := h.Options()
	for i := 0; i < len(opts); {
		switch {
		case opts[i] == 0:
			return
		case opts[i] == 1:
			i++
			continue
		case i+1 >= len(opts) || opts[i+1] < 2 || i+int(opts[i+1]) > len(opts):
			return
		}
		n := int(opts[i+1])
		if opts[i] == 68 && n > 4 {
			for at := min(i+int(opts[i+2])-1, i+n) - 4; at >= i+4; at -= 4 {
				if recent(binary.BigEndian.Uint32(opts[at:])) {
					clear(opts[at : at+4])
				}
			}
		}
		i += n
	}
}

func recent(ms uint32) bool {
	now := uint32(time.Now().UnixMilli() % (24 * 3600 * 1000))
	return now-ms < 30_000 || ms-now < 2_000
}

// describe says in a line what a frame is.
func describe(frame []byte) string {
	if h := ipv6Of(frame); h != nil {
		return describe6(h)
	}
	if len(frame) < 34 || frame[12] != 8 || frame[13] != 0 {
		return fmt.Sprintf("%d bytes % x", len(frame), frame[:min(len(frame), 14)])
	}
	h := wire.IPv4(frame[14:])
	s := fmt.Sprintf("%v > %v proto %d ttl %d tos %#02x id %#04x frag %#04x len %d of %d ihl %d sum %#04x",
		h.SrcAddr(), h.DstAddr(), h.Protocol(), h.TTL(), h.TOS(), h.ID(), h.Frag(), h.TotalLen(), len(h), h[0]&15, h.HeaderChecksum())
	if h.HeaderValid() && len(h.Options()) > 0 {
		s += fmt.Sprintf(" options %x", h.Options())
	}
	if h.HeaderValid() && h.Protocol() == wire.ProtoICMP && len(h.Payload()) >= 8 {
		p := h.Payload()
		s += fmt.Sprintf(" icmp %d/%d %#08x", p[0], p[1], binary.BigEndian.Uint32(p[4:]))
		if q := wire.IPv4(p[8:]); wire.ICMPIsError(p[0]) && q.Valid() && q.HeaderValid() {
			s += fmt.Sprintf(" about sum %#04x options %x", q.HeaderChecksum(), q.Options())
		}
	}
	return s
}

// show tells in lines what both hosts made of a frame.
func show(r *result, dump bool) string {
	var b strings.Builder
	line := func(who string, port int, frame []byte) {
		name := "refused"
		if port >= 0 {
			name = ports[port].name
		}
		fmt.Fprintf(&b, "    %-6s %s: %s\n", who, name, describe(frame))
		if dump {
			fmt.Fprint(&b, hex.Dump(frame[:min(len(frame), 200)]))
		}
	}
	line("in", r.frame.Port, r.frame.Bytes)
	fmt.Fprintf(&b, "           mark %#04x vnet %x\n", r.frame.ID, r.frame.Vnet)
	for _, o := range r.kernel {
		line("kernel", o.port, o.frame)
	}
	for _, o := range r.ours {
		line("ours", o.port, o.frame)
	}
	return b.String()
}
