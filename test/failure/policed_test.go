package failure

import (
	"strings"
	"syscall"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// TestCapturePoliced: what a flood loses before the ring is shown all the same,
// and nothing of what is forwarded a second time.
func TestCapturePoliced(t *testing.T) {
	t.Parallel()
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico, Hosts: 1, PodsPerHost: 2})
	all := pods(l, 0)
	p := labtest.Daemon(t, l, "host0")
	c := capturing(t, l, p, "-nc", "20", "-i", "any", "--reason", "PARP_RATE_LIMIT")

	// A daemon that stands still lets the interface's share fill up.
	if err := p.Cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	f := startFlood(t, l, all[0], datagram(t, all[0], "10.99.0.1"))
	await(t, "more is sent than the share holds", func() bool { return f.sent.Load() > 4096 })
	f.stop()
	if err := p.Cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	code, out, said := c.ended(t)
	if code != 0 {
		t.Fatalf("exit %d: %s", code, said)
	}
	if n := status(t, p).Forward.Drops["PARP_RATE_LIMIT"]; n < 20 {
		t.Errorf("%d policed", n)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for _, line := range lines {
		if !strings.Contains(line, all[0].Iface+" In") || !strings.Contains(line, "=> drop PARP_RATE_LIMIT #") {
			t.Errorf("%q", line)
		}
	}
	if len(lines) != 20 {
		t.Errorf("%d lines, want 20", len(lines))
	}
}
