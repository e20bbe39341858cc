package forward

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"proxyarpd/forward/route"
	"proxyarpd/internal/nstest"
	"proxyarpd/internal/wire"
)

// outcome6 is what the model says of an IPv6 frame.
type outcome6 struct {
	verdict route.Verdict
	icmp    route.ICMPError
	buf     []byte // what leaves, if it is forwarded
}

// model6 decides about an IPv6 frame as the kernel's text does, from the driver to the
// decrement of the hop limit, by offsets. Where the packet leads it has Decide6 say, which
// other tests hold to the kernel.
func model6(t *route.Table, f Frame) outcome6 {
	in := t.Link(f.Ifindex)
	frame, l2 := f.Buf[10:], 0
	if f.Ethernet {
		l2 = 14
		switch {
		case len(frame) < 14:
			return outcome6{verdict: route.DropPktTooSmall}
		case f.PktType != 0 && f.PktType != 3:
			return outcome6{verdict: route.IgnoreType}
		case f.PktType == 3 && [6]byte(frame) != in.MAC:
			return outcome6{verdict: route.DropOtherHost}
		}
	}
	p := frame[l2:]
	vnet := f.Buf[:10]
	native := binary.NativeEndian
	// ip6_rcv_core
	switch {
	case len(p) < 40:
		return outcome6{verdict: route.DropIPInHdr}
	case p[0]>>4 != 6:
		return outcome6{verdict: route.DropUnhandledProto}
	}
	cut := func(n int) bool { // pskb_trim_rcsum
		if n < len(p) && vnet[0]&1 != 0 && int(native.Uint16(vnet[6:]))+int(native.Uint16(vnet[8:]))+2 > l2+n {
			return false
		}
		p = p[:n]
		return true
	}
	length := be16(p[4:])
	if length == 0 && vnet[1]&0x7f == 4 && p[6] != 0 {
		length = len(p) - 40
	}
	if length != 0 || p[6] != 0 {
		if length+40 > len(p) {
			return outcome6{verdict: route.DropPktTooSmall}
		}
		if !cut(length + 40) {
			return outcome6{verdict: route.DropIPInHdr}
		}
	}
	var bad outcome6
	if p[6] == 0 { // ipv6_parse_hopopts
		total, v, icmp := tlvModel(p, 8, 1<<31-1)
		if bad = (outcome6{verdict: v, icmp: icmp}); v == route.NotSpecified && total > 0 && !cut(total) {
			bad.verdict = route.DropIPInHdr
		}
	}
	size := len(p)
	if vnet[1]&0x7f != 0 {
		size = min(size, segmentLength6(p, vnet))
	}
	var d route.Decision
	t.Decide6(wire.IPv6(bytes.Clone(p)), size, in, &d)
	loopback := netip.IPv6Loopback().As16()
	switch kind := d.Verdict.Kind(); {
	case kind == route.KindLocal || kind == route.KindPunt || kind == route.KindIgnore:
		return outcome6{verdict: d.Verdict}
	case [16]byte(p[8:]) == loopback || [16]byte(p[24:]) == loopback || p[8] == 0xff:
		return outcome6{verdict: route.DropIPInHdr}
	case bad.verdict != route.NotSpecified:
		return bad
	}
	o := outcome6{verdict: d.Verdict, icmp: d.ICMP, buf: slices.Clone(f.Buf[:10+l2+len(p)])}
	if int(native.Uint16(o.buf[2:])) > l2+len(p) {
		native.PutUint16(o.buf[2:], uint16(l2+len(p)))
	}
	if d.Verdict != route.Forward && d.Verdict != route.Queue {
		return o
	}
	if vnet[1]&0x7f == 5 && vnet[0]&1 == 0 {
		at, _ := upper6(p)
		udp := o.buf[10+l2+at:]
		n := len(udp)
		sum := onesSum(slices.Concat(p[8:40], []byte{0, 0, byte(n >> 8), byte(n), 0, 0, 0, 17}))
		binary.BigEndian.PutUint16(udp[6:], uint16(sum))
		o.buf[0] = 1
		native.PutUint16(o.buf[6:], uint16(l2+at))
		native.PutUint16(o.buf[8:], 6)
	}
	o.buf[10+l2+7]--
	if d.Verdict == route.Forward && l2 == 14 && d.Out.Flags&route.LinkEthernet != 0 {
		copy(o.buf[10:], d.Neighbour.MAC[:])
		copy(o.buf[16:], d.Out.MAC[:])
	}
	return o
}

// upper6 walks the extension headers; the offset is -1 if they lead to no upper layer.
func upper6(p []byte) (off int, next byte) {
	off, next = 40, p[6]
	for {
		length := 0
		switch next {
		case 0, 43, 60:
			length = 8
		case 51:
			length = 4
		case 44:
		case 59:
			return -1, 0
		default:
			if off > len(p) {
				return -1, 0
			}
			return off, next
		}
		switch {
		case off+2 > len(p):
			return -1, 0
		case next == 44:
			if off+4 > len(p) || be16(p[off+2:]) != 0 {
				return -1, 0 // no stack makes super-packets of fragments
			}
			next, off = p[off], off+8
		default:
			next, off = p[off], off+length*int(p[off+1])+8
		}
	}
}

// segmentLength6 is the length of a super-packet's segments, -1 for what cannot be.
func segmentLength6(p, vnet []byte) int {
	size := int(binary.NativeEndian.Uint16(vnet[4:]))
	off, next := upper6(p)
	if off < 0 || size == 0 {
		return -1
	}
	if len(p) > 65536 && p[6] == 0 && p[40] == 6 && p[41] == 0 && p[42] == 0xc2 {
		size -= 8
	}
	l4 := p[off:]
	switch {
	case vnet[1]&0x7f == 4 && next == 6 && len(l4) >= 20:
		if n := int(l4[12]>>4) * 4; n >= 20 && n <= len(l4) {
			return off + n + size
		}
	case vnet[1]&0x7f == 5 && next == 17 && len(l4) >= 8:
		return off + 8 + size
	}
	return -1
}

// frame6 draws a frame, most of it sound.
func frame6(rng *rand.Rand) Frame {
	pick := func(all ...string) [16]byte { return netip.MustParseAddr(all[rng.IntN(len(all))]).As16() }
	few := func(n int) bool { return rng.IntN(n) == 0 }
	ip := wire.IPv6(make([]byte, 40))
	if few(4) {
		ip = hopPacket(rng)
	}
	src, dst := pick("2001:db8::1", "2001:db8::1", "2001:db8::2", "2001:db8:1::9", "2001:db8:2::9"),
		pick("2001:db8::1", "2001:db8::2", "2001:db8:1::9", "2001:db8:2::9", "2001:db8:3::1", "2001:db8:4::1", "2001:db8:ff::5")
	if few(20) {
		src = pick("::1", "::", "ff02::5", "fe80::16", own6.String(), "::ffff:10.0.0.1")
	}
	if few(12) {
		dst = pick("::1", "::", "ff02::5", "fe80::16", own6.String(), "2001:db8:70::1", "2001:db8:71::1", "2001:db8:72::1", "2002::1")
	}
	next, payload := ip[6], ip.PayloadLen()
	wire.PutIPv6(ip, byte(rng.Uint32()), rng.Uint32(), payload, next, []byte{64, 64, 64, 2, 1, 0, 255}[rng.IntN(7)], src, dst)
	if len(ip) == 40 {
		ip[6] = []byte{6, 17, 58, 44, 43, 60, 51, 59, 50, 200}[rng.IntN(10)]
		size := []int{0, 3, 8, 20, 100, 1240, 1250, 1460, 1500}[rng.IntN(9)]
		for range size {
			ip = append(ip, byte(rng.Uint32()))
		}
		if few(2) && len(ip) > 60 {
			ip[40], ip[41] = []byte{6, 17, 60, 44}[rng.IntN(4)], byte(rng.IntN(3))
			ip[52] = 5 << 4
		}
		ip.SetPayloadLen(len(ip) - 40)
	}
	if few(16) {
		ip[rng.IntN(7)] ^= byte(1 << rng.IntN(8))
	}
	if few(16) {
		ip = ip[:len(ip)-rng.IntN(min(8, len(ip)))]
	}
	ip = append(ip, make([]byte, rng.IntN(2)*rng.IntN(9))...)
	v := make(Vnet, VnetLen)
	if few(4) {
		n := binary.NativeEndian
		v[0], v[1] = byte(rng.IntN(2)), []byte{0, 4, 4, 5, 5, 0x84, 1, 3}[rng.IntN(8)]
		n.PutUint16(v[2:], []uint16{74, 62, 0, 9000}[rng.IntN(4)])
		n.PutUint16(v[4:], []uint16{1428, 500, 40, 0}[rng.IntN(4)])
		n.PutUint16(v[6:], []uint16{54, 62, 40, 1500}[rng.IntN(4)])
		n.PutUint16(v[8:], []uint16{6, 16}[rng.IntN(2)])
	}
	f := Frame{Buf: framed6(v, ip), Ifindex: []int32{ifPod1, ifPod2, ifUplink, ifSmall, ifTun}[rng.IntN(5)], Ethernet: true}
	if f.Ifindex == ifTun {
		f.Ethernet = false
		f.Buf = append(bytes.Clone(v), ip...)
		if ip[0]>>4 != 6 {
			f.Buf[VnetLen] = 6<<4 | ip[0]&15
		}
		return f
	}
	if few(16) {
		f.PktType = byte(rng.IntN(4))
		if few(2) {
			f.ethernet().SetDst(macUplink)
		}
	}
	return f
}

func compare6(t *route.Table, f Frame) (string, route.Verdict) {
	want := model6(t, f)
	f.Buf = bytes.Clone(f.Buf)
	var r result
	step(t, &f, &r)
	switch {
	case r.Verdict != want.verdict || r.ICMP != want.icmp:
		return fmt.Sprintf("%v, ICMP %v; want %v, %v", r.Verdict, r.ICMP, want.verdict, want.icmp), r.Verdict
	case (r.Verdict == route.Forward || r.Verdict == route.Queue) && !bytes.Equal(f.Buf, want.buf):
		return fmt.Sprintf("% x\nleaves; want\n% x", f.Buf, want.buf), r.Verdict
	}
	return "", r.Verdict
}

// TestStep6Model holds step against the model in random cases.
func TestStep6Model(t *testing.T) {
	cases := nstest.Rounds(200_000)
	if testing.Short() {
		cases = 20_000
	}
	table := builder6(route.Policy{}).Publish()
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 6))
	counts := map[route.Verdict]int{}
	for i := range cases {
		f := frame6(rng)
		why, v := compare6(table, f)
		if why != "" {
			t.Fatalf("seed %d, case %d on %d: % x\n%s", seed, i, f.Ifindex, f.Buf[:min(len(f.Buf), 300)], why)
		}
		counts[v]++
	}
	t.Log(counts)
	for _, v := range []route.Verdict{route.Forward, route.Queue, route.Local, route.IgnoreType, route.DropOtherHost, route.DropPktTooSmall, route.DropIPInHdr,
		route.DropUnhandledProto, route.DropIPInAddrErrors, route.DropIPInNoRoutes, route.DropRouteBlackhole, route.DropRouteUnreachable,
		route.DropRouteProhibit, route.DropTTLExpired, route.DropPktTooBig, route.DropGSO, route.DropTransit} {
		if counts[v] == 0 {
			t.Errorf("never came to %v", v)
		}
	}
}

// FuzzStep6: no frame makes step panic, and what it does is the model's.
func FuzzStep6(f *testing.F) {
	table := builder6(route.Policy{}).Publish()
	rng := rand.New(rand.NewPCG(6, 6))
	for range 40 {
		fr := frame6(rng)
		f.Add(fr.Buf, fr.PktType, fr.Ethernet)
	}
	f.Fuzz(func(t *testing.T, buf []byte, pktType uint8, ethernet bool) {
		if len(buf) < VnetLen {
			return // the ring never gives less
		}
		fr := Frame{Buf: buf, Ifindex: ifTun, PktType: pktType}
		if ethernet {
			fr.Ifindex, fr.Ethernet = ifPod1, true
		}
		if !fr.isIPv6() {
			return
		}
		if why, _ := compare6(table, fr); why != "" {
			t.Fatalf("% x\n%s", buf, why)
		}
	})
}
