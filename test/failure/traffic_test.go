package failure

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// pinger is a ping that runs until it is stopped.
type pinger struct {
	cmd     *lab.Cmd
	out     bytes.Buffer
	backlog uint64 // what the CPUs' backlogs had dropped when it began
}

// pings is what a pinger saw.
type pings struct {
	sent, lost int
	doubled    int
	// unexplained is how many are lost for another reason than a CPU's backlog that was full, with a flood say.
	unexplained int
	rtt         []float64 // ms, sorted
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
	p := &pinger{backlog: labtest.BacklogDrops(t), cmd: l.Command(context.WithoutCancel(t.Context()), from.Node, "ping", "-n", "-I", ip(from),
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
	r.unexplained = labtest.Unexplained(t, r.lost, r.sent, p.backlog)
	slices.Sort(r.rtt)
	return r
}
