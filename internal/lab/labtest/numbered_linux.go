package labtest

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/nstest"
)

// Fence is the number of the datagram behind the last one.
const Fence = ^uint32(0)

// udpPort is where a Receiver listens.
const udpPort = 9

// Receiver counts how often each number arrives in a pod.
type Receiver struct {
	t    testing.TB
	conn *net.UDPConn
	seen []int
	bad  int // numbers that nobody sent
	done chan struct{}
	gap  time.Duration
	got  atomic.Int64
	next atomic.Int64 // behind the highest number that has come
	// through is closed when the first datagram is there.
	through chan struct{}
}

// Receive opens a receiver of the numbers 0 to n-1.
func Receive(t testing.TB, l *lab.Lab, to lab.Pod, n int) *Receiver {
	t.Helper()
	r := &Receiver{t: t, seen: make([]int, n), done: make(chan struct{}), through: make(chan struct{})}
	r.conn = ListenUDP(t, l, to.Node, netip.AddrPortFrom(to.Addr.Addr(), udpPort))
	t.Cleanup(func() { r.conn.Close(); <-r.done })
	go r.run()
	return r
}

func (r *Receiver) run() {
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
		case i == Fence:
			return
		case int(i) >= len(r.seen):
			r.bad++
		default:
			r.seen[i]++
			r.got.Add(1)
			r.next.Store(max(r.next.Load(), int64(i)+1))
		}
	}
}

// Got is how many datagrams have arrived.
func (r *Receiver) Got() int { return int(r.got.Load()) }

// Next is the number behind the highest that has arrived.
func (r *Receiver) Next() int { return int(r.next.Load()) }

// Progress waits until n further datagrams have come.
func (r *Receiver) Progress(n int) {
	r.t.Helper()
	for want := r.Got() + n; !Within(Patience, func() bool { return r.Got() >= want }); {
		r.t.Fatalf("not within %v: %d datagrams come through; it is %d", Patience, n, r.Got()-want+n)
	}
}

// Gap is the longest time without a datagram, when Result or Until has returned.
func (r *Receiver) Gap() time.Duration { return r.gap }

// Result waits for the fence, or for what is missing, and tells of how many
// numbers there was none and more than one.
func (r *Receiver) Result() (lost, doubled int) {
	r.t.Helper()
	return r.Until(len(r.seen))
}

// Until is Result for a sender that stopped after n.
func (r *Receiver) Until(n int) (lost, doubled int) {
	r.t.Helper()
	missing, doubled := r.Missing(n)
	if len(missing) > 0 {
		r.t.Logf("number %d is the first that is lost", missing[0])
	}
	return len(missing), doubled
}

// Missing is Until, and says which numbers have not come.
func (r *Receiver) Missing(n int) (missing []int, doubled int) {
	r.t.Helper()
	// The fence may be lost. Who waits for the rest waits until for a second nothing has come.
	for quiet := false; !quiet; {
		before := r.Got()
		select {
		case <-r.done:
			quiet = true
		case <-time.After(time.Second):
			quiet = r.Got() == before
		}
	}
	if err := r.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) { // the port is free for the next one
		r.t.Fatal(err)
	}
	<-r.done
	for i, times := range r.seen[:n] {
		switch {
		case times == 0:
			missing = append(missing, i)
		case times > 1:
			doubled++
		}
	}
	if r.bad > 0 {
		r.t.Errorf("%d datagrams that nobody sent", r.bad)
	}
	return missing, doubled
}

// udpOf is the network that has an address alone, without the other family's.
func udpOf(a netip.AddrPort) string {
	if a.Addr().Is4() {
		return "udp4"
	}
	return "udp6"
}

// DialUDP opens a UDP socket of a node to an address.
func DialUDP(t testing.TB, l *lab.Lab, from string, to netip.AddrPort) (conn *net.UDPConn) {
	t.Helper()
	err := l.Do(from, func() (err error) {
		conn, err = net.DialUDP(udpOf(to), nil, net.UDPAddrFromAddrPort(to))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// ListenUDP opens a UDP socket in a node, whose queue holds what comes while the test gets no CPU.
func ListenUDP(t testing.TB, l *lab.Lab, node string, at netip.AddrPort) (conn *net.UDPConn) {
	t.Helper()
	err := l.Do(node, func() (err error) {
		conn, err = net.ListenUDP(udpOf(at), net.UDPAddrFromAddrPort(at))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	Setsockopt(t, conn, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20)
	return conn
}

const (
	// UnderWay is how many datagrams of a paced sender are under way: less than the datapath lets any one interface have
	// waiting.
	UnderWay  = 128
	lostAfter = 50 * time.Millisecond
)

// Sender sends numbered datagrams.
type Sender struct {
	*net.UDPConn
	PerMS, Size int
	// To, where it is not nil, paces the sender: it does not send further than UnderWay behind what has arrived. A
	// daemon that gets no CPU is then not overrun, which would have it drop what an interface may not have waiting.
	To *Receiver

	t    testing.TB
	sent atomic.Int64
}

// DialNumbered opens a sender to where a pod's Receiver listens.
func DialNumbered(t testing.TB, l *lab.Lab, from string, to lab.Pod, perMS int) *Sender {
	t.Helper()
	return &Sender{t: t, UDPConn: DialUDP(t, l, from, netip.AddrPortFrom(to.Addr.Addr(), udpPort)), PerMS: perMS, Size: 64}
}

// Sent is how many datagrams have been sent.
func (s *Sender) Sent() int { return int(s.sent.Load()) }

// Send sends the numbers up to n-1 until stop is closed (nil: to the end), and returns how far it came.
func (s *Sender) Send(n int, stop <-chan struct{}) int {
	s.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	b := make([]byte, s.Size)
	moved, next := time.Now(), 0
	for i := s.Sent(); i < n; {
		select {
		case <-stop:
			return i
		case <-tick.C:
		}
		end := min(i+s.PerMS, n)
		if s.To != nil {
			if now := s.To.Next(); now != next {
				moved, next = time.Now(), now
			}
			if time.Since(moved) > lostAfter { // all that was under way may be lost: one that finds out
				moved, end = time.Now(), i+1
			} else {
				end = min(end, next+UnderWay)
			}
		}
		for ; i < end; i++ {
			binary.BigEndian.PutUint32(b, uint32(i))
			_, err := s.Write(b)
			if err != nil { // an ICMP error about an earlier one: this was not sent
				_, err = s.Write(b)
			}
			if err != nil {
				s.t.Errorf("datagram %d: %v", i, err)
				return i
			}
			s.sent.Add(1)
		}
	}
	return n
}

// SendFence sends what ends a Receiver.
func (s *Sender) SendFence() {
	s.t.Helper()
	if _, err := s.Write(binary.BigEndian.AppendUint32(nil, Fence)); err != nil {
		s.t.Error(err)
	}
}

// Count sends n numbered datagrams from pod to pod, and counts those that do not
// arrive, and those that arrive again.
func Count(t testing.TB, l *lab.Lab, from, to lab.Pod, n int) (lost, doubled int) {
	t.Helper()
	r := Receive(t, l, to, n)
	s := DialNumbered(t, l, from.Node, to, 10)
	s.To = r
	s.Send(n, nil)
	s.SendFence()
	return r.Result()
}

// EachOnce sends n numbered datagrams from pod to pod and demands that each
// arrives once.
func EachOnce(t testing.TB, l *lab.Lab, from, to lab.Pod, n int) {
	t.Helper()
	before := nstest.BacklogDrops(t)
	if lost, doubled := Count(t, l, from, to, n); nstest.Unexplained(t, lost, n, before) > 0 || doubled > 0 {
		t.Errorf("%s to %s: of %d datagrams %d are lost and %d arrive more than once", from.Name, to.Name, n, lost, doubled)
	}
}

// Flow is a sender that sends until it is stopped, and its receiver.
type Flow struct {
	*Receiver
	*Sender
	quit chan struct{}
	sent chan int
}

// StartFlow returns when the first datagram has arrived.
func StartFlow(t testing.TB, l *lab.Lab, from, to lab.Pod, perMS int) *Flow {
	t.Helper()
	return startFlow(t, l, from, to, perMS, false)
}

// StartPaced is StartFlow for a paced sender.
func StartPaced(t testing.TB, l *lab.Lab, from, to lab.Pod, perMS int) *Flow {
	t.Helper()
	return startFlow(t, l, from, to, perMS, true)
}

func startFlow(t testing.TB, l *lab.Lab, from, to lab.Pod, perMS int, paced bool) *Flow {
	t.Helper()
	most := 120_000 * perMS // two minutes
	f := &Flow{Receive(t, l, to, most), DialNumbered(t, l, from.Node, to, perMS), make(chan struct{}), make(chan int, 1)}
	if paced {
		f.To = f.Receiver
	}
	go func() { f.sent <- f.Send(most, f.quit) }()
	select {
	case <-f.through:
	case <-time.After(Patience):
		t.Fatalf("%s to %s: nothing arrives", from.Name, to.Name)
	}
	return f
}

// Stop ends the flow and counts.
func (f *Flow) Stop() (sent, lost, doubled int) {
	f.Receiver.t.Helper()
	sent = f.end()
	lost, doubled = f.Until(sent)
	return sent, lost, doubled
}

// StopMissing is Stop, and says which numbers have not come.
func (f *Flow) StopMissing() (sent int, missing []int, doubled int) {
	f.Receiver.t.Helper()
	sent = f.end()
	missing, doubled = f.Missing(sent)
	return sent, missing, doubled
}

// end ends the sender, and gives how many it has sent.
func (f *Flow) end() int {
	close(f.quit)
	sent := <-f.sent
	f.SendFence()
	return sent
}

// Setsockopt sets an option of a socket.
func Setsockopt(t testing.TB, conn syscall.Conn, level, option, value int) {
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
