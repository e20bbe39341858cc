// Package memport is a wire in memory: the forward.Port for tests, fuzzing and
// benchmarks. No kernel, no capability.
package memport

import (
	"os"
	"slices"
	"sync"
	"time"

	"proxyarpd/forward"
)

// Sent is a frame that left.
type Sent struct {
	Ifindex int32
	Buf     []byte // virtio_net_hdr and frame
}

// Port holds received and sent frames. Its methods may be called from any
// goroutine; Recv, Send and Release belong to the loop.
type Port struct {
	mu     sync.Mutex
	cond   *sync.Cond
	in     []forward.Frame
	sent   []Sent
	woken  bool
	closed bool
	// Fail, if set, decides how sending to an interface ends.
	Fail func(ifindex int32) forward.Verdict
	// Discard makes Send keep nothing, for benchmarks.
	Discard bool
	// Keep makes Return refuse.
	Keep bool

	returned []Sent
}

var _ forward.Port = (*Port)(nil)

// New makes a wire with nothing on it.
func New() *Port {
	p := &Port{}
	p.cond = sync.NewCond(&p.mu)
	return p
}

// Inject puts a frame on the wire; frame starts with its virtio_net_hdr and is
// the port's from now on.
func (p *Port) Inject(ifindex int32, buf []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.in = append(p.in, forward.Frame{Buf: buf, Ifindex: ifindex, Ethernet: true})
	p.cond.Signal()
}

// InjectBare is Inject for a link without a link-layer header.
func (p *Port) InjectBare(ifindex int32, buf []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.in = append(p.in, forward.Frame{Buf: buf, Ifindex: ifindex})
	p.cond.Signal()
}

// Sent gives the frames that left since the last call.
func (p *Port) Sent() []Sent {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sent
	p.sent = nil
	return s
}

// Return implements forward.Port.
func (p *Port) Return(f *forward.Frame) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.Keep {
		p.returned = append(p.returned, Sent{Ifindex: f.Ifindex, Buf: slices.Clone(f.Buf)})
	}
	return !p.Keep
}

// Returned gives the frames that were given back since the last call.
func (p *Port) Returned() []Sent {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.returned
	p.returned = nil
	return s
}

// Recv implements forward.Port.
func (p *Port) Recv(b *forward.Batch, wait time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if wait >= 0 && len(p.in) == 0 {
		t := time.AfterFunc(wait, p.Wake)
		defer t.Stop()
	}
	for len(p.in) == 0 && !p.woken && !p.closed {
		p.cond.Wait()
	}
	p.woken = false
	if p.closed {
		return os.ErrClosed
	}
	b.N = copy(b.Frames[:], p.in)
	p.in = p.in[b.N:]
	return nil
}

// Release implements forward.Port.
func (p *Port) Release(b *forward.Batch) { b.N = 0 }

// Send implements forward.Port.
func (p *Port) Send(out []forward.Out) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range out {
		o := &out[i]
		o.Err = forward.Forward
		if p.Fail != nil {
			o.Err = p.Fail(o.Ifindex)
		}
		if o.Err == forward.Forward && !p.Discard {
			p.sent = append(p.sent, Sent{Ifindex: o.Ifindex, Buf: slices.Concat(append([][]byte{o.Buf}, o.Tail...)...)})
		}
	}
}

// Wake implements forward.Port.
func (p *Port) Wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.woken = true
	p.cond.Signal()
}

// Close makes Recv return os.ErrClosed.
func (p *Port) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.cond.Signal()
	return nil
}
