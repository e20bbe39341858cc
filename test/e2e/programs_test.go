package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// program runs beside the test, which waits for what it prints.
type program struct {
	t    testing.TB
	name string
	cmd  *lab.Cmd
	done chan struct{}

	mu      sync.Mutex
	out     bytes.Buffer
	from    int           // where await begins to look
	changed chan struct{} // closed and made anew with each output
}

// Write implements io.Writer for both outputs.
func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
	return p.out.Write(b)
}

// spawn starts a command, given as one line without quotes; it is killed with
// the test.
func spawn(t testing.TB, l *lab.Lab, node, line string) *program {
	t.Helper()
	args := strings.Fields(line)
	labtest.Need(t, args[0])
	p := &program{t: t, name: node + "# " + line, done: make(chan struct{}), changed: make(chan struct{})}
	p.cmd = l.Command(context.WithoutCancel(t.Context()), node, args[0], args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
	})
	return p
}

// output is what was printed so far.
func (p *program) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// mark has await overlook what was printed so far.
func (p *program) mark() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.from = p.out.Len()
}

// await waits until the output matches, and returns the match's groups.
func (p *program) await(pattern string) []string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(patience)
	look := func() ([]string, <-chan struct{}) {
		p.mu.Lock()
		defer p.mu.Unlock()
		return re.FindStringSubmatch(p.out.String()[p.from:]), p.changed
	}
	for {
		m, changed := look()
		if m != nil {
			return m
		}
		select {
		case <-changed:
		case <-p.done:
			if m, _ := look(); m != nil {
				return m
			}
			p.t.Fatalf("%s ended without %q:\n%s", p.name, pattern, p.output())
		case <-deadline:
			p.t.Fatalf("%s: no %q within %v:\n%s", p.name, pattern, patience, p.output())
		}
	}
}

// end waits until the program ends by itself.
func (p *program) end() string {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%s does not end:\n%s", p.name, p.output())
	}
	return p.output()
}

// capture is a running tcpdump that writes to a file.
type capture struct {
	*program
	l    *lab.Lab
	file string
}

// tcpdump starts to capture on an interface and returns when it listens.
func tcpdump(t testing.TB, l *lab.Lab, node, name, args string) *capture {
	t.Helper()
	file := filepath.Join(t.TempDir(), "capture.pcap")
	p := spawn(t, l, node, "tcpdump -Z root -B 16384 --immediate-mode -U -n -s 0 -i "+name+" -w "+file+" "+args)
	p.await("listening on")
	return &capture{p, l, file}
}

// stop ends the capture, of which the last frames may be lost, and reads it.
func (c *capture) stop(options string) string {
	c.t.Helper()
	c.cmd.Process.Signal(syscall.SIGINT)
	return c.read(options)
}

// read waits until the capture has all that it was to count (-c), and reads it
// with tcpdump's own eyes.
func (c *capture) read(options string) string {
	c.t.Helper()
	c.end()
	if st, err := os.Stat(c.file); err != nil || st.Size() == 0 {
		c.t.Fatalf("%s wrote nothing (%v):\n%s", c.name, err, c.output())
	}
	return run(c.t, c.l, "host0", "tcpdump -Z root -nn "+options+" -r "+c.file)
}

// iperf3 is what a transfer says of itself at its end.
type iperf3 struct {
	Error string
	End   struct {
		Sent     struct{ Bytes, Retransmits float64 } `json:"sum_sent"`
		Received struct {
			Bytes float64
			BPS   float64 `json:"bits_per_second"`
		} `json:"sum_received"`
		Sum struct {
			Packets float64
			Lost    float64 `json:"lost_packets"`
			Seconds float64
		}
	}
}

// transfer runs iperf3 from one pod to another.
func transfer(t testing.TB, l *lab.Lab, from string, to lab.Pod, args string) iperf3 {
	t.Helper()
	server := spawn(t, l, to.Node, "iperf3 -s -1 --forceflush")
	server.await("Server listening")
	out, _ := try(t, l, from, "iperf3 -J -c "+ip(to)+" "+args)
	var r iperf3
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.Error != "" {
		t.Fatalf("%s# iperf3 -c %s %s: %v\n%s\n%s", from, ip(to), args, err, out, server.output())
	}
	server.end()
	// What arrived and found iperf3's socket full was not lost on the way.
	file, field := "/proc/net/snmp", `(?m)^Udp: (?:\d+ ){4}(\d+) `
	if to.Addr.Addr().Is6() {
		file, field = "/proc/net/snmp6", `(?m)^Udp6RcvbufErrors\s+(\d+)$`
	}
	snmp := regexp.MustCompile(field).FindStringSubmatch(run(t, l, to.Node, "cat "+file))
	if snmp == nil {
		t.Fatalf("%s without UDP", file)
	}
	overflows, _ := strconv.ParseFloat(snmp[1], 64)
	r.End.Sum.Lost = max(0, r.End.Sum.Lost-overflows)
	return r
}
