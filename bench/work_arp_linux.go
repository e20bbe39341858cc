package bench

import (
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"

	"proxyarpd/internal/lab"
)

const coldHow = "cold: a pod is made on each host, neither of which has sent anything; then at once `ping -c 1` from one to the other, " +
	"across hosts; the time that ping prints (it includes the pod's ARP for its gateway, and the far host's for the far pod)."

var pingTime = regexp.MustCompile(`icmp_seq=1 .*time=([0-9.]+) ms`)

// cold: the first ping of a new pod to a new pod.
func (r *run) cold() error {
	if _, err := exec.LookPath("ping"); err != nil {
		return fmt.Errorf("ping (iputils) is not installed: %w", err)
	}
	b, err := r.bed()
	if err != nil {
		return err
	}
	each := (10 + r.Rounds - 1) / r.Rounds
	if r.Quick {
		each = 2
	}
	t := turns{
		work: "first ping, cold, two hosts", how: coldHow, hosts: []int{0, 1},
		contestants: []contestant{&kernel{}, &kernel{delayed: true}, r.proxyarpd()},
	}
	t.measure = func(c contestant) (values []Value, err error) {
		for range each {
			v, err := r.firstPing(b, c, t.work)
			if err != nil {
				return nil, err
			}
			values = append(values, v)
		}
		return values, nil
	}
	return r.take(b, t)
}

func (r *run) firstPing(b *bed, c contestant, work string) (v Value, err error) {
	var pods [2]lab.Pod
	for h := range pods {
		if pods[h], err = b.AddPod(r.ctx, h, lab.PodOptions{}); err != nil {
			return v, err
		}
		defer func() { err = errors.Join(err, b.DelPod(pods[h].Name)) }()
		if k, ok := c.(*kernel); ok {
			if err := k.newcomer(b, host(h), pods[h].Iface); err != nil {
				return v, err
			}
		}
	}
	out, _ := b.Command(r.ctx, pods[0].Node, "ping", "-n", "-c", "1", "-W", "5", pods[1].Addr.Addr().String()).CombinedOutput()
	tally := &Tally{Sent: 1, Lost: 1}
	m := pingTime.FindSubmatch(out)
	if m == nil {
		// Its time is the time-out: a lost ping must not improve the median.
		return Value{Work: work, Unit: "ms", X: 5000, Tally: tally}, nil
	}
	tally.Lost, tally.Received = 0, 1
	ms, err := strconv.ParseFloat(string(m[1]), 64)
	return Value{Work: work, Unit: "ms", X: ms, Tally: tally}, err
}

const arpHow = "arp: who-has 169.254.1.1, broadcast, from a packet socket in the pod; time to the reply at that socket. " +
	"'paced' asks once a millisecond; 'at once' asks 1500 times in a row (proxyarpd polices an interface at 10,000 a second after a burst of 2,000)."

// arp: how long an answer takes on an idle host.
func (r *run) arp() error {
	b, err := r.bed()
	if err != nil {
		return err
	}
	pod := b.pod(0, 0)
	count := 3000
	if r.Quick {
		count = 600
	}
	for _, c := range []struct {
		what string
		x    Exchange
	}{
		{"ARP answer, paced 1 ms", Exchange{Count: count, Pace: time.Millisecond}},
		{"ARP answer, at once", Exchange{Count: min(count, 1500)}},
	} {
		c.x.CPU, c.x.Timeout = -1, 100*time.Millisecond
		err := r.take(b, turns{
			work: c.what, how: arpHow, hosts: []int{0}, contestants: []contestant{&kernel{}, r.proxyarpd()},
			measure: func(contestant) ([]Value, error) {
				ask, err := b.asksARP(pod)
				if err != nil {
					return nil, err
				}
				defer ask.Close()
				return exchange(ask, c.what, c.x)
			},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

const floodHow = "flood: one pod sends as fast as it can, pinned to CPU 0 (ARP requests for the gateway, or 60-byte UDP to a third pod), " +
	"while two other pods ping-pong once a millisecond and one asks for its gateway once a millisecond; what has no answer within " +
	"100 ms is lost. Replies to the flooder are counted by its interface (rx_packets) over the whole flood. 'quiet' is the same without the flood."

type flood struct {
	what   string
	frames func(p Path) ([][]byte, error)
}

// flood: what one pod's flood costs another.
func (r *run) flood() error {
	b, err := r.bed()
	if err != nil {
		return err
	}
	floods := []flood{
		{"quiet", nil},
		{"ARP flood", func(p Path) ([][]byte, error) {
			f, err := ARPRequest(p.FromMAC, p.From, gateway)
			return [][]byte{f}, err
		}},
		{"IP flood", func(p Path) ([][]byte, error) { return UDPFrames(p, 1, smallFrame, false) }},
	}
	for _, f := range floods {
		err := r.take(b, turns{
			work: f.what, how: floodHow, hosts: []int{0},
			contestants: []contestant{&kernel{}, r.proxyarpd()},
			pairs:       [][2]lab.Pod{{b.pod(0, 0), b.pod(0, 3)}, {b.pod(0, 1), b.pod(0, 2)}},
			measure:     func(contestant) ([]Value, error) { return r.flooded(b, f) },
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *run) flooded(b *bed, f flood) (values []Value, err error) {
	flooder, victim, friend := b.pod(0, 0), b.pod(0, 1), b.pod(0, 2)
	x := Exchange{Count: 2000, Pace: time.Millisecond, Timeout: 100 * time.Millisecond, CPU: -1}
	if r.Quick {
		x.Count = 400
	}
	ask, err := b.asksARP(victim)
	if err != nil {
		return nil, err
	}
	defer ask.Close()
	ping, end, err := b.pingPong(victim, friend)
	if err != nil {
		return nil, err
	}
	defer end()
	if f.frames != nil {
		index, path, err := b.path(flooder, b.pod(0, 3))
		if err != nil {
			return nil, err
		}
		frames, err := f.frames(path)
		if err != nil {
			return nil, err
		}
		g, err := b.generator(flooder, index, frames, false)
		if err != nil {
			return nil, err
		}
		before, err := b.received(flooder, index)
		if err != nil {
			return nil, errors.Join(err, g.Close())
		}
		began := time.Now()
		if err := g.Start(0, 0, 0); err != nil {
			return nil, errors.Join(err, g.Close())
		}
		defer func() {
			g.Stop()
			took := time.Since(began).Seconds()
			after, countErr := b.received(flooder, index)
			values = append(values, Value{Work: f.what + ": flood sent", Unit: "kpps", X: float64(g.Sent()) / took / 1e3})
			if f.what == "ARP flood" {
				values = append(values, Value{Work: f.what + ": replies to the flooder", Unit: "k/s", X: float64(after-before) / took / 1e3})
			}
			err = errors.Join(err, countErr, g.Close())
		}()
	}
	arp, err := exchange(ask, "ARP answer to another pod, "+f.what, x)
	if err != nil {
		return nil, err
	}
	pong, err := exchange(ping, "ping-pong of other pods, "+f.what, x)
	return append(arp, pong...), err
}

// received is how many frames have come to a pod's interface.
func (b *bed) received(p lab.Pod, index int) (n uint64, err error) {
	err = b.Do(p.Node, func() error {
		l, err := netlink.LinkByIndex(index)
		if err != nil {
			return fmt.Errorf("bench: %s: %w", p.Peer, err)
		}
		n = l.Attrs().Statistics.RxPackets
		return nil
	})
	return n, err
}
