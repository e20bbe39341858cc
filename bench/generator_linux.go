package bench

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// batch is how many frames one sendmmsg carries.
const batch = 64

// maxLag is how far a paced generator may fall behind before it gives the time up for lost: one that made up for a
// stall by sending faster would test another rate than it says.
const maxLag = 2 * time.Millisecond

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
	perFlow      []uint32
	cpuTime      time.Duration // of the thread, once it has ended
}

// OpenGenerator makes a generator in the calling thread's namespace. With
// numbered, each frame gets its number in its flow and the time before it is
// sent; frame n is then of flow n modulo flows.
func OpenGenerator(ifindex int, frames [][]byte, flows int, numbered bool) (*Generator, error) {
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
	for n := len(frames); len(frames) < batch; {
		for _, f := range frames[:n] {
			frames = append(frames, append([]byte(nil), f...))
		}
	}
	return &Generator{fd: fd, msgs: newMessages(frames), numbered: numbered, flows: flows, perFlow: make([]uint32, flows)}, nil
}

// Start sends until Stop, as fast as it can, or count frames at perSecond where
// these are not 0. The thread is pinned to the CPU; -1 leaves it to the kernel.
func (g *Generator) Start(cpu int, perSecond float64, count uint64) error {
	g.stop.Store(false)
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
	defer func() { g.cpuTime = threadTime() }()
	size := batch
	if perSecond > 0 {
		size = min(batch, max(1, int(perSecond/2000))) // a burst each half millisecond
		exactTimers()
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
			due := begin + int64(float64(total)/perSecond*1e9)
			if lag := monotonic() - due; lag > int64(maxLag) {
				begin += lag
			} else if lag < 0 {
				sleepUntil(due)
			}
		}
	}
}

func (g *Generator) number(from, to int) {
	now := uint64(monotonic())
	for i := from; i < to; i++ {
		flow := i % g.flows
		stamp(g.msgs.frames[i], g.perFlow[flow], now)
		g.perFlow[flow]++
	}
}

// Sent is how many frames the kernel has taken so far.
func (g *Generator) Sent() uint64 { return g.sent.Load() }

// Failed is how many frames the kernel has refused so far.
func (g *Generator) Failed() uint64 { return g.failed.Load() }

// CPUTime is what the thread has taken, system calls and what the kernel did in them included; 0 while it runs.
func (g *Generator) CPUTime() time.Duration { return g.cpuTime }

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
