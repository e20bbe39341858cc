package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const captureHow = "A capture beside the daemon, on the same host: none, `proxyarpd capture -i any` with a filter that selects nothing " +
	"(`tcp port 443 and host 198.51.100.7`), and with one that selects all, with -s 96 and without, to a file. Rate as in rate, latency as " +
	"in latency; ratios are to the daemon without a capture. CPU time, by schedstat, is a received datagram's, over the whole trial. A forwarded packet is captured twice: as it came and as it left. 'recorded' is what `proxyarpd capture -s 96 -Q in -w FILE` and " +
	"`tcpdump -s 96 -Q in -w FILE`, on the sender's veth in the host, have of the datagrams that were sent, by their own closing lines; " +
	"LOST is what they did not record. The daemon forwards in both cases."

// watched is the daemon with somebody who captures beside it.
type watched struct {
	daemon
	label   string
	program string   // tcpdump; empty: proxyarpd capture
	args    []string // empty: nobody
	capture *process
}

func (w *watched) name() string { return w.label }

func (w *watched) processes() []*process {
	if w.capture == nil {
		return w.daemon.processes()
	}
	return append(w.daemon.processes(), w.capture)
}

func (w *watched) start(ctx context.Context, b *bed, hosts ...int) error {
	if err := w.daemon.start(ctx, b, hosts...); err != nil || len(w.args) == 0 {
		return err
	}
	if err := w.begin(ctx, b, w.args...); err != nil {
		return errors.Join(err, w.stop())
	}
	return nil
}

func (w *watched) stop() error {
	_, err := w.end()
	return errors.Join(err, w.daemon.stop())
}

// begin starts a capture into a file of the bed's, and returns when it listens.
func (w *watched) begin(ctx context.Context, b *bed, args ...string) (err error) {
	name, all := w.program, append([]string{"-n", "-w", filepath.Join(b.dir, "capture")}, args...)
	if name == "" {
		name, all = b.bin, append([]string{"capture", "--control", control(b, host(0))}, all...)
	}
	if w.capture, err = startProcess(ctx, b, host(0), w.label, nil, name, all...); err != nil {
		return err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.Now().Add(passes); !strings.Contains(w.capture.log.text(), "listening on"); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := w.capture.alive(); err != nil {
			return err
		}
		if time.Now().After(late) {
			return fmt.Errorf("bench: %s does not begin: %s", w.label, w.capture.log.lastLine())
		}
	}
	return nil
}

var capturedLine = regexp.MustCompile(`(?m)^(\d+) packets? captured$`)

// end ends the capture, if there is one, and gives how many packets it has.
func (w *watched) end() (captured uint64, err error) {
	if w.capture == nil {
		return 0, nil
	}
	p := w.capture
	w.capture = nil
	if err := p.end(false, 20*time.Second); err != nil {
		return 0, err
	}
	m := capturedLine.FindStringSubmatch(p.log.text())
	if m == nil {
		return 0, fmt.Errorf("bench: %s says nothing of what it has: %s", w.label, p.log.lastLine())
	}
	return strconv.ParseUint(m[1], 10, 64)
}

// captureRates are offered to who records, frames a second; 0 is as fast as the generator goes.
var captureRates = []float64{25e3, 50e3, 100e3, 200e3, 400e3, 0}

// capture: what a capture costs, and how much it can take.
func (r *run) capture() []*step {
	engine := r.Engines[0]
	watch := func(label, program string, args ...string) contestant {
		return &watched{daemon: daemon{engine: engine, args: r.Args}, label: label, program: program, args: args}
	}
	costs := func() []contestant {
		return []contestant{watch(noCapture, ""), watch("capture of nothing", "", "-i", "any", "tcp port 443 and host 198.51.100.7"),
			watch("capture of all, -s 96", "", "-i", "any", "-s", "96"), watch("capture of all", "", "-i", "any")}
	}
	rate := Figure{Work: fmt.Sprintf("rate, %d B, 1 sender, 16 flows, beside a capture", r.small()), Kind: "rate-captured", Unit: "kpps", Base: noCapture,
		Params: map[string]float64{"frame": float64(r.small()), "senders": 1, "flows": 16, "hosts": 1}}
	latency := exchangeFigures("UDP request/response, one host, beside a capture", "rr", params{"udp": 1, "hosts": 1, "captured": 1})
	for i := range latency {
		latency[i].Base = noCapture
	}
	x := Exchange{Count: 20000, CPU: -1, Timeout: 200 * time.Millisecond}
	rates := captureRates
	if r.Quick {
		x.Count, rates = x.Count/5, []float64{100e3, 0}
	}
	var recorded []Figure
	for _, offered := range rates {
		at := fmt.Sprintf("%.0f kpps", offered/1e3)
		if offered == 0 {
			at = "full speed"
		}
		recorded = append(recorded, Figure{Work: fmt.Sprintf("recorded, %d B, at %s", r.small(), at), Kind: "recorded", Unit: "kpps", Base: "tcpdump -w", Params: map[string]float64{"frame": float64(r.small()), "rate": offered}})
	}
	cpu := []Figure{rate}
	for i, whose := range []string{"daemon's process", "capture's process"} {
		own := maps.Clone(rate.Params)
		own[[]string{"captured", "capturing"}[i]] = 1
		cpu = append(cpu, Figure{Work: "CPU a packet at that rate, " + whose, Kind: "cpu-forwarder", Unit: "ns", Base: noCapture, Params: own})
	}
	return []*step{{
		figures: cpu, contestants: costs(), hosts: oneHost, turn: warmUp(r.Trial) + r.Trial, pairs: pairs(1, oneHost),
		measure: func(b *bed, c contestant) ([]Value, error) { return r.besides(b, c.(*watched)) },
	}, {
		figures: latency, contestants: costs(), hosts: oneHost, turn: 2 * time.Second, pairs: pairs(1, oneHost),
		measure: func(b *bed, _ contestant) ([]Value, error) {
			ask, end, err := b.asks(b.sender(0), b.receiver(oneHost), OpenEcho, openUDPAsker)
			if err != nil {
				return nil, err
			}
			defer end()
			return exchange(ask, x, 0)
		},
	}, {
		figures: recorded, contestants: []contestant{watch("tcpdump -w", "tcpdump"), watch("proxyarpd capture -w", "")}, hosts: oneHost,
		turn: time.Duration(len(rates)) * (warmUp(r.Trial) + r.Trial), pairs: pairs(1, oneHost),
		measure: func(b *bed, c contestant) (values []Value, err error) {
			for i, offered := range rates {
				v, err := r.recorded(b, c.(*watched), offered)
				if err != nil {
					return nil, err
				}
				v.Figure = i
				values = append(values, v)
			}
			return values, nil
		},
	}}
}

const noCapture = "no capture"

// besides is the rate that the daemon reaches beside a capture, and what it costs both.
func (r *run) besides(b *bed, w *watched) ([]Value, error) {
	l := load{senders: b.senders(1), receiver: b.receiver(oneHost), flows: 16, sizes: []int{r.small()}, duration: r.Trial}
	before := w.cpuTimes()
	o, err := r.trial(b, w, l)
	if err != nil {
		return nil, err
	}
	values := []Value{o.rate(w, l)}
	for i, now := range w.cpuTimes() {
		values = append(values, Value{Figure: i + 1, X: float64(now-before[i]) / float64(max(o.tally.Received, 1))})
	}
	return values, nil
}

// cpuTimes are what the daemon and the capture have taken so far.
func (w *watched) cpuTimes() (all [2]time.Duration) {
	for i, p := range w.processes() {
		all[i] = p.cpuTime()
	}
	return all
}

// recorded is how much of what one sender sends a capture has in its file.
func (r *run) recorded(b *bed, w *watched, offered float64) (v Value, err error) {
	from := b.sender(0)
	if err := w.begin(r.ctx, b, "-i", from.Iface, "-s", "96", "-Q", "in", "udp and src host "+from.Addr.Addr().String()); err != nil {
		_, endErr := w.end()
		return v, errors.Join(err, endErr)
	}
	l := load{senders: b.senders(1), receiver: b.receiver(oneHost), flows: 16, sizes: []int{r.small()}, rate: offered, duration: r.Trial}
	o, err := r.trial(b, w, l)
	captured, endErr := w.end()
	if err := errors.Join(err, endErr); err != nil {
		return v, err
	}
	sent := o.tally.Sent
	captured = min(captured, sent)
	share := float64(captured) / float64(max(sent, 1))
	return Value{X: o.offered * share / 1e3, Note: o.note(l), Offered: o.offered / 1e3, Tally: &Tally{Sent: sent, Received: captured, Lost: sent - captured}}, nil
}
