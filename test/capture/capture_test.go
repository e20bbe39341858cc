// Package capture holds the tests that drive `proxyarpd capture`: live in the
// labs of internal/lab, beside tcpdump and tshark, and over capture files.
package capture

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
	"proxyarpd/internal/nstest"
)

var ip = labtest.IP

// patience is how long something that must happen is waited for.
const patience = labtest.Patience

// sniffer is a running `proxyarpd capture`, or tcpdump.
type sniffer struct {
	cmd    *lab.Cmd
	mu     sync.Mutex
	stdout bytes.Buffer
	stderr bytes.Buffer
	news   chan struct{} // something was written
	ended  chan error
}

type output struct {
	s *sniffer
	b *bytes.Buffer
}

func (o output) Write(p []byte) (int, error) {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	select {
	case o.s.news <- struct{}{}:
	default:
	}
	return o.b.Write(p)
}

// sniff starts a capture and waits until it says that it listens.
func sniff(t *testing.T, l *lab.Lab, node, program string, args ...string) *sniffer {
	t.Helper()
	s := launch(t, l, node, program, args...)
	s.listens(t)
	return s
}

// listens waits until a capture says that it does.
func (s *sniffer) listens(t *testing.T) {
	t.Helper()
	s.await(t, func(_, errw string) bool { return strings.Contains(errw, "listening on") })
}

// launch starts a capture.
func launch(t *testing.T, l *lab.Lab, node, program string, args ...string) *sniffer {
	t.Helper()
	s := &sniffer{news: make(chan struct{}, 1), ended: make(chan error, 1)}
	s.cmd = l.Command(context.WithoutCancel(t.Context()), node, program, args...)
	s.cmd.Stdout, s.cmd.Stderr = output{s, &s.stdout}, output{s, &s.stderr}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.ended <- s.cmd.Wait() }()
	t.Cleanup(func() { s.cmd.Process.Kill() })
	return s
}

// capture starts `proxyarpd capture` beside the daemon in host0.
func (w *world) capture(t *testing.T, args ...string) *sniffer {
	t.Helper()
	return sniff(t, w.Lab, "host0", labtest.Binary(t), append([]string{"capture", "--control", w.daemon.Control}, args...)...)
}

// await waits until the outputs are as they should be.
func (s *sniffer) await(t *testing.T, ok func(out, errw string) bool) {
	t.Helper()
	late := time.After(patience)
	for {
		s.mu.Lock()
		out, errw := s.stdout.String(), s.stderr.String()
		s.mu.Unlock()
		if ok(out, errw) {
			return
		}
		select {
		case <-s.news:
		case err := <-s.ended:
			s.ended <- err
			s.mu.Lock()
			out, errw = s.stdout.String(), s.stderr.String()
			s.mu.Unlock()
			if !ok(out, errw) {
				t.Fatalf("capture ended (%v):\n%s%s", err, out, errw)
			}
			return
		case <-late:
			t.Fatalf("not in %v; so far:\n%s%s", patience, out, errw)
		}
	}
}

// awaitLine waits for a line that matches, and gives it.
func (s *sniffer) awaitLine(t *testing.T, pattern string) (line string) {
	t.Helper()
	re := regexp.MustCompile(`(?m)^.*` + pattern + `.*$`)
	s.await(t, func(out, _ string) bool {
		line = re.FindString(out)
		return line != ""
	})
	return line
}

// end ends a capture as ^C does.
func (s *sniffer) end(t *testing.T) (stdout, stderr string) {
	t.Helper()
	s.interrupt()
	return s.wait(t)
}

// interrupt is what ^C does; it fails only where the capture has ended.
func (s *sniffer) interrupt() { s.cmd.Process.Signal(syscall.SIGINT) }

func (s *sniffer) wait(t *testing.T) (stdout, stderr string) {
	t.Helper()
	select {
	case err := <-s.ended:
		if err != nil {
			t.Errorf("capture: %v\n%s", err, s.stderr.String())
		}
	case <-time.After(patience):
		t.Fatalf("capture does not end\n%s", s.stderr.String())
	}
	return s.stdout.String(), s.stderr.String()
}

// world is a lab of two hosts with two pods each, and daemons.
type world struct {
	*lab.Lab
	daemon       *labtest.Process // of host0
	pod, sibling lab.Pod          // in host0
	far          lab.Pod          // in host1
}

func start(t *testing.T) *world {
	t.Helper()
	w := &world{Lab: labtest.New(t, lab.Spec{Form: lab.FormCalico})}
	w.daemon = labtest.Daemon(t, w.Lab, "host0")
	labtest.Daemon(t, w.Lab, "host1")
	for _, p := range w.Pods() {
		switch {
		case p.Host == 0 && p.N == 0:
			w.pod = p
		case p.Host == 0 && p.N == 1:
			w.sibling = p
		case p.Host == 1 && p.N == 0:
			w.far = p
		}
	}
	return w
}

// ping sends one echo request from a pod, whatever comes of it.
func (w *world) ping(t *testing.T, from lab.Pod, to string, options ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_ = w.Command(ctx, from.Node, "ping", append([]string{"-n", "-c1", "-W5", to}, options...)...).Run()
}

// warm has host0 know the first pod and another one as neighbours: what they send each other then waits for nothing.
func (w *world) warm(t *testing.T, to lab.Pod) {
	t.Helper()
	labtest.Run(t, w.Lab, w.pod.Node, "ping", "-nqc1", "-W5", ip(to))
}

var idRE = regexp.MustCompile(`#(\d+)$`)

func id(t *testing.T, line string) string {
	t.Helper()
	m := idRE.FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("no id in %q", line)
	}
	return m[1]
}

// TestVerdicts: what becomes of each packet stands behind its line, and copies,
// waits and ICMP errors of one packet bear one id.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip", "ping")
	w := start(t)
	s := w.capture(t, "-ni", "any")
	gone := "192.168.1.77" // on the uplink's network, and nobody's

	w.ping(t, w.pod, ip(w.far))
	w.ping(t, w.pod, "10.99.0.1")
	w.ping(t, w.pod, "192.168.1.32")
	w.ping(t, w.pod, ip(w.sibling), "-t", "1")
	w.ping(t, w.pod, gone)
	answer := s.awaitLine(t, `Request who-has 169\.254\.1\.1 tell `+ip(w.pod)+`, length 28 => answer is-at ee:ee:ee:ee:ee:ee #\d+`)
	reply := s.awaitLine(t, w.pod.Iface+` +Out ARP, Reply 169\.254\.1\.1 is-at .* => originate #`+id(t, answer)+`$`)
	queued := s.awaitLine(t, `In +IP `+ip(w.pod)+` > `+gone+`: ICMP echo request.* => queue ens192 nh 192\.168\.1\.77 route 192\.168\.1\.0/24 #\d+`)
	failed := s.awaitLine(t, ` > `+gone+`: ICMP echo request.* => drop NEIGH_FAILED ens192 nh 192\.168\.1\.77 route 192\.168\.1\.0/24 icmp 3/1 #`+id(t, queued)+`$`)
	s.awaitLine(t, `192\.168\.1\.32 > `+ip(w.pod)+`: ICMP host 192\.168\.1\.77 unreachable, length 92 => originate #`+id(t, failed)+`$`)
	out, errw := s.end(t)

	sent := s.awaitLine(t, w.pod.Iface+` +In +IP `+ip(w.pod)+` > `+ip(w.far)+`: ICMP echo request.* => (forward|queue) ens192 (via|nh) 192\.168\.1\.16 route 10\.65\.1\.\S+ #\d+`)
	s.awaitLine(t, `ens192 Out IP `+ip(w.pod)+` > `+ip(w.far)+`: ICMP echo request.* => forward from `+w.pod.Iface+` #`+id(t, sent)+`$`)
	unrouted := s.awaitLine(t, ` > 10\.99\.0\.1: ICMP echo request.* => drop IP_INNOROUTES icmp 3/0 #\d+`)
	s.awaitLine(t, `ICMP net 10\.99\.0\.1 unreachable, length 92 => originate #`+id(t, unrouted)+`$`)
	s.awaitLine(t, w.pod.Iface+` +In +IP `+ip(w.pod)+` > 192\.168\.1\.32: ICMP echo request.* => local #\d+`)
	s.awaitLine(t, w.pod.Iface+` +Out +IP 192\.168\.1\.32 > `+ip(w.pod)+`: ICMP echo reply.* => local #\d+`)
	s.awaitLine(t, `=> drop PARP_TTL_EXPIRED \S+ route \S+ icmp 11/0 #\d+`)
	if strings.Count(out, strings.TrimSpace(reply[strings.Index(reply, "Reply"):strings.Index(reply, " =>")])) < 1 {
		t.Error("no reply")
	}
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		if !strings.Contains(line, " => ") && !strings.Contains(line, " lo ") {
			t.Errorf("no verdict: %s", line)
		}
	}
	if !regexp.MustCompile(`(?m)^\d+ packets captured\n\d+ packets received by filter\n0 packets dropped by kernel$`).MatchString(errw) {
		t.Errorf("summary:\n%s", errw)
	}
}

// TestEachOnce: every packet is there once as it came and once as it left,
// through daemon and kernel alike.
func TestEachOnce(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip", "ping")
	w := start(t)
	s := w.capture(t, "-ni", "any", "icmp")
	labtest.Run(t, w.Lab, w.pod.Node, "ping", "-nqc5", "-i0.01", ip(w.sibling))
	labtest.Run(t, w.Lab, w.pod.Node, "ping", "-nqc5", "-i0.01", ip(w.far))
	labtest.Run(t, w.Lab, w.pod.Node, "ping", "-nqc5", "-i0.01", "192.168.1.32")
	s.awaitLine(t, `192\.168\.1\.32 > \S+ ICMP echo reply, id \d+, seq 5,`)
	out, _ := s.end(t)
	seen, waited := map[string]int{}, 0
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		if strings.Contains(line, "=> queue") {
			waited++
			continue
		}
		_, rest, _ := strings.Cut(line, " ")
		text, _, _ := strings.Cut(rest, " => ")
		seen[text]++
	}
	for text, n := range seen {
		if n != 1 {
			t.Errorf("%d times: %s", n, text)
		}
	}
	// 5 requests and 5 replies; forwarded ones come and leave, those of the host
	// do one of both. What had to wait is told of as queue, and as it left.
	if n := len(seen) + waited; n != 50 {
		t.Errorf("%d packets, want 50; %d of them waited\n%s", n, waited, out)
	}
}

// TestSelection: interfaces, directions, verdicts and counts.
func TestSelection(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip", "ping")
	w := start(t)
	w.warm(t, w.sibling) // a packet that waits for its neighbour has another verdict
	for _, c := range []struct {
		args      []string
		want, not string
	}{
		{[]string{"-ni", w.pod.Iface, "icmp"}, `IP ` + ip(w.pod) + ` > ` + ip(w.sibling) + `: ICMP echo request.* => forward`, ` In `},
		{[]string{"-ni", w.sibling.Iface, "-Q", "out", "icmp"}, `ICMP echo request.* => forward from`, `echo reply`},
		{[]string{"-ni", "cali*", "-Q", "in", "icmp"}, `In .*ICMP echo request`, ` Out `},
		{[]string{"-ni", w.pod.Iface, "-i", "ens192", "--drops"}, `=> drop IP_INNOROUTES`, `=> (forward|local|answer)`},
		{[]string{"-ni", "any", "--reason", "IP_INN*"}, `=> drop IP_INNOROUTES`, `=> (forward|local|answer)`},
		{[]string{"-ni", "any", "--reason", "forward", "--verdict", "line"}, `(?s)ICMP echo request[^\n]*\n\t=> forward`, `=> (drop|local|answer)`},
		{[]string{"icmp", "-ni", "any", "-ve"}, `(?s)ttl 64.*\n\trule 32766, table main, neigh \S+, mac ee:ee:ee:ee:ee:ee > \S+, ttl 64>63, mtu 1500(, took|\n)`, `^$`},
	} {
		s := w.capture(t, c.args...)
		labtest.Run(t, w.Lab, w.pod.Node, "ping", "-nqc2", "-i0.01", ip(w.sibling))
		w.ping(t, w.pod, "10.99.0.1")
		s.awaitLine(t, c.want)
		out, _ := s.end(t)
		if m := regexp.MustCompile(c.not).FindString(strings.TrimSpace(out)); m != "" {
			t.Errorf("%v: %q in\n%s", c.args, m, out)
		}
	}
	s := w.capture(t, "-nc", "2", "-i", "any", "icmp")
	labtest.Run(t, w.Lab, w.pod.Node, "ping", "-nqc5", "-i0.01", ip(w.sibling))
	if out, errw := s.wait(t); strings.Count(out, "\n") != 2 || !strings.Contains(errw, "2 packets captured") {
		t.Errorf("-c 2:\n%s%s", out, errw)
	}
	s = w.capture(t, "-i", "any", "--summary")
	labtest.Run(t, w.Lab, w.pod.Node, "ping", "-nqc5", "-i0.01", ip(w.sibling))
	w.ping(t, w.pod, "10.99.0.1")
	if out, _ := s.end(t); !regexp.MustCompile(`(?m)^5 +`+w.pod.Iface+` +in +forward *$`).MatchString(out) || !strings.Contains(out, "IP_INNOROUTES") {
		t.Errorf("--summary:\n%s", out)
	}
}

// TestJSON: one object a line.
func TestJSON(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip", "ping")
	w := start(t)
	w.warm(t, w.sibling)
	s := w.capture(t, "-ni", "any", "--verdict", "json", "icmp")
	labtest.Run(t, w.Lab, w.pod.Node, "ping", "-nqc3", "-i0.01", ip(w.sibling))
	s.awaitLine(t, `seq 3.*"direction":"out"|"direction":"out".*seq 3`)
	out, _ := s.end(t)
	forwarded := 0
	for line := range strings.Lines(out) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		var p struct {
			Time                                     time.Time
			Interface, Direction, Text, Verdict, Out string
			ID                                       uint64
			Length                                   int
			Route                                    string
		}
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if p.Verdict == "forward" && p.Direction == "in" && p.Out != "" && p.ID > 0 && p.Length == 98 && strings.HasPrefix(p.Text, "IP "+ip(w.pod)) {
			forwarded++
		}
	}
	if forwarded < 2 {
		t.Errorf("%d requests that were forwarded:\n%s", forwarded, out)
	}
}

// TestFiles: what -w writes others read, and -r prints the verdicts again.
func TestFiles(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip", "ping", "tcpdump", "tshark", "capinfos")
	w := start(t)
	dir := t.TempDir()
	ng, plain := filepath.Join(dir, "x.pcapng"), filepath.Join(dir, "x.pcap")
	s := w.capture(t, "-ni", "any", "-w", ng, "--print", "icmp")
	p := w.capture(t, "-ni", "any", "-w", plain, "icmp")
	labtest.Run(t, w.Lab, w.pod.Node, "ping", "-nqc3", "-i0.01", ip(w.sibling))
	w.ping(t, w.pod, "10.99.0.1")
	s.awaitLine(t, `=> originate`)
	live, _ := s.end(t)
	if _, errw := p.end(t); !strings.Contains(errw, "a pcap file has no verdicts") {
		t.Errorf("-w x.pcap says nothing of verdicts: %s", errw)
	}
	live = strings.TrimSpace(live) + "\n"
	if again := command(t, labtest.Binary(t), "capture", "-nr", ng); again != live {
		t.Errorf("-r prints\n%s, was\n%s", again, live)
	}
	bare := command(t, "tcpdump", "-nr", ng)
	if got := command(t, labtest.Binary(t), "capture", "-nr", ng, "--verdict", "off"); got != bare {
		t.Errorf("--verdict off prints\n%s, tcpdump\n%s", got, bare)
	}
	if got, want := command(t, labtest.Binary(t), "capture", "-enr", plain), command(t, "tcpdump", "-enr", plain); got != want {
		t.Errorf("pcap: %s, tcpdump %s", got, want)
	}
	if got := command(t, labtest.Binary(t), "capture", "-nr", ng, "--drops"); strings.Count(got, "\n") != 1 || !strings.Contains(got, "=> drop IP_INNOROUTES") {
		t.Errorf("-r --drops: %s", got)
	}
	ours, theirs := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
	command(t, labtest.Binary(t), "capture", "-r", plain, "-w", ours, "icmp[icmptype] == icmp-echo")
	command(t, "tcpdump", "-r", plain, "-w", theirs, "icmp[icmptype] == icmp-echo")
	if a, b := read(t, ours), read(t, theirs); !bytes.Equal(a, b) || len(a) < 100 {
		t.Errorf("-r x.pcap -w writes\n%x, tcpdump\n%x", a, b)
	}
	command(t, labtest.Binary(t), "capture", "-r", ng, "-w", ours, "--drops")
	if again := command(t, labtest.Binary(t), "capture", "-nr", ours); strings.Count(again, "\n") != 1 || !strings.Contains(again, "=> drop IP_INNOROUTES") {
		t.Errorf("-r x.pcapng -w: %s", again)
	}
	fields := command(t, "tshark", "-nr", ng, "-T", "fields", "-e", "frame.interface_name", "-e", "frame.packet_id", "-e", "frame.packet_flags_direction", "-e", "frame.comment", "-Y", `frame.comment contains "verdict=drop"`)
	if !regexp.MustCompile(`(?m)^` + w.pod.Iface + `\t\d+\t(0x0*)?1\tverdict=drop reason=IP_INNOROUTES id=\d+ icmp=3/0`).MatchString(fields) {
		t.Errorf("tshark: %q", fields)
	}
	if info := command(t, "capinfos", ng); !strings.Contains(info, w.pod.Iface) || !strings.Contains(info, "nanoseconds") {
		t.Errorf("capinfos:\n%s", info)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
	var errw bytes.Buffer
	cmd.Stderr = &errw
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, errw.String())
	}
	return string(out)
}

// TestWithoutDaemon: the same text as tcpdump's on the same interface, from a
// packet socket, and a word that there are no verdicts.
func TestWithoutDaemon(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip", "ping", "tcpdump")
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
	ours := sniff(t, l, "host0", labtest.Binary(t), "capture", "--control", filepath.Join(t.TempDir(), "none"), "-enti", "ens192", "icmp or arp")
	theirs := sniff(t, l, "host0", "tcpdump", "-lenti", "ens192", "icmp or arp")
	any := sniff(t, l, "host0", labtest.Binary(t), "capture", "--control", filepath.Join(t.TempDir(), "none"), "-nti", "any", "icmp")
	labtest.Run(t, l, "host0", "ping", "-nqc3", "-i0.05", "-s", "2000", "192.168.1.16")
	last := `192\.168\.1\.16 > 192\.168\.1\.32: ICMP echo reply, id \d+, seq 3,`
	for _, s := range []*sniffer{ours, theirs, any} {
		s.awaitLine(t, last)
	}
	out, errw := ours.end(t)
	want, _ := theirs.end(t)
	if out != want {
		t.Errorf("got\n%s\ntcpdump\n%s", out, want)
	}
	if !strings.Contains(errw, "without verdicts") {
		t.Error(errw)
	}
	all, _ := any.end(t)
	if !strings.Contains(all, "ens192 Out IP 192.168.1.32 > 192.168.1.16: ICMP echo request") || !strings.Contains(all, "ens192 In  IP") {
		t.Errorf("-i any:\n%s", all)
	}
}

// TestRenamedWithoutDaemon: an interface that gets a name that was asked for
// while the capture runs is shown from then on, as container runtimes name
// theirs.
func TestRenamedWithoutDaemon(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip", "ping")
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico})
	s := sniff(t, l, "host0", labtest.Binary(t), "capture", "--control", filepath.Join(t.TempDir(), "none"), "-lni", "up*", "-i", "later*", "icmp or arp")
	ping := func() { labtest.Run(t, l, "host0", "ping", "-nqc1", "-W5", "192.168.1.16") }
	ping()
	labtest.Run(t, l, "host0", "ip", "link", "set", "ens192", "down")
	labtest.Run(t, l, "host0", "ip", "link", "set", "ens192", "name", "later0")
	labtest.Run(t, l, "host0", "ip", "link", "set", "later0", "up")
	for late := time.Now().Add(patience); ; {
		ping()
		s.mu.Lock()
		seen := strings.Contains(s.stdout.String(), "later0 Out IP 192.168.1.32 > 192.168.1.16: ICMP echo request")
		s.mu.Unlock()
		if seen {
			break
		}
		if time.Now().After(late) {
			t.Fatal("it is not shown")
		}
	}
	if out, _ := s.end(t); strings.Contains(out, "ens192") {
		t.Errorf("what was not asked for:\n%s", out)
	}
}

// TestRefused: what is typed wrongly costs a line and exit 2; what can't be,
// exit 1.
func TestRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"-Q sideways", 2, "unknown capture direction"},
		{"-c 0", 2, "invalid packet count"},
		{"-c x", 2, "-c"},
		{"-s 300000", 2, "invalid snaplen"},
		{"--verdict loud", 2, "--verdict"},
		{"-r nothing-there", 1, "nothing-there"},
		{"-r /dev/null", 1, "truncated dump file"},
		{"--no-such", 2, "no-such"},
		{"-i any host host", 2, "filter expression: column 6"},
		{"-y PPP -i any", 2, "not one of the DLTs"},
	} {
		cmd := exec.CommandContext(labtest.Soon(t), labtest.Binary(t), append([]string{"capture", "--control", "/nonexistent/x"}, strings.Fields(c.args)...)...)
		var errw bytes.Buffer
		cmd.Stderr = &errw
		_ = cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(errw.String(), c.want) || strings.Count(errw.String(), "\n") > 1 && c.code == 2 {
			t.Errorf("%s: exit %d, %q; want %d, %q", c.args, code, errw.String(), c.code, c.want)
		}
	}
}

// TestSharedScores compares with the real tcpdump's text and selection on
// captures that lie outside of the repository.
func TestSharedScores(t *testing.T) {
	dir := filepath.Dir(nstest.Captures(t, "cmp-tcpdump"))
	bin, err := filepath.Abs(labtest.Binary(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ variant, goal string }{{"", "99%"}, {"tttt", "99%"}, {"noe", "99%"}, {"hash", "99%"}, {"X", "98%"}, {"q", "98%"}, {"v", "90%"}} {
		args := []string{}
		command := bin + " capture -e -nn -r {}"
		if c.variant != "" {
			args, command = []string{"--variant", c.variant}, bin+" capture {args} -r {}"
		}
		compare(t, fmt.Sprintf("text %q", c.variant), filepath.Join(dir, "cmp-tcpdump"), append(args, command, dir, c.goal)...)
	}
	compare(t, "filters", filepath.Join(dir, "cmp-filter"), bin+" capture -nn -tt -r {} {expr}", filepath.Join(dir, "filters"), "100%")
}

func compare(t *testing.T, name, program string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	t.Logf("%s: %s", name, lines[len(lines)-1])
	if err != nil {
		t.Errorf("%s: %v\n%s", name, err, out)
	}
}

// TestHostTraffic: what the kernel sends and gets is shown to each of several
// sessions that look at one interface each, and to one that comes later.
func TestHostTraffic(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip", "ping")
	w := start(t)
	pod := w.capture(t, "-ni", w.pod.Iface, "icmp")
	labtest.Run(t, w.Lab, "host0", "ping", "-nqc1", ip(w.pod))
	pod.awaitLine(t, `IP 192\.168\.1\.32 > `+ip(w.pod)+`: ICMP echo request.* => local #\d+`)
	pod.awaitLine(t, `IP `+ip(w.pod)+` > 192\.168\.1\.32: ICMP echo reply.* => local #\d+`)
	up := w.capture(t, "-ni", "ens192", "icmp")
	labtest.Run(t, w.Lab, "host0", "ping", "-nqc1", "192.168.1.16")
	up.awaitLine(t, `IP 192\.168\.1\.16 > 192\.168\.1\.32: ICMP echo reply.* => local #\d+`)
	if out, _ := pod.end(t); strings.Contains(out, "192.168.1.16") {
		t.Errorf("another interface's packets:\n%s", out)
	}
	labtest.Run(t, w.Lab, "host0", "ping", "-nqc1", "-s", "100", "192.168.1.16")
	up.awaitLine(t, `IP 192\.168\.1\.16 > 192\.168\.1\.32: ICMP echo reply.*length 108 => local #\d+`)
	up.end(t)
}
