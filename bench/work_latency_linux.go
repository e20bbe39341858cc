package bench

import (
	"fmt"
	"net/netip"
	"time"
)

const latencyHow = "Request and response, closed loop, 64 bytes each way: UDP, or one TCP connection with TCP_NODELAY; client and server one " +
	"thread with one blocking socket each, not pinned, on an otherwise idle machine; percentiles of a round by nearest rank. " +
	"'paced' begins an exchange each millisecond, so that everyone on the way has fallen asleep."

// latency: request and response.
func (r *run) latency() (steps []*step) {
	udp, tcp := OpenEcho, OpenTCPEcho
	type kind struct {
		name, proto string
		hosts       []int
		x           Exchange
		open        func(netip.Addr) (*Echo, error)
		dial        func(netip.Addr, netip.AddrPort) (*asker, error)
	}
	kinds := []kind{
		{"UDP request/response", "udp", oneHost, Exchange{Count: 20000}, udp, openUDPAsker},
		{"TCP request/response", "tcp", oneHost, Exchange{Count: 20000}, tcp, openTCPAsker},
		{"UDP request/response, paced 1 ms", "udp", oneHost, Exchange{Count: 2000, Pace: time.Millisecond}, udp, openUDPAsker},
		{"UDP request/response", "udp", twoHosts, Exchange{Count: 20000}, udp, openUDPAsker},
	}
	switch {
	case r.Quick:
		kinds = kinds[:2]
	case r.Between != nil:
		kinds = kinds[:3]
	}
	for _, k := range kinds {
		turn := 2 * time.Second
		if r.Quick {
			k.x.Count /= 5
			turn /= 5
		}
		k.x.CPU, k.x.Timeout = -1, 200*time.Millisecond
		steps = append(steps, &step{
			figures:     exchangeFigures(k.name+", "+r.where(k.hosts), "rr", map[string]float64{k.proto: 1, "hosts": float64(len(k.hosts)), "paced": float64(k.x.Pace.Milliseconds())}),
			contestants: r.forwarders(), hosts: k.hosts, turn: turn, pairs: pairs(1, k.hosts),
			measure: func(b *bed, _ contestant) ([]Value, error) {
				ask, end, err := b.asks(b.sender(0), b.receiver(k.hosts), k.open, k.dial)
				if err != nil {
					return nil, err
				}
				defer end()
				return exchange(ask, k.x, 0)
			},
		})
	}
	return steps
}

// exchangePercentiles are what an exchange is told by.
var exchangePercentiles = []float64{50, 90, 99, 99.9}

func exchangeFigures(work, kind string, params map[string]float64) (figures []Figure) {
	for _, p := range exchangePercentiles {
		own := map[string]float64{"percentile": p}
		for k, v := range params {
			own[k] = v
		}
		figures = append(figures, Figure{Work: fmt.Sprintf("%s, p%v", work, p), Kind: kind, Unit: "µs", Params: own})
	}
	return figures
}

// exchange runs a warmed-up closed loop and gives its percentiles, from the first-th figure on.
func exchange(a *asker, x Exchange, first int) (values []Value, err error) {
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
		return nil, fmt.Errorf("bench: all of %d questions unanswered", x.Count)
	}
	tally := Tally{Sent: uint64(x.Count), Received: uint64(len(out.Took)), Lost: uint64(out.Lost)}
	us := microseconds(out.Took)
	for i, p := range exchangePercentiles {
		values = append(values, Value{Figure: first + i, X: Percentile(us, p), Tally: &tally})
	}
	return values, nil
}
