// Package memconn is a wire in memory: the forward.Conn for tests, fuzzing and
// benchmarks. No kernel, no capability.
package memconn

import (
	"slices"
	"sync"
	"time"

	"proxyarpd/forward"
	"proxyarpd/forward/route"
	"proxyarpd/internal/wire"
)

// Sent is a frame that left.
type Sent struct {
	Ifindex int32
	Buf     []byte // virtio_net_hdr and frame
	Bypass  bool   // past the queueing discipline
	Type    wire.EtherType
}

// Conn holds received and sent frames. Its methods may be called from any
// goroutine; Recv, Send and Release belong to the loop.
type Conn struct {
	mu    sync.Mutex
	cond  *sync.Cond
	in    []forward.Frame
	sent  []Sent
	woken bool
	// Fail, if set, decides how sending to an interface ends.
	Fail func(ifindex int32) route.Verdict
	// Discard makes Send keep nothing, for benchmarks.
	Discard bool
	// Keep makes Return refuse.
	Keep bool

	returned []Sent
}

var _ forward.Conn = (*Conn)(nil)

// New makes a wire with nothing on it.
func New() *Conn {
	c := &Conn{}
	c.cond = sync.NewCond(&c.mu)
	return c
}

// Inject puts a frame on the wire; frame starts with its virtio_net_hdr and is
// the Conn's from now on.
func (c *Conn) Inject(ifindex int32, buf []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in = append(c.in, forward.Frame{Buf: buf, Ifindex: ifindex, Ethernet: true})
	c.cond.Signal()
}

// InjectBare is Inject for a link without a link-layer header.
func (c *Conn) InjectBare(ifindex int32, buf []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in = append(c.in, forward.Frame{Buf: buf, Ifindex: ifindex})
	c.cond.Signal()
}

// Sent gives the frames that left since the last call.
func (c *Conn) Sent() []Sent {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sent
	c.sent = nil
	return s
}

// Return implements forward.Conn.
func (c *Conn) Return(f *forward.Frame) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.Keep {
		c.returned = append(c.returned, Sent{Ifindex: f.Ifindex, Buf: slices.Clone(f.Buf)})
	}
	return !c.Keep
}

// Returned gives the frames that were given back since the last call.
func (c *Conn) Returned() []Sent {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.returned
	c.returned = nil
	return s
}

// Recv implements forward.Conn.
func (c *Conn) Recv(b *forward.Batch, wait time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if wait >= 0 && len(c.in) == 0 {
		t := time.AfterFunc(wait, c.Wake)
		defer t.Stop()
	}
	for len(c.in) == 0 && !c.woken {
		c.cond.Wait()
	}
	c.woken = false
	b.N = copy(b.Frames[:b.Limit()], c.in)
	c.in = c.in[b.N:]
	return nil
}

// Release implements forward.Conn.
func (c *Conn) Release(b *forward.Batch) { b.N = 0 }

// Send implements forward.Conn.
func (c *Conn) Send(out []forward.Out) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range out {
		o := &out[i]
		o.Err = route.Forward
		if c.Fail != nil {
			o.Err = c.Fail(o.Ifindex)
		}
		if o.Err == route.Forward && !c.Discard {
			c.sent = append(c.sent, Sent{Ifindex: o.Ifindex, Buf: slices.Concat(append([][]byte{o.Buf}, o.Tail...)...), Bypass: o.Bypass, Type: o.Type})
		}
	}
}

// Wake implements forward.Conn.
func (c *Conn) Wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.woken = true
	c.cond.Signal()
}
