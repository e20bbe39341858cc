package bench

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"

	"proxyarpd/internal/lab"
)

const coldHow = "A pod is made on each host, neither of which has sent anything; then at once `ping -c 1` from one to the other, " +
	"across hosts; the time that ping prints (it includes the pod's ARP for its gateway, and the far host's for the far pod)."

var pingTime = regexp.MustCompile(`icmp_seq=1 .*time=([0-9.]+) ms`)

// cold: the first ping of a new pod to a new pod.
func (r *run) cold() []*step {
	each := (10 + r.Rounds - 1) / r.Rounds
	if r.Quick {
		each = 2
	}
	return []*step{{
		figures:     []Figure{{Work: "first ping, cold, two hosts", Kind: "cold", Unit: "ms"}},
		contestants: r.answerers(true), hosts: twoHosts, turn: time.Duration(each) * 150 * time.Millisecond,
		measure: func(b *bed, c contestant) (values []Value, err error) {
			for range each {
				v, err := r.firstPing(b, c)
				if err != nil {
					return nil, err
				}
				values = append(values, v)
			}
			return values, nil
		},
	}}
}

func (r *run) firstPing(b *bed, c contestant) (v Value, err error) {
	var pods [2]lab.Pod
	for h := range pods {
		if pods[h], err = b.AddPod(r.ctx, h, lab.PodOptions{}); err != nil {
			return v, err
		}
		pods[h] = b.seen(pods[h])
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
		return Value{X: 5000, Tally: tally}, nil
	}
	tally.Lost, tally.Received = 0, 1
	ms, err := strconv.ParseFloat(string(m[1]), 64)
	return Value{X: ms, Tally: tally}, err
}

const arpHow = "who-has the gateway (between found namespaces: the next hop), broadcast, from a packet socket in the pod; time to the reply at " +
	"that socket. 'paced' asks once a millisecond; 'at once' asks up to 1500 times in a row (proxyarpd polices an interface at 10,000 a second " +
	"after a burst of 2,000)."

// arp: how long an answer takes on an idle host.
func (r *run) arp() (steps []*step) {
	type kind struct {
		what string
		x    Exchange
	}
	kinds := []kind{{r.question() + " answer, at once", Exchange{Count: 1500}}, {r.question() + " answer, paced 1 ms", Exchange{Count: 3000, Pace: time.Millisecond}}}
	if r.Quick {
		kinds = kinds[:1]
	}
	for _, k := range kinds {
		k.x.CPU, k.x.Timeout = -1, 100*time.Millisecond
		steps = append(steps, &step{
			figures:     exchangeFigures(k.what, "arp", map[string]float64{"paced": float64(k.x.Pace.Milliseconds())}),
			contestants: r.answerers(false), hosts: oneHost, turn: time.Duration(k.x.Count) * max(k.x.Pace, 50*time.Microsecond), pairs: pairs(1, oneHost),
			measure: func(b *bed, _ contestant) ([]Value, error) {
				ask, err := b.asksNeighbour(b.sender(0), b.receiver(oneHost))
				if err != nil {
					return nil, err
				}
				defer ask.Close()
				return exchange(ask, k.x, 0)
			},
		})
	}
	return steps
}

const floodHow = "One pod sends as fast as it can, pinned to the first CPU (ARP requests for the gateway, or 64-byte UDP to a third pod), " +
	"while two other pods exchange UDP once a millisecond and one asks for its gateway once a millisecond; what has no answer within " +
	"100 ms is lost. Replies to the flooder are counted by its interface (rx_packets) over the whole flood. 'quiet' is the same without the flood."

type flood struct {
	what   string
	params params
	frames func(p Path) ([][]byte, error)
}

// flood: what one pod's flood costs another.
func (r *run) flood() (steps []*step) {
	n := 2000
	if r.Quick {
		n = 400
	}
	for _, f := range []flood{
		{"quiet", params{}, nil},
		{r.question() + " flood", params{"flood_arp": 1}, func(p Path) ([][]byte, error) {
			frame, err := Request(p.FromMAC, p.From, gatewayOf(p.From))
			return [][]byte{frame}, err
		}},
		{"IP flood", params{"flood_ip": 1}, func(p Path) ([][]byte, error) {
			return Frames{Paths: []Path{p}, Port: discardPort, Flows: 1, Sizes: []int{r.small()}}.Build()
		}},
	} {
		figures := append(exchangeFigures(r.question()+" answer to another pod, "+f.what, "flood-arp", f.params),
			exchangeFigures("UDP request/response of other pods, "+f.what, "flood-rr", f.params)...)
		if f.frames != nil {
			figures = append(figures, Figure{Work: f.what + ": sent", Kind: "flood-sent", Unit: "kpps", Params: f.params})
		}
		if f.params["flood_arp"] == 1 {
			figures = append(figures, Figure{Work: f.what + ": replies to the flooder", Kind: "flood-replies", Unit: "k/s", Params: f.params})
		}
		steps = append(steps, &step{
			figures: figures, contestants: r.answerers(false), hosts: oneHost, turn: 2 * time.Duration(n) * time.Millisecond,
			pairs: func(b *bed) [][2]lab.Pod {
				return [][2]lab.Pod{{b.flooder(), b.bystander(2)}, {b.bystander(0), b.bystander(1)}}
			},
			measure: func(b *bed, _ contestant) ([]Value, error) { return r.flooded(b, f, n) },
		})
	}
	return steps
}

// discardPort is RFC 863's; nobody listens there.
const discardPort = 9

func (b *bed) flooder() lab.Pod { return b.sender(0) }

// bystander is a pod that is not the flooder: the receiver and those behind it.
func (b *bed) bystander(n int) lab.Pod { return b.pod(0, maxSenders()+n) }

func (r *run) flooded(b *bed, f flood, n int) (values []Value, err error) {
	flooder, victim, friend, target := b.flooder(), b.bystander(0), b.bystander(1), b.bystander(2)
	x := Exchange{Count: n, Pace: time.Millisecond, Timeout: 100 * time.Millisecond, CPU: -1}
	ask, err := b.asksNeighbour(victim, friend)
	if err != nil {
		return nil, err
	}
	defer ask.Close()
	ping, end, err := b.asks(victim, friend, OpenEcho, openUDPAsker)
	if err != nil {
		return nil, err
	}
	defer end()
	if f.frames != nil {
		stop, err := b.startFlood(f, flooder, target)
		if err != nil {
			return nil, err
		}
		defer func() {
			sent, replies, stopErr := stop()
			at := 2 * len(exchangePercentiles)
			values = append(values, Value{Figure: at, X: sent})
			if f.params["flood_arp"] == 1 {
				values = append(values, Value{Figure: at + 1, X: replies})
			}
			err = errors.Join(err, stopErr)
		}()
	}
	arp, err := exchange(ask, x, 0)
	if err != nil {
		return nil, err
	}
	pong, err := exchange(ping, x, len(exchangePercentiles))
	return append(arp, pong...), err
}

// startFlood begins a flood; what it returns ends it and says how many frames a second went and came, in thousands.
func (b *bed) startFlood(f flood, from, to lab.Pod) (stop func() (sent, replies float64, err error), err error) {
	index, path, err := b.path(from, to.Addr.Addr())
	if err != nil {
		return nil, err
	}
	frames, err := f.frames(path)
	if err != nil {
		return nil, err
	}
	var g *Generator
	err = b.Do(from.Node, func() error {
		g, err = OpenGenerator(index, frames, 1, false)
		return err
	})
	if err != nil {
		return nil, err
	}
	before, err := b.received(from, index)
	if err != nil {
		return nil, errors.Join(err, g.Close())
	}
	began := time.Now()
	if err := g.Start(usableCPUs()[0], 0, 0); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return func() (float64, float64, error) {
		g.Stop()
		took := time.Since(began).Seconds() * 1e3
		after, err := b.received(from, index)
		return float64(g.Sent()) / took, float64(after-before) / took, errors.Join(err, g.Close())
	}, nil
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
