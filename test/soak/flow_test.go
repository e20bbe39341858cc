package soak

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

const soakPort = 7011

// flow is a numbered datagram a tick from one pod to another, each with the time
// when it was sent.
type flow struct {
	name     string
	from, to lab.Pod
	every    time.Duration

	send, receive *net.UDPConn
	quit          chan struct{}
	sender        chan struct{} // closed when the sender has ended
	receiver      chan struct{}
	sent          []int64 // ns since 1970, by number; the sender's until it has ended
	failed        int     // sends that failed twice
	got           []uint8 // how often each came; the receiver's until it has ended
	reordered     int
	arrived       atomic.Int64
}

// startFlow returns when the first has arrived.
func startFlow(t testing.TB, l *lab.Lab, from, to lab.Pod, every, long time.Duration) *flow {
	t.Helper()
	most := int(long/every) + 10000
	f := &flow{name: from.Name + " to " + to.Name, from: from, to: to, every: every, quit: make(chan struct{}), sender: make(chan struct{}), receiver: make(chan struct{}),
		sent: make([]int64, 0, most), got: make([]uint8, most)}
	at := netip.AddrPortFrom(to.Addr.Addr(), soakPort)
	f.receive = labtest.ListenUDP(t, l, to.Node, at)
	f.send = labtest.DialUDP(t, l, from.Node, at)
	labtest.Setsockopt(t, f.send, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
	go f.receives()
	go f.sends(most)
	labtest.Await(t, "the first datagram "+f.name, func() bool { return f.arrived.Load() > 0 })
	return f
}

func (f *flow) sends(most int) {
	defer close(f.sender)
	tick := time.NewTicker(f.every)
	defer tick.Stop()
	var b [64]byte
	for i := range most {
		select {
		case <-f.quit:
			return
		case <-tick.C:
		}
		binary.BigEndian.PutUint32(b[:], uint32(i))
		f.sent = append(f.sent, time.Now().UnixNano())
		if _, err := f.send.Write(b[:]); err != nil { // of an earlier one, by ICMP
			if _, err := f.send.Write(b[:]); err != nil {
				f.failed++
			}
		}
	}
}

func (f *flow) receives() {
	defer close(f.receiver)
	var b [128]byte
	highest := uint32(0)
	for {
		n, _, err := f.receive.ReadFromUDPAddrPort(b[:])
		if err != nil {
			return
		}
		if i := binary.BigEndian.Uint32(b[:]); n == 64 && int(i) < len(f.got) {
			if i < highest {
				f.reordered++
			}
			highest = max(highest, i)
			f.got[i] = min(f.got[i]+1, 2)
			f.arrived.Add(1)
		}
	}
}

// stop ends the sender, and the receiver when nothing more comes.
func (f *flow) stop() {
	close(f.quit)
	<-f.sender
	for before := int64(-1); f.arrived.Load() != before; time.Sleep(time.Second) {
		before = f.arrived.Load()
	}
	f.receive.Close()
	<-f.receiver
}

// window is a time in which something happened, and what packets may be lost for.
type window struct {
	action   string
	from, to time.Time
	why      string   // empty: nothing may be lost
	pods     []string // of the flows concerned; nil: of all
}

// covers reports whether it explains the loss of a packet that a flow sent then.
func (w *window) covers(f *flow, sent int64) bool {
	concerns := w.why != "" && (w.pods == nil || slices.Contains(w.pods, f.from.Name) || slices.Contains(w.pods, f.to.Name))
	return concerns && sent >= w.from.UnixNano() && sent <= w.to.UnixNano()
}

// account is what has become of a flow.
type account struct {
	flow        *flow
	lost        int
	doubled     int
	explained   map[string]int // lost, by the windows' reasons
	unexplained []int          // numbers of the rest
}

// explained is what a packet that was sent then was lost for, by the last that began
// of what had happened. It is empty if it should have arrived.
func explained(all []window, f *flow, sent int64) string {
	for _, w := range slices.Backward(all) {
		if w.covers(f, sent) {
			return w.why
		}
	}
	return ""
}

// around names what happened when, near a time.
func around(all []window, at int64) string {
	var said []string
	for _, w := range all {
		ms := func(t time.Time) int64 { return (t.UnixNano() - at) / 1e6 }
		if ms(w.to) > -2000 && ms(w.from) < 1000 {
			said = append(said, fmt.Sprintf("%s from %d to %d ms", w.action, ms(w.from), ms(w.to)))
		}
	}
	return strings.Join(said, ", ")
}

func (f *flow) account(all []window) account {
	a := account{flow: f, explained: map[string]int{}}
	for i, sent := range f.sent {
		switch f.got[i] {
		case 0:
			a.lost++
			if why := explained(all, f, sent); why != "" {
				a.explained[why]++
			} else {
				a.unexplained = append(a.unexplained, i)
			}
		case 2:
			a.doubled++
		}
	}
	return a
}

// tell is the account, with what happened around the first loss without explanation.
func (a account) tell(all []window) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d sent, %d lost, %d doubled, %d reordered", a.flow.name, len(a.flow.sent), a.lost, a.doubled, a.flow.reordered)
	for why, n := range a.explained {
		fmt.Fprintf(&b, "; %d: %s", n, why)
	}
	if n := len(a.unexplained); n > 0 {
		fmt.Fprintf(&b, "; %d outside of these, numbers %v; around the first: %s", n, a.unexplained[:min(n, 20)], around(all, a.flow.sent[a.unexplained[0]]))
	}
	return b.String()
}
