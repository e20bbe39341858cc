package routes

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// batch changes routes of the main table as fast as the kernel takes it: many
// messages a send, and no answers but to the last. The first error is kept.
type batch struct {
	fd    int
	index int // of the interface that routes lead to
	buf   []byte
	last  int // where the last message begins in buf
	err   error
}

const (
	sendAt = 32 << 10 // bytes
	create = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	change = unix.NLM_F_CREATE | unix.NLM_F_REPLACE
)

// batch has fill change routes of the first host, all by its uplink.
func (b *bed) batch(t testing.TB, fill func(*batch)) {
	t.Helper()
	c := &batch{index: b.uplink}
	err := b.Do("host0", func() (err error) {
		c.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(c.fd)
	fill(c)
	c.end()
	if c.err != nil {
		t.Fatal(c.err)
	}
}

// add makes a route, or with change makes the one there is another.
func (c *batch) add(flags uint16, p netip.Prefix, via netip.Addr) {
	gateway := via.As4()
	c.message(unix.RTM_NEWROUTE, flags, p, unix.RTN_UNICAST, 12)
	c.attr(unix.RTA_GATEWAY, gateway[:])
	c.attr(unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, uint32(c.index)))
	c.finish()
}

func (c *batch) del(p netip.Prefix) {
	c.message(unix.RTM_DELROUTE, 0, p, 0, 0)
	c.finish()
}

func (c *batch) message(typ, flags uint16, p netip.Prefix, kind, protocol byte) {
	if len(c.buf) > sendAt {
		c.send()
	}
	n := binary.NativeEndian
	c.last = len(c.buf)
	c.buf = n.AppendUint32(c.buf, 0) // its length, by finish
	c.buf = n.AppendUint16(c.buf, typ)
	c.buf = n.AppendUint16(c.buf, flags|unix.NLM_F_REQUEST)
	c.buf = append(c.buf, make([]byte, 8)...)
	c.buf = append(c.buf, unix.AF_INET, byte(p.Bits()), 0, 0, unix.RT_TABLE_MAIN, protocol, unix.RT_SCOPE_UNIVERSE, kind, 0, 0, 0, 0)
	dst := p.Addr().As4()
	c.attr(unix.RTA_DST, dst[:])
}

// attr appends an attribute of four bytes.
func (c *batch) attr(typ uint16, value []byte) {
	n := binary.NativeEndian
	c.buf = n.AppendUint16(n.AppendUint16(c.buf, uint16(unix.SizeofRtAttr+len(value))), typ)
	c.buf = append(c.buf, value...)
}

// finish writes the length of the last message.
func (c *batch) finish() {
	binary.NativeEndian.PutUint32(c.buf[c.last:], uint32(len(c.buf)-c.last))
}

// end waits until the kernel has done it all: it acknowledges in order, and
// without being asked what fails.
func (c *batch) end() {
	n := binary.NativeEndian
	c.last = len(c.buf)
	c.buf = append(c.buf, make([]byte, unix.SizeofNlMsghdr)...)
	n.PutUint16(c.buf[c.last+4:], unix.NLMSG_NOOP)
	n.PutUint16(c.buf[c.last+6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	c.finish()
	c.send()
	b := make([]byte, 64<<10)
	for c.err == nil {
		var size int
		if size, _, c.err = unix.Recvfrom(c.fd, b, 0); c.err != nil {
			return
		}
		const body = unix.SizeofNlMsghdr // struct nlmsgerr: an errno and the header that it is about
		if size < body+4+unix.SizeofNlMsghdr {
			c.err = fmt.Errorf("an answer of %d bytes", size)
			return
		}
		if errno := -int32(n.Uint32(b[body:])); errno != 0 {
			c.err = fmt.Errorf("a change of routes: %w", unix.Errno(errno))
		} else if n.Uint16(b[body+4+4:]) == unix.NLMSG_NOOP {
			return
		}
	}
}

func (c *batch) send() {
	if c.err == nil && len(c.buf) > 0 {
		c.err = unix.Sendto(c.fd, c.buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	c.buf = c.buf[:0]
}
