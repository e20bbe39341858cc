package arpd

import (
	"encoding/binary"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/wire"
)

// A reply goes to the interface that was asked on and the MAC that asked, by the
// socket that passes by the queue unless the interface is settled.
func TestReplyIsAddressed(t *testing.T) {
	for _, settled := range []bool{false, true} {
		p := testPolicy()
		p.Settled = settled
		m := newMemory(Options{}, p)
		frame := who(gatewayIP).with(func(q *request) { q.src = otherMAC }).bytes()
		if len(m.one(7, frame)) != 1 {
			t.Fatal("no reply")
		}
		used, idle := m.sock.direct, m.sock.queued
		if settled {
			used, idle = idle, used
		}
		if sa := used.tx.addrs[0]; sa.Ifindex != 7 || wire.MAC(sa.Addr[:6]) != podMAC || sa.Halen != 6 || sa.Protocol != binary.NativeEndian.Uint16([]byte{0x08, 0x06}) {
			t.Errorf("settled %t: to %+v", settled, sa)
		}
		if used.tx.iovs[0].Len != ReplyLen || idle.tx.addrs[0].Ifindex != 0 {
			t.Errorf("settled %t: %d bytes, by the other %+v", settled, used.tx.iovs[0].Len, idle.tx.addrs[0])
		}
	}
}

// failing takes what is staged but for some.
type failing struct {
	*memoryConn
	fails map[int]unix.Errno
	calls int
}

func (c *failing) Write(func(fd uintptr) bool) error {
	c.calls++
	c.s.n, c.s.errno = 0, 0
	for i := c.s.from; i < c.s.staged; i++ {
		if errno := c.fails[i]; errno != 0 {
			if c.s.n == 0 {
				c.s.errno = errno
			}
			return nil
		}
		c.s.n++
	}
	return nil
}

// A reply that can't be sent is lost alone, with the verdict that says why.
func TestReplyIsLostAlone(t *testing.T) {
	for _, c := range []struct {
		errno          unix.Errno
		direct, queued Verdict
	}{
		{unix.ENETDOWN, DropIfDown, DropIfDown},
		{unix.ENXIO, DropIfDown, DropIfDown},
		{unix.ENODEV, DropIfDown, DropIfDown},
		{unix.ENOBUFS, DropIfDown, DropQdisc},
		{unix.EAGAIN, DropSend, DropSend},
		{unix.EINVAL, DropSend, DropSend},
	} {
		for settled, want := range map[bool]Verdict{false: c.direct, true: c.queued} {
			p := testPolicy()
			p.Settled = settled
			m := newMemory(Options{}, p)
			m.sock.direct.direct = true
			out := m.sock.via(p)
			raw := &failing{&memoryConn{m: m, s: out}, map[int]unix.Errno{0: c.errno, 2: c.errno, 5: c.errno, 6: c.errno}, 0}
			out.raw = raw
			var lost []int
			m.SetTap(func(_ uint64, _ int, frame, reply []byte, v Verdict) uint64 {
				if v != Answered {
					lost = append(lost, int(frame[len(frame)-1]))
				}
				if (reply == nil) != (v != Answered) {
					t.Errorf("%v with a reply of %d bytes", v, len(reply))
				}
				return 0
			})
			for i := range 8 {
				frame := who(gatewayIP).with(func(q *request) { q.trailer = 1 }).bytes()
				frame[len(frame)-1] = byte(i)
				m.receive(7, frame)
			}
			m.run()
			m.wantCounts(t, c.errno.Error(), 7, counts(map[Verdict]uint64{Answered: 4, want: 4}))
			if !slices.Equal(lost, []int{0, 2, 5, 6}) || raw.calls != 7 {
				t.Errorf("%v: lost %v in %d calls", c.errno, lost, raw.calls)
			}
		}
	}
}

// A closed socket takes nothing, and the batch ends all the same.
func TestSocketIsClosed(t *testing.T) {
	m := newMemory(Options{}, testPolicy())
	m.sock.direct.raw = &closedConn{}
	for range 3 {
		m.receive(7, who(gatewayIP).bytes())
	}
	m.run()
	m.wantCounts(t, "closed", 7, Counts{DropSend: 3})
}

type closedConn struct{ memoryConn }

func (*closedConn) Write(func(fd uintptr) bool) error { return os.ErrClosed }

func TestSetTap(t *testing.T) {
	m := newMemory(Options{}, testPolicy())
	seen := 0
	m.SetTap(func(uint64, int, []byte, []byte, Verdict) uint64 { seen++; return 0 })
	m.one(7, who(gatewayIP).bytes())
	m.SetTap(nil)
	m.one(7, who(gatewayIP).bytes())
	if seen != 1 {
		t.Errorf("%d frames were seen, want 1", seen)
	}
}

// TestReceivedFrame is what is read of a message beside its bytes.
func TestReceivedFrame(t *testing.T) {
	// struct cmsghdr, then struct tpacket_auxdata with the VLAN tag at its end.
	aux := func(level, typ, status uint32, tci uint16) (words [controlLen / 8]uint64) {
		b := binary.NativeEndian.AppendUint64(nil, uint64(auxLen))
		b = binary.NativeEndian.AppendUint32(b, level)
		b = binary.NativeEndian.AppendUint32(b, typ)
		b = binary.NativeEndian.AppendUint32(b, status)
		b = append(b, make([]byte, 12)...)
		b = binary.NativeEndian.AppendUint16(b, tci)
		b = append(b, make([]byte, controlLen-len(b))...)
		for i := range words {
			words[i] = binary.NativeEndian.Uint64(b[8*i:])
		}
		return words
	}
	const valid = unix.TP_STATUS_VLAN_VALID
	tagged := aux(unix.SOL_PACKET, unix.PACKET_AUXDATA, valid, 5)
	for _, c := range []struct {
		name      string
		pkttype   uint8
		control   [controlLen / 8]uint64
		used      int
		length    uint32
		otherhost bool
		vlan      bool
	}{
		{"plain", unix.PACKET_HOST, tagged, 0, 60, false, false},
		{"another host's", unix.PACKET_OTHERHOST, tagged, 0, 60, true, false},
		{"tagged", unix.PACKET_BROADCAST, tagged, auxLen, 60, false, true},
		{"cut", unix.PACKET_BROADCAST, tagged, auxLen - 1, 60, false, false},
		{"a priority alone", 0, aux(unix.SOL_PACKET, unix.PACKET_AUXDATA, valid, 0xe000), auxLen, 60, false, false},
		{"no tag", 0, aux(unix.SOL_PACKET, unix.PACKET_AUXDATA, 0, 5), auxLen, 60, false, false},
		{"another message", 0, aux(unix.SOL_PACKET, unix.PACKET_AUXDATA+1, valid, 5), auxLen, 60, false, false},
		{"another layer's", 0, aux(unix.SOL_SOCKET, unix.PACKET_AUXDATA, valid, 5), auxLen, 60, false, false},
		{"longer than the buffer", 0, tagged, 0, snapLen + 1, false, false},
	} {
		b := newRxBatch()
		b.addrs[1].Ifindex, b.addrs[1].Pkttype = 7, c.pkttype
		b.hdrs[1].n, b.control[1] = c.length, c.control
		b.hdrs[1].hdr.SetControllen(c.used)
		f := b.frame(1)
		if f.ifindex != 7 || len(f.data) != int(min(c.length, snapLen)) || &f.data[0] != &b.data[1][0] || f.otherhost != c.otherhost || f.vlan != c.vlan {
			t.Errorf("%s: %d bytes, interface %d, another host's %t, tagged %t", c.name, len(f.data), f.ifindex, f.otherhost, f.vlan)
		}
	}
}

// The kernel writes how much it used: room is made again before the next call.
func TestRoomIsMadeAgain(t *testing.T) {
	b := newRxBatch()
	for i := range 3 {
		b.hdrs[i].hdr.Namelen, b.hdrs[i].hdr.Flags = 1, 1
		b.hdrs[i].hdr.SetControllen(1)
	}
	b.used = 3
	b.reset()
	for i := range b.hdrs {
		if h := &b.hdrs[i].hdr; h.Namelen != sockaddrLen || int(h.Controllen) != controlLen || h.Flags != 0 {
			t.Errorf("message %d: %+v", i, h)
		}
	}
}
