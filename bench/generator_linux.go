package bench

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// batch is how many frames one sendmmsg carries.
const batch = 64

// Generator sends prebuilt frames from one interface, round robin, from a thread
// of its own. It uses PACKET_QDISC_BYPASS: what it costs is a sendmmsg for 64
// frames and, for each, an allocation, a copy and the device.
type Generator struct {
	fd       int
	msgs     *messages
	numbered bool
	flows    int

	sent, failed atomic.Uint64
	stop         atomic.Bool
	done         sync.WaitGroup
	started      time.Time
	perFlow      []uint64
}

// OpenGenerator makes a generator in the calling thread's namespace. With
// numbered, each frame gets its number in its flow before it is sent.
func OpenGenerator(ifindex int, frames [][]byte, numbered bool) (*Generator, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("bench: packet socket: %w", err)
	}
	err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: ifindex})
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 16<<20)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("bench: generator on interface %d: %w", ifindex, err)
	}
	// A batch is always full, and no frame stands twice in the same batch's
	// memory, so that each can bear its own number.
	flows := len(frames)
	for n := 0; len(frames) < batch; n++ {
		frames = append(frames, append([]byte(nil), frames[n%flows]...))
	}
	return &Generator{fd: fd, msgs: newMessages(frames), numbered: numbered, flows: flows, perFlow: make([]uint64, flows)}, nil
}

// Start sends until Stop, as fast as it can, or count frames at perSecond where
// these are not 0. The thread is pinned to the CPU; -1 leaves it to the kernel.
func (g *Generator) Start(cpu int, perSecond float64, count uint64) error {
	g.stop.Store(false)
	g.started = time.Now()
	pinned := make(chan error, 1)
	g.done.Go(func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := pin(cpu)
		pinned <- err
		if err == nil {
			g.run(perSecond, count)
		}
	})
	return <-pinned
}

func pin(cpu int) error {
	if cpu < 0 {
		return nil
	}
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("bench: pin to CPU %d: %w", cpu, err)
	}
	return nil
}

func (g *Generator) run(perSecond float64, count uint64) {
	size := batch
	if perSecond > 0 {
		size = min(batch, max(1, int(perSecond/2000))) // a burst each half millisecond
	}
	begin, total, at := monotonic(), uint64(0), 0
	for !g.stop.Load() && (count == 0 || total < count) {
		to := min(at+size, len(g.msgs.hdrs))
		if count > 0 {
			to = min(to, at+int(count-total))
		}
		if g.numbered {
			g.number(at, to)
		}
		for at < to {
			n, errno := g.msgs.send(g.fd, at, to)
			if errno == unix.EINTR {
				continue
			}
			if errno != 0 {
				g.failed.Add(1)
				n = 1 // the first one failed
			} else {
				g.sent.Add(uint64(n))
			}
			at += n
			total += uint64(n)
		}
		if at == len(g.msgs.hdrs) {
			at = 0
		}
		if perSecond > 0 {
			sleepUntil(begin + int64(float64(total)/perSecond*1e9))
		}
	}
}

func (g *Generator) number(from, to int) {
	now := uint64(monotonic())
	for i := from; i < to; i++ {
		p, flow := g.msgs.frames[i][payloadAt:], i%g.flows
		binary.BigEndian.PutUint64(p[payloadNumber:], g.perFlow[flow])
		binary.BigEndian.PutUint64(p[payloadTime:], now)
		g.perFlow[flow]++
	}
}

// Sent is how many frames the kernel has taken so far.
func (g *Generator) Sent() uint64 { return g.sent.Load() }

// Failed is how many frames the kernel has refused so far.
func (g *Generator) Failed() uint64 { return g.failed.Load() }

// Wait waits until a generator with a count has sent all of it.
func (g *Generator) Wait() { g.done.Wait() }

// Stop ends the sending and returns when the thread has ended.
func (g *Generator) Stop() {
	g.stop.Store(true)
	g.done.Wait()
}

// Close stops and releases the socket.
func (g *Generator) Close() error {
	g.Stop()
	return unix.Close(g.fd)
}
