package failure

import (
	"regexp"
	"strings"
	"syscall"
	"testing"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// shows waits for a line of a capture.
func (c *cli) shows(t testing.TB, pattern string) {
	t.Helper()
	re := regexp.MustCompile(`(?m)^.*` + pattern)
	await(t, "a line like "+pattern, func() bool { return re.MatchString(c.text(t)) })
}

// lines checks each line of a capture that has ended.
func (c *cli) lines(t testing.TB, ok func(line string) bool) {
	t.Helper()
	c.signal(syscall.SIGINT)
	code, text, said := c.ended(t)
	if code != 0 {
		t.Errorf("exit %d: %s", code, said)
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !ok(line) {
			t.Errorf("%q", line)
		}
	}
}

// TestCaptureLinks: interfaces that come, go and get other names while a capture
// runs are shown by the names that they have.
func TestCaptureLinks(t *testing.T) {
	t.Parallel()
	l := hosts(t, 1, 2)
	all := pods(l, 0)
	p := serve(t, l)[0]
	any, globbed := capturing(t, l, p, "-lni", "any"), capturing(t, l, p, "-lni", "veth[5-9]*", "-i", "vethx*")
	run(t, l, all[0].Node, "ping -n -c1 -W2 "+ip(all[1]))
	var added []lab.Pod
	for range 4 {
		more, err := l.AddPods(t.Context(), 0, 1, lab.PodOptions{})
		if err != nil {
			t.Fatal(err)
		}
		added = append(added, more...)
	}
	for _, pod := range added {
		if out, err := labtest.Output(t, l, pod.Node, "ping", "-n", "-c1", "-W5", ip(all[0])); err != nil {
			t.Fatal(err, out)
		}
		any.shows(t, regexp.QuoteMeta(pod.Iface)+` +In +IP `+ip(pod)+` > .*=> forward `)
		any.shows(t, regexp.QuoteMeta(pod.Iface)+` +Out ARP, Reply .*=> originate`)
	}
	old := added[0]
	run(t, l, "host0", "ip link set "+old.Iface+" down")
	run(t, l, "host0", "ip link set "+old.Iface+" name vethx0")
	run(t, l, "host0", "ip link set vethx0 up")
	run(t, l, "host0", "ip route replace "+ip(old)+"/32 dev vethx0")
	await(t, "the renamed interface forwards", func() bool {
		_, err := labtest.Output(t, l, old.Node, "ping", "-n", "-c1", "-W1", ip(all[0]))
		return err == nil
	})
	for _, c := range []*cli{any, globbed} {
		c.shows(t, `vethx0 +In +IP `+ip(old)+` > .*=> forward `)
	}
	if err := l.DelPod(added[1].Name); err != nil {
		t.Fatal(err)
	}
	run(t, l, all[0].Node, "ping -n -c1 -W2 "+ip(all[1]))
	any.shows(t, `=> forward`)
	names := "lo|vethx0|" + old.Iface
	for _, pod := range append(all, added...) {
		names += "|" + pod.Iface
	}
	known := regexp.MustCompile(`^\S+ (` + names + `) +(In|Out|B|M|P) `)
	any.lines(t, func(line string) bool { return known.MatchString(line) })
	globbed.lines(t, func(line string) bool {
		return strings.Contains(line, " vethx0 ") || regexp.MustCompile(` veth[5-9]`).MatchString(line)
	})
}

// TestCaptureEngineNone: a daemon that answers ARP alone shows what it answers,
// with verdicts, and the rest without.
func TestCaptureEngineNone(t *testing.T) {
	t.Parallel()
	l := hosts(t, 1, 2)
	all := pods(l, 0)
	p := serve(t, l, "--engine", "none")[0]
	fds, sockets := files(t, p), packetSocketsOf(t, l, p.Node)
	c := capturing(t, l, p, "-lni", "any")
	run(t, l, all[0].Node, "ping -n -c1 -W2 192.168.1.32")
	c.shows(t, `In +IP `+ip(all[0])+` > 192\.168\.1\.32: ICMP echo request`)
	c.shows(t, `ARP, Request who-has 169\.254\.1\.1 .*=> answer is-at`)
	c.shows(t, `ARP, Reply 169\.254\.1\.1 .*=> originate`)
	c.lines(t, func(line string) bool { return !strings.Contains(line, " IP ") || !strings.Contains(line, " => ") })
	untapped(t, l, p, fds, sockets)
}

// TestCaptureWithoutEBPF: without eBPF what the daemon leaves to the kernel is
// not shown, and the capture says so.
func TestCaptureWithoutEBPF(t *testing.T) {
	l := hosts(t, 1, 2)
	all := pods(l, 0)
	without(t, "bpf", "sys_admin")
	p := serve(t, l, "--engine", "af_packet")[0]
	fds, sockets := files(t, p), packetSocketsOf(t, l, p.Node)
	c := capturing(t, l, p, "-lni", "any")
	run(t, l, all[0].Node, "ping -n -c1 -W2 "+ip(all[1]))
	c.shows(t, `In +IP `+ip(all[0])+` > `+ip(all[1])+`: ICMP echo request.*=> (forward|queue) `)
	c.shows(t, `ARP, Request who-has 169\.254\.1\.1 .*=> answer is-at`)
	c.lines(t, func(line string) bool { return strings.Contains(line, " => ") })
	if said := c.errw.String(); !strings.Contains(said, "no eBPF here") {
		t.Errorf("it does not say what it does not show: %s", said)
	}
	untapped(t, l, p, fds, sockets)
}
