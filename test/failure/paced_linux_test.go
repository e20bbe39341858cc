package failure

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// timedPort is where a timed flow goes.
const timedPort = 7009

// timed is a flow of numbered datagrams, one at each tick, each with the time
// at which it was sent and the time at which the receiver's kernel had it.
type timed struct {
	t        testing.TB
	send     *net.UDPConn
	receive  *net.UDPConn
	quit     chan struct{}
	sender   chan struct{} // closed when the sender has ended
	receiver chan struct{}
	every    time.Duration
	sent     []int64 // ns since 1970, by number
	n        atomic.Int64
	arrived  []arrival // in order; the receiver's until it has ended
	got      atomic.Int64
}

type arrival struct {
	number int
	at     int64 // ns since 1970, the kernel's stamp
}

// startTimed begins a flow that ends by itself after most datagrams, and returns when the first has arrived.
func startTimed(t testing.TB, l *lab.Lab, from, to lab.Pod, every time.Duration, most int) *timed {
	t.Helper()
	at := netip.AddrPortFrom(to.Addr.Addr(), timedPort)
	f := &timed{t: t, every: every, sent: make([]int64, most), arrived: make([]arrival, 0, 2*most),
		quit: make(chan struct{}), sender: make(chan struct{}), receiver: make(chan struct{})}
	f.receive = labtest.ListenUDP(t, l, to.Node, at)
	labtest.Setsockopt(t, f.receive, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	f.send = labtest.DialUDP(t, l, from.Node, at)
	go f.receives()
	go f.sends()
	await(t, "the first datagram", func() bool { return f.got.Load() > 0 })
	return f
}

func (f *timed) sends() {
	defer close(f.sender)
	tick := time.NewTicker(f.every)
	defer tick.Stop()
	var b [64]byte
	for i := range f.sent {
		select {
		case <-f.quit:
			return
		case <-tick.C:
		}
		binary.BigEndian.PutUint32(b[:], uint32(i))
		f.sent[i] = time.Now().UnixNano()
		if _, err := f.send.Write(b[:]); err != nil { // of an earlier one, by ICMP
			_, _ = f.send.Write(b[:])
		}
		f.n.Store(int64(i) + 1)
	}
}

func (f *timed) receives() {
	defer close(f.receiver)
	var b, oob [256]byte
	for {
		n, on, _, _, err := f.receive.ReadMsgUDPAddrPort(b[:], oob[:])
		if err != nil {
			return
		}
		at := int64(0)
		if all, err := unix.ParseSocketControlMessage(oob[:on]); err == nil {
			for _, m := range all {
				if m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16 {
					at = int64(binary.NativeEndian.Uint64(m.Data))*1e9 + int64(binary.NativeEndian.Uint64(m.Data[8:]))
				}
			}
		}
		if n < 4 || at == 0 {
			f.t.Errorf("a datagram of %d bytes, stamped %d", n, at)
			return
		}
		f.arrived = append(f.arrived, arrival{int(binary.BigEndian.Uint32(b[:])), at})
		f.got.Add(1)
	}
}

// number is the next to be sent.
func (f *timed) number() int { return int(f.n.Load()) }

// progress waits until n more have been sent.
func (f *timed) progress(n int) {
	f.t.Helper()
	want := f.number() + n
	await(f.t, fmt.Sprintf("%d datagrams sent", n), func() bool { return f.number() >= want })
}

// account is what has become of a flow.
type account struct {
	sent      int
	missing   []int
	doubled   int
	reordered int             // arrived behind one with a higher number
	latest    time.Duration   // the longest way of any
	late      int             // its number
	delays    []time.Duration // by number
}

func (a account) String() string {
	return fmt.Sprintf("%d sent, %d lost, %d doubled, %d reordered, the longest way %v (number %d)", a.sent, len(a.missing), a.doubled, a.reordered, a.latest, a.late)
}

// time is for how long so many datagrams were sent.
func (f *timed) time(numbers []int) time.Duration { return time.Duration(len(numbers)) * f.every }

// latestFrom is the longest way of those with that number or a higher one.
func (a account) latestFrom(n int) (longest time.Duration) {
	for _, d := range a.delays[max(n, 0):] {
		longest = max(longest, d)
	}
	return longest
}

// stop ends the sender and gives what arrived until nothing more came.
func (f *timed) stop() (a account) {
	f.t.Helper()
	close(f.quit)
	<-f.sender
	a.sent = f.number()
	// Until nothing more comes. Where all are there, only what is doubled is waited for, which comes close behind.
	for before := int64(-1); f.got.Load() != before; {
		before = f.got.Load()
		quiet := 100 * time.Millisecond
		if before < int64(a.sent) {
			quiet = 500 * time.Millisecond
		}
		time.Sleep(quiet)
	}
	f.receive.Close()
	<-f.receiver
	seen := make([]int, a.sent)
	highest := -1
	a.delays = make([]time.Duration, a.sent)
	for _, r := range f.arrived {
		if r.number >= a.sent {
			f.t.Errorf("number %d was not sent", r.number)
			continue
		}
		if seen[r.number]++; seen[r.number] > 1 {
			a.doubled++
			continue
		}
		if r.number < highest {
			a.reordered++
		}
		highest = max(highest, r.number)
		a.delays[r.number] = time.Duration(r.at - f.sent[r.number])
		if d := a.delays[r.number]; d > a.latest {
			a.latest, a.late = d, r.number
		}
	}
	for i, n := range seen {
		if n == 0 {
			a.missing = append(a.missing, i)
		}
	}
	return a
}
