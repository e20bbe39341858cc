package bench

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const upHow = "Veth pairs are made one after the other as fast as netlink goes (pod's end up, host's end up, route to the pod). " +
	"Time from just before the host's end is set up to the first ARP reply at the pod's end. The pod asks (QDISC_BYPASS, broadcast) as soon as " +
	"its carrier is there, and again each millisecond. The samples are all interfaces of all rounds. 'all' is from the first pair's making to the last one's reply."

// up: from interface up to the first answer.
func (r *run) up() (steps []*step) {
	counts := []int{1, 100, 1000}
	if r.Quick {
		counts = []int{1, 50}
	}
	for _, n := range counts {
		what, params := fmt.Sprintf("up to first answer, %s at once", count(n, "interface")), map[string]float64{"workloads": float64(n)}
		steps = append(steps, &step{
			figures:     []Figure{{Work: what, Kind: "up", Unit: "ms", Params: params}, {Work: what + ", all", Kind: "up-all", Unit: "ms", Params: params}},
			contestants: r.answerers(true), hosts: oneHost, turn: time.Duration(n) * 6 * time.Millisecond,
			measure: func(b *bed, c contestant) ([]Value, error) {
				took, all, err := r.bringUp(b, c, n)
				if err != nil {
					return nil, err
				}
				values := []Value{{Figure: 1, X: float64(all.Microseconds()) / 1e3}}
				for _, d := range took {
					values = append(values, Value{X: float64(d.Nanoseconds()) / 1e6})
				}
				return values, nil
			},
		})
	}
	return steps
}

// newcomer is an interface that waits for its first answer.
type newcomer struct {
	request []byte
	up      time.Time // just before it was set up
	asked   time.Time
	took    time.Duration
}

// newcomers ask and wait, on two threads: whoever makes interfaces lets each ask
// first, and a receiver repeats the questions.
type newcomers struct {
	fd int

	mu       sync.Mutex
	byIndex  map[int]*newcomer
	answered int
	wanted   int
}

func (r *run) bringUp(b *bed, who contestant, n int) (took []time.Duration, all time.Duration, err error) {
	k, err := openBulk(b, b.bulk.pod)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	c := &newcomers{byIndex: map[int]*newcomer{}, wanted: n}
	err = b.Do(b.bulk.pod.Node, func() (err error) {
		c.fd, err = answersSocket(b.ipv6)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	defer unix.Close(c.fd)
	done := make(chan error, 1)
	deadline := time.Now().Add(30 * time.Second)
	began := time.Now()
	go func() { done <- c.receive(deadline, r.ctx.Done()) }()
	for range n {
		l, err := k.add()
		if err != nil {
			return nil, 0, err
		}
		request, err := Request(l.mac, l.addr, gatewayOf(l.addr))
		if err != nil {
			return nil, 0, err
		}
		if k, ok := who.(*kernel); ok {
			if err := k.newcomer(b, host(0), l.host.Name); err != nil {
				return nil, 0, err
			}
		}
		up := time.Now()
		if err := k.up(l); err != nil {
			return nil, 0, err
		}
		c.join(l.end, &newcomer{request: request, up: up})
		if err := k.route(l); err != nil {
			return nil, 0, err
		}
	}
	if err := <-done; err != nil {
		return nil, 0, err
	}
	all = time.Since(began)
	for _, w := range c.byIndex {
		took = append(took, w.took)
	}
	return took, all, nil
}

// answersSocket hears ARP, or IPv6, on all interfaces of the calling thread's namespace.
func answersSocket(ipv6 bool) (int, error) {
	protocol := uint16(unix.ETH_P_ARP)
	if ipv6 {
		protocol = unix.ETH_P_IPV6
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(htons(protocol)))
	if err != nil {
		return -1, fmt.Errorf("bench: packet socket: %w", err)
	}
	err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	}
	if err != nil {
		return -1, errors.Join(fmt.Errorf("bench: packet socket: %w", err), unix.Close(fd))
	}
	return fd, nil
}

// join adds an interface and lets it ask.
func (c *newcomers) join(index int, w *newcomer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byIndex[index] = w
	c.ask(index, w)
}

// ask sends; that the device has no carrier yet is a reason to try again soon.
func (c *newcomers) ask(index int, w *newcomer) {
	w.asked = time.Now()
	_ = unix.Sendto(c.fd, w.request, unix.MSG_DONTWAIT, &unix.SockaddrLinklayer{Ifindex: index})
}

const again = time.Millisecond

func (c *newcomers) receive(deadline time.Time, cancelled <-chan struct{}) error {
	runtime.LockOSThread()
	buf := make([]byte, 256)
	for time.Now().Before(deadline) {
		select {
		case <-cancelled:
			return errors.New("bench: cancelled")
		default:
		}
		fds := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, 1); err != nil && !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("bench: poll: %w", err)
		}
		for {
			n, from, err := unix.Recvfrom(c.fd, buf, unix.MSG_DONTWAIT)
			if err != nil {
				break
			}
			now := time.Now()
			if at, ok := from.(*unix.SockaddrLinklayer); ok {
				if _, ok = answered(buf[:n]); ok {
					c.answer(at.Ifindex, now)
				}
			}
		}
		if c.repeat() {
			return nil
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Errorf("bench: %d of %d interfaces have no answer", c.wanted-c.answered, c.wanted)
}

func (c *newcomers) answer(index int, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.byIndex[index]; w != nil && w.took == 0 {
		w.took = now.Sub(w.up)
		c.answered++
	}
}

// repeat asks for those who wait, and says whether nobody does.
func (c *newcomers) repeat() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answered == c.wanted {
		return true
	}
	now := time.Now()
	for index, w := range c.byIndex {
		if w.took == 0 && now.Sub(w.asked) >= again {
			c.ask(index, w)
		}
	}
	return false
}
