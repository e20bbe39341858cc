package failure

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"proxyarpd/internal/lab"
)

// pinger is a ping that runs until it is stopped.
type pinger struct {
	cmd *lab.Cmd
	out bytes.Buffer
}

// pings is what a pinger saw.
type pings struct {
	sent, lost int
	doubled    int
	rtt        []float64 // ms, sorted
}

func (p pings) percentile(n float64) float64 {
	if len(p.rtt) == 0 {
		return math.NaN()
	}
	return p.rtt[int(n/100*float64(len(p.rtt)-1))]
}

func (p pings) String() string {
	return fmt.Sprintf("%d pings, %d lost, p50 %.3f ms, p99 %.3f ms, longest %.3f ms", p.sent, p.lost, p.percentile(50), p.percentile(99), p.percentile(100))
}

func startPing(t testing.TB, l *lab.Lab, from lab.Pod, to string, every time.Duration) *pinger {
	t.Helper()
	p := &pinger{cmd: l.Command(context.WithoutCancel(t.Context()), from.Node, "ping", "-n", "-I", ip(from),
		"-i", fmt.Sprintf("%.4f", every.Seconds()), to)}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// stop ends the pings. Those behind the last that was answered are not lost but
// under way.
func (p *pinger) stop(t testing.TB) (r pings) {
	t.Helper()
	p.cmd.Process.Signal(os.Interrupt)
	p.cmd.Wait()
	last := 0
	seen := map[int]bool{}
	for line := range strings.Lines(p.out.String()) {
		var seq int
		var ms float64
		if at := strings.Index(line, "icmp_seq="); at < 0 {
			continue
		} else if _, err := fmt.Sscanf(line[at:], "icmp_seq=%d", &seq); err != nil {
			continue
		}
		at := strings.Index(line, "time=")
		if at < 0 || !strings.Contains(line, "bytes from") {
			continue // an ICMP error
		}
		ms, _ = strconv.ParseFloat(strings.Fields(line[at+len("time="):])[0], 64)
		if seen[seq] || strings.Contains(line, "DUP!") {
			r.doubled++
		}
		seen[seq] = true
		last = max(last, seq)
		r.rtt = append(r.rtt, ms)
	}
	at := strings.Index(p.out.String(), " packets transmitted")
	if at < 0 {
		t.Fatalf("ping says nothing of what it did:\n%s", p.out.String())
	}
	line := p.out.String()[:at]
	r.sent, _ = strconv.Atoi(line[strings.LastIndexAny(line, "\n ")+1:])
	if r.sent > last { // the rest is under way, unless that is all
		r.sent = max(last, 1)
	}
	r.lost = r.sent - len(seen)
	slices.Sort(r.rtt)
	return r
}

// stream sends numbered datagrams from pod to pod until it is stopped.
type stream struct {
	in, out *net.UDPConn
	end     chan struct{}
	sent    int
	wg      sync.WaitGroup
	mu      sync.Mutex
	seen    map[uint32]int
	got     atomic.Int64
	gap     time.Duration
}

const fence = ^uint32(0)

func startStream(t testing.TB, l *lab.Lab, from, to lab.Pod, perMS int) *stream {
	t.Helper()
	s := &stream{end: make(chan struct{}), seen: map[uint32]int{}}
	addr := net.UDPAddrFromAddrPort(netip.AddrPortFrom(to.Addr.Addr(), 9))
	listen := func() (err error) { s.in, err = net.ListenUDP("udp4", addr); return err }
	dial := func() (err error) { s.out, err = net.DialUDP("udp4", nil, addr); return err }
	for node, open := range map[string]func() error{to.Node: listen, from.Node: dial} {
		if err := l.Do(node, open); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.in.SetReadBuffer(8 << 20); err != nil {
		t.Fatal(err)
	}
	s.wg.Go(s.receive)
	s.wg.Go(func() { s.send(perMS) })
	return s
}

func (s *stream) receive() {
	var b [64]byte
	before := time.Now()
	for {
		n, err := s.in.Read(b[:])
		if err != nil || n < 4 || binary.BigEndian.Uint32(b[:]) == fence {
			return
		}
		now := time.Now()
		s.mu.Lock()
		s.seen[binary.BigEndian.Uint32(b[:])]++
		s.gap = max(s.gap, now.Sub(before))
		s.mu.Unlock()
		before = now
		s.got.Add(1)
	}
}

func (s *stream) send(perMS int) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	var b [32]byte
	for {
		select {
		case <-s.end:
			return
		case <-tick.C:
		}
		for range perMS {
			binary.BigEndian.PutUint32(b[:], uint32(s.sent))
			s.out.Write(b[:]) // an ICMP error about an earlier one is none about this one
			s.sent++
		}
	}
}

// progress waits until n further datagrams have come.
func (s *stream) progress(t testing.TB, n int64) {
	t.Helper()
	want := s.got.Load() + n
	await(t, fmt.Sprintf("%d datagrams come through", n), func() bool { return s.got.Load() >= want })
}

// stop ends the stream: how many were sent, lost and doubled, and how long
// there was silence at most.
func (s *stream) stop(t testing.TB) (sent, lost, doubled int, gap time.Duration) {
	t.Helper()
	close(s.end)
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	for range 200 { // the fence may be lost, too
		s.out.Write(binary.BigEndian.AppendUint32(nil, fence))
		select {
		case <-done:
		case <-time.After(5 * time.Millisecond):
			continue
		}
		break
	}
	s.in.Close()
	s.out.Close()
	<-done
	for _, n := range s.seen {
		if n > 1 {
			doubled++
		}
	}
	return s.sent, s.sent - len(s.seen), doubled, s.gap
}
