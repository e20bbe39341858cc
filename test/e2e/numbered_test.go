package e2e

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
)

// fence is the number of the datagram behind the last one.
const fence = ^uint32(0)

// receiver counts how often each number arrives in a pod.
type receiver struct {
	t    testing.TB
	conn *net.UDPConn
	seen []int
	bad  int // numbers that nobody sent
	done chan struct{}
	gap  time.Duration // longest time without a datagram
	// through is closed when the first datagram is there.
	through chan struct{}
}

// receive opens a receiver of the numbers 0 to n-1.
func receive(t testing.TB, l *lab.Lab, to lab.Pod, n int) *receiver {
	t.Helper()
	r := &receiver{t: t, seen: make([]int, n), done: make(chan struct{}), through: make(chan struct{})}
	err := l.Do(to.Node, func() (err error) {
		r.conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(to.Addr.Addr(), udpPort)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.conn.Close(); <-r.done })
	setsockopt(t, r.conn, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20)
	go r.run()
	return r
}

func (r *receiver) run() {
	defer close(r.done)
	var b [1 << 16]byte
	var before time.Time
	for {
		n, _, err := r.conn.ReadFromUDPAddrPort(b[:])
		if err != nil {
			return
		}
		if n < 4 {
			r.bad++
			continue
		}
		now := time.Now()
		if before.IsZero() {
			close(r.through)
		} else {
			r.gap = max(r.gap, now.Sub(before))
		}
		before = now
		switch i := binary.BigEndian.Uint32(b[:4]); {
		case i == fence:
			return
		case int(i) >= len(r.seen):
			r.bad++
		default:
			r.seen[i]++
		}
	}
}

// result waits for the fence, or for what is missing, and tells of how many
// numbers there was none and more than one.
func (r *receiver) result() (lost, doubled int) { return r.until(len(r.seen)) }

// until is result for a sender that stopped after n.
func (r *receiver) until(n int) (lost, doubled int) {
	r.t.Helper()
	if err := r.conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil && !errors.Is(err, net.ErrClosed) {
		r.t.Fatal(err)
	}
	<-r.done
	r.conn.Close() // the port is free for the next one
	for i, times := range r.seen[:n] {
		switch {
		case times == 0:
			if lost++; lost == 1 {
				r.t.Logf("number %d is the first that is lost", i)
			}
		case times > 1:
			doubled++
		}
	}
	if r.bad > 0 {
		r.t.Errorf("%d datagrams that nobody sent", r.bad)
	}
	return lost, doubled
}

// dial opens a UDP socket in a pod.
func dial(t testing.TB, l *lab.Lab, from string, to lab.Pod) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	err := l.Do(from, func() (err error) {
		conn, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to.Addr.Addr(), udpPort)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// sendNumbered sends the numbers from first up to n-1, so many a millisecond,
// until stop is closed (nil: to the end), and returns how far it came.
func sendNumbered(t testing.TB, conn *net.UDPConn, first, n, perMS, size int, stop <-chan struct{}) int {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	b := make([]byte, size)
	for i := first; i < n; {
		select {
		case <-stop:
			return i
		case <-tick.C:
		}
		for end := min(i+perMS, n); i < end; i++ {
			binary.BigEndian.PutUint32(b, uint32(i))
			_, err := conn.Write(b)
			if err != nil { // an ICMP error about an earlier one: this was not sent
				_, err = conn.Write(b)
			}
			if err != nil {
				t.Errorf("datagram %d: %v", i, err)
				return i
			}
		}
	}
	return n
}

// flow is a sender of a thousand numbered datagrams a second and its receiver.
type flow struct {
	*receiver
	conn *net.UDPConn
	quit chan struct{}
	sent chan int
}

// startFlow returns when the first datagram has arrived.
func startFlow(t testing.TB, l *lab.Lab, from, to lab.Pod) *flow {
	t.Helper()
	const most = 60000 // a minute
	f := &flow{receive(t, l, to, most), dial(t, l, from.Node, to), make(chan struct{}), make(chan int, 1)}
	go func() { f.sent <- sendNumbered(t, f.conn, 0, most, 1, 64, f.quit) }()
	select {
	case <-f.through:
	case <-time.After(patience):
		t.Fatalf("%s to %s: nothing arrives", from.Name, to.Name)
	}
	return f
}

// stop ends the flow and counts.
func (f *flow) stop() (sent, lost, doubled int) {
	f.t.Helper()
	close(f.quit)
	sent = <-f.sent
	sendFence(f.t, f.conn)
	lost, doubled = f.until(sent)
	return sent, lost, doubled
}

func sendFence(t testing.TB, conn *net.UDPConn) {
	t.Helper()
	if _, err := conn.Write(binary.BigEndian.AppendUint32(nil, fence)); err != nil {
		t.Error(err)
	}
}

// eachOnce sends n numbered datagrams from pod to pod and demands that each
// arrives once.
func eachOnce(t testing.TB, l *lab.Lab, from, to lab.Pod, n int) {
	t.Helper()
	r := receive(t, l, to, n)
	conn := dial(t, l, from.Node, to)
	sendNumbered(t, conn, 0, n, 10, 64, nil)
	sendFence(t, conn)
	if lost, doubled := r.result(); lost > 0 || doubled > 0 {
		t.Errorf("%s to %s: of %d datagrams %d are lost and %d arrive more than once", from.Name, to.Name, n, lost, doubled)
	}
}

func setsockopt(t testing.TB, conn syscall.Conn, level, option, value int) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) {
		err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), level, option, value))
	}); cerr != nil {
		t.Fatal(cerr)
	}
	if err != nil {
		t.Fatal(err)
	}
}
