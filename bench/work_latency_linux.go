package bench

import (
	"fmt"
	"time"

	"proxyarpd/internal/lab"
)

const latencyHow = "ping-pong: UDP, 64 bytes of payload, closed loop, client and server one thread with one blocking socket each, " +
	"not pinned, on an otherwise idle machine; p50 and p99 of a round by nearest rank. 'paced' begins an exchange each millisecond, " +
	"so that everyone on the way has fallen asleep."

// latency: UDP ping-pong between pods.
func (r *run) latency() error {
	b, err := r.bed()
	if err != nil {
		return err
	}
	cases := []struct {
		what  string
		to    lab.Pod
		hosts []int
		x     Exchange
	}{
		{"ping-pong, one host", b.pod(0, 2), []int{0}, Exchange{Count: 20000}},
		{"ping-pong paced 1 ms, one host", b.pod(0, 2), []int{0}, Exchange{Count: 2000, Pace: time.Millisecond}},
		{"ping-pong, two hosts", b.pod(1, 2), []int{0, 1}, Exchange{Count: 20000}},
	}
	for i, c := range cases {
		if r.Quick {
			if i > 0 {
				break
			}
			c.x.Count /= 4
		}
		c.x.CPU, c.x.Timeout = -1, 200*time.Millisecond
		from := b.pod(0, 0)
		err := r.take(b, turns{
			work: c.what, how: latencyHow, hosts: c.hosts,
			contestants: []contestant{&kernel{}, r.proxyarpd()}, pairs: [][2]lab.Pod{{from, c.to}},
			measure: func(contestant) ([]Value, error) {
				ask, end, err := b.pingPong(from, c.to)
				if err != nil {
					return nil, err
				}
				defer end()
				return exchange(ask, c.what, c.x)
			},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// exchange runs a warmed-up closed loop and gives its percentiles.
func exchange(a *asker, what string, x Exchange) ([]Value, error) {
	warm := x
	warm.Count = max(1, x.Count/20)
	if _, err := a.run(warm); err != nil {
		return nil, err
	}
	out, err := a.run(x)
	if err != nil {
		return nil, err
	}
	if len(out.Took) == 0 {
		return nil, fmt.Errorf("bench: %s: all of %d questions unanswered", what, x.Count)
	}
	tally := Tally{Sent: uint64(x.Count), Received: uint64(len(out.Took)), Lost: uint64(out.Lost)}
	us := microseconds(out.Took)
	return []Value{
		{Work: what + ", p50", Unit: "µs", X: Percentile(us, 50), Tally: &tally},
		{Work: what + ", p99", Unit: "µs", X: Percentile(us, 99), Tally: &tally},
	}, nil
}
