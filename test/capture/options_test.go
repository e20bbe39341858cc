package capture

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// both runs a test with a daemon and without.
func both(t *testing.T, test func(t *testing.T, l *live)) {
	for _, daemon := range []bool{false, true} {
		t.Run(map[bool]string{false: "without daemon", true: "with daemon"}[daemon], func(t *testing.T) {
			t.Parallel()
			test(t, startLive(t, daemon))
		})
	}
}

// control is the argument that names the daemon, or none.
func (l *live) control() string {
	if l.daemon != nil {
		return l.daemon.Control
	}
	return l.none
}

// marked sends a datagram that no filter of these tests misses.
func (l *live) marked(t *testing.T, n int) {
	t.Helper()
	for range n {
		l.pod.send(t, join(mac(t, "ee:ee:ee:ee:ee:ee"), mac(t, l.world.pod.PeerMAC), be16(0x0800), ipv4(17, ip(l.world.pod), silent, udp(markPort, markPort, 0))))
	}
}

// gone waits for the end of a capture, whatever its status.
func (s *sniffer) gone(t *testing.T) (code int, stdout, stderr string) {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(patience):
		t.Fatalf("capture does not end\n%s", s.stderr.String())
	}
	return s.cmd.ProcessState.ExitCode(), s.stdout.String(), s.stderr.String()
}

// counted waits until a capture counts so many packets.
func (s *sniffer) counted(t *testing.T, n int) {
	t.Helper()
	for asked := 1; ; asked++ {
		s.cmd.Process.Signal(syscall.SIGUSR1)
		var m [][]string
		s.await(t, func(_, errw string) bool {
			m = countsRE.FindAllStringSubmatch(errw, -1)
			return len(m) >= asked
		})
		if m[len(m)-1][1] == fmt.Sprint(n) {
			return
		}
	}
}

// TestSignals: each signal that ends a capture has what was captured be in the
// file, the counts be told and the status be 0, as with tcpdump; others do not
// end it.
func TestSignals(t *testing.T) {
	// What this process ignores, under nohup say, its children do; what it catches ends them.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP, syscall.SIGQUIT)
	t.Cleanup(func() { signal.Stop(caught) })
	both(t, func(t *testing.T, l *live) {
		for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGINT, syscall.SIGPIPE} {
			name := filepath.Join(t.TempDir(), "x.pcap")
			s := l.ours(t, "-i", l.world.pod.Iface, "-w", name, "udp", "port", fmt.Sprint(markPort))
			l.marked(t, 3)
			s.counted(t, 3)
			s.cmd.Process.Signal(sig)
			code, _, errw := s.gone(t)
			if code != 0 || !strings.Contains(errw, "\n3 packets captured\n3 packets received by filter\n0 packets dropped by kernel\n") {
				t.Errorf("%v: exit %d\n%s", sig, code, errw)
			}
			if out := command(t, "tcpdump", "-nr", name); strings.Count(out, ".4242: UDP, length 0") != 3 {
				t.Errorf("%v: in the file:\n%s", sig, out)
			}
		}
	})
}

// TestNohup: under nohup(1) a capture goes on when its terminal goes.
func TestNohup(t *testing.T) {
	labtest.Need(t, "nohup")
	both(t, func(t *testing.T, l *live) {
		s := sniff(t, l.Lab, "host0", "nohup", labtest.Binary(t), "capture", "--control", l.control(), "-lni", l.world.pod.Iface, "udp")
		s.cmd.Process.Signal(syscall.SIGHUP)
		l.marked(t, 1)
		s.awaitLine(t, `\.4242: UDP`)
		s.end(t)
	})
}

// TestProgress: SIGUSR2 has what was captured be in the file at once, and -v -w
// tells how many packets there are.
func TestProgress(t *testing.T) {
	both(t, func(t *testing.T, l *live) {
		name := filepath.Join(t.TempDir(), "x.pcap")
		s := l.ours(t, "-vi", l.world.pod.Iface, "-w", name, "udp")
		l.marked(t, 2)
		s.counted(t, 2)
		s.cmd.Process.Signal(syscall.SIGUSR2)
		for late := time.Now().Add(patience); ; {
			if b, err := os.ReadFile(name); err == nil && len(b) == 24+2*(16+42) {
				break
			}
			if time.Now().After(late) {
				t.Fatal("the packets are not in the file")
			}
		}
		s.await(t, func(_, errw string) bool { return strings.Contains(errw, "Got 2\r") })
		if _, errw := s.end(t); !strings.Contains(errw, "proxyarpd: listening on ") {
			t.Error(errw)
		}
	})
}

// carries waits until an interface of host0 can send. To ask for it has the
// kernel see to that.
func (l *live) carries(t *testing.T, name string) {
	t.Helper()
	for late := time.Now().Add(patience); !strings.Contains(labtest.Run(t, l.Lab, "host0", "ip", "-br", "link", "show", name), " UP "); {
		if time.Now().After(late) {
			t.Fatalf("%s does not come up", name)
		}
	}
}

// TestInterfaceGoes: a capture of interfaces that go away ends, in libpcap's
// words and with status 1; one of any does not, nor does a new name end it.
func TestInterfaceGoes(t *testing.T) {
	both(t, func(t *testing.T, l *live) {
		link := func(args ...string) { labtest.Run(t, l.Lab, "host0", "ip", append([]string{"link"}, args...)...) }
		for _, name := range []string{"gone0", "gone1"} {
			link("add", name, "type", "veth", "peer", "name", name+"p")
			for _, end := range []string{name, name + "p"} { // else they speak by themselves
				if err := l.SetSysctl("host0", "net/ipv6/conf/"+end+"/disable_ipv6", "1"); err != nil {
					t.Fatal(err)
				}
			}
			link("set", name, "up")
			link("set", name+"p", "up")
		}
		one, two, all := l.ours(t, "-ni", "gone0"), l.ours(t, "-ni", "gone0", "-i", "gone1"), l.ours(t, "-ni", "any", "udp")
		link("set", "gone0", "down")
		link("set", "gone0", "name", "renamed0")
		link("set", "renamed0", "up")
		l.carries(t, "gone0p")
		from := inject(t, l.Lab, "host0", "gone0p")
		from.send(t, join(make([]byte, 12), be16(0x88b5), []byte("renamed")))
		one.awaitLine(t, `0x88b5`)
		link("del", "renamed0")
		code, _, errw := one.gone(t)
		if code != 1 || !strings.Contains(errw, ": The interface disappeared\n") || !strings.Contains(errw, "1 packet captured\n") {
			t.Errorf("exit %d\n%s", code, errw)
		}
		l.carries(t, "gone1p")
		from = inject(t, l.Lab, "host0", "gone1p")
		from.send(t, join(make([]byte, 12), be16(0x88b5), []byte("another")))
		two.awaitLine(t, `gone1 .*0x88b5`)
		link("del", "gone1")
		if code, _, errw := two.gone(t); code != 1 || !strings.Contains(errw, ": The interface disappeared\n") {
			t.Errorf("exit %d\n%s", code, errw)
		}
		l.marked(t, 1)
		all.awaitLine(t, `\.4242: UDP`)
		all.end(t)
	})
}

// TestInterfaceNames: numbers are those of -D, a glob that nothing matches says
// so and waits, and what can't be captured says why.
func TestInterfaceNames(t *testing.T) {
	labtest.Need(t, "setpriv")
	both(t, func(t *testing.T, l *live) {
		run := func(args ...string) (code int, out string) {
			cmd := l.Command(labtest.Soon(t), "host0", args[0], args[1:]...)
			b, _ := cmd.CombinedOutput()
			return cmd.ProcessState.ExitCode(), string(b)
		}
		bin := labtest.Binary(t)
		_, list := run(bin, "capture", "-D")
		_, theirs := run("tcpdump", "-D")
		if !strings.HasPrefix(theirs, list) {
			t.Errorf("-D:\n%stcpdump:\n%s", list, theirs)
		}
		m := regexp.MustCompile(`(?m)^(\d+)\.` + l.world.pod.Iface + ` `).FindStringSubmatch(list)
		if m == nil {
			t.Fatal(list)
		}
		s := l.ours(t, "-ni", m[1], "udp")
		l.marked(t, 1)
		s.awaitLine(t, `\.4242: UDP`)
		if _, errw := s.end(t); !strings.Contains(errw, "listening on "+l.world.pod.Iface+", ") {
			t.Error(errw)
		}
		s = l.ours(t, "-ni", "later*")
		s.await(t, func(_, errw string) bool {
			return strings.Contains(errw, "later*: no interface matches; waiting for one\n")
		})
		labtest.Run(t, l.Lab, "host0", "ip", "link", "add", "later0", "type", "veth", "peer", "name", "other0")
		labtest.Run(t, l.Lab, "host0", "ip", "link", "set", "later0", "up")
		labtest.Run(t, l.Lab, "host0", "ip", "link", "set", "other0", "up")
		l.carries(t, "other0")
		from := inject(t, l.Lab, "host0", "other0")
		for late := time.Now().Add(patience); ; { // the daemon learns of it when the kernel tells
			from.send(t, join(make([]byte, 12), be16(0x88b5), []byte("later")))
			s.mu.Lock()
			seen := strings.Contains(s.stdout.String(), "0x88b5")
			s.mu.Unlock()
			if seen {
				break
			}
			if time.Now().After(late) {
				t.Fatal("an interface that came later is not shown")
			}
		}
		s.end(t)
		labtest.Run(t, l.Lab, "host0", "ip", "link", "set", "later0", "down")
		for _, c := range []struct {
			args string
			code int
			says string
		}{
			{"-i 99", 1, "99: Invalid adapter index"}, {"-i -1", 1, "-1: Invalid adapter index"}, {"-i 0", 1, "0: Invalid adapter index"}, {"-i 7x", 1, "7x: No such device exists"},
			{"-i nosuch", 1, "nosuch: No such device exists"}, {"-i any -i nosuch", 1, "nosuch: No such device exists"}, {"-i later0", 1, "later0: That device is not up"},
			{"-i any host host", 2, "can't parse filter expression: "}, {"-i any arp and ip", 2, "expression rejects all packets"}, {"-i " + tunnel + " arp", 2, "expression rejects all packets"},
			{"-i any port nosuch", 2, "unknown port 'nosuch'"}, {"-i lo vlan 5000", 2, "VLAN tag 5000 greater than maximum 4095"},
		} {
			code, out := run(append([]string{bin, "capture", "--control", l.control()}, strings.Fields(c.args)...)...)
			if code != c.code || !strings.HasPrefix(out, "proxyarpd: capture: "+c.says) || strings.Count(out, "\n") != 1 {
				t.Errorf("%s: exit %d\n%s; want %d, %s", c.args, code, out, c.code, c.says)
			}
		}
		if l.daemon == nil {
			code, out := run("setpriv", "--bounding-set", "-net_raw", "--inh-caps", "-net_raw", bin, "capture", "--control", l.none, "-i", "lo")
			if code != 1 || !strings.HasPrefix(out, "proxyarpd: capture: lo: You don't have permission to perform this capture on that device") || !strings.Contains(out, "CAP_NET_RAW") {
				t.Errorf("without CAP_NET_RAW: exit %d\n%s", code, out)
			}
		}
	})
}

// TestLoopback: what goes over lo is there once, on lo and on any.
func TestLoopback(t *testing.T) {
	both(t, func(t *testing.T, l *live) {
		for _, args := range [][]string{{"-eni", "lo", "icmp"}, {"-eni", "any", "icmp"}, {"-eni", "l*", "icmp"}} {
			s := l.ours(t, args...)
			labtest.Run(t, l.Lab, "host0", "ping", "-nqc2", "-i0.01", "127.0.0.1")
			s.awaitLine(t, `echo reply, id \d+, seq 2,`)
			out, _ := s.end(t)
			if strings.Count(out, "echo request") != 2 || strings.Count(out, "echo reply") != 2 || strings.Contains(out, " Out ") {
				t.Errorf("%v:\n%s", args, out)
			}
		}
		s := l.ours(t, "-ni", "lo", "-Q", "out", "icmp")
		labtest.Run(t, l.Lab, "host0", "ping", "-nqc1", "127.0.0.1")
		if out, _ := s.end(t); strings.Contains(out, "ICMP") {
			t.Errorf("-Q out: %s", out)
		}
	})
}

// TestRotation: -G and -W end with status 0 when the last file is full, -z is
// run with the name of each, and each file is whole.
func TestRotation(t *testing.T) {
	both(t, func(t *testing.T, l *live) {
		dir := t.TempDir()
		script := filepath.Join(dir, "rotated")
		if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$1\" >> "+filepath.Join(dir, "list")+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		s := l.ours(t, "-ni", l.world.pod.Iface, "-G", "1", "-W", "2", "-w", filepath.Join(dir, "%s.pcap"), "-z", script, "udp")
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.gone(t)
		}()
	traffic:
		for {
			select {
			case <-done:
				break traffic
			case <-time.After(10 * time.Millisecond):
				l.marked(t, 1)
			}
		}
		if code := s.cmd.ProcessState.ExitCode(); code != 0 || !strings.Contains(s.stderr.String(), "Maximum file limit reached: 2\n") || !strings.Contains(s.stderr.String(), "packets captured\n") {
			t.Errorf("exit %d\n%s", code, s.stderr.String())
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.pcap"))
		if err != nil || len(files) != 2 {
			t.Fatalf("files: %v %v", files, err)
		}
		for _, f := range files {
			command(t, "tcpdump", "-nr", f)
		}
		for late := time.Now().Add(patience); ; { // nobody waits for the command
			if b, _ := os.ReadFile(filepath.Join(dir, "list")); string(b) == files[0]+"\n"+files[1]+"\n" {
				break
			} else if time.Now().After(late) {
				t.Fatalf("-z was run with %q", b)
			}
		}
	})
}

// TestFileList: -V reads the files of a list as tcpdump does.
func TestFileList(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "tcpdump")
	data, err := filepath.Abs(filepath.Join("..", "..", "capture", "dissect", "testdata"))
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(t.TempDir(), "list")
	names := []string{filepath.Join(data, "hand-ip4.pcap"), filepath.Join(data, "hand-tcp.pcap"), filepath.Join(data, "hand-raw.pcap")}
	if err := os.WriteFile(list, []byte(strings.Join(names, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-nV", list}, {"-n#tttt", "-V", list, "tcp"}, {"-nc", "30", "-V", list}, {"-V", list, "--count"}} {
		if got, want := command(t, labtest.Binary(t), append([]string{"capture"}, args...)...), command(t, "tcpdump", args...); got != want {
			t.Errorf("%v: %d bytes, tcpdump's are %d", args, len(got), len(want))
		}
	}
	if err := os.WriteFile(list, []byte(names[0]+"\n/nosuch\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(labtest.Soon(t), labtest.Binary(t), "capture", "-nV", list)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "/nosuch") {
		t.Errorf("%v: %.200s", err, out)
	}
}

// TestForeign: -f has names for addresses of the interface's network alone.
func TestForeign(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "ip", "ping")
	l := labtest.New(t, lab.Spec{Form: lab.FormCalico, Hosts: 1})
	labtest.Run(t, l, "host0", "ip", "address", "add", "127.0.0.2/32", "dev", "lo")
	s := sniff(t, l, "host0", labtest.Binary(t), "capture", "--control", filepath.Join(t.TempDir(), "none"), "-lfi", "lo", "icmp")
	labtest.Run(t, l, "host0", "ping", "-nqc1", "-I", "192.168.1.32", "127.0.0.1")
	s.awaitLine(t, `IP 192\.168\.1\.32 > localhost`)
	s.end(t)
}

// TestNotTogether: options that can't apply are refused with the reason, those
// that tcpdump has and the command has not as well.
func TestNotTogether(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, says string }{
		{"--verdict json -X", "-X does not go with --verdict json"}, {"--verdict json -A", "-A does not go"}, {"--verdict json -tt", "-t does not go"}, {"--verdict json -#", "-# does not go"},
		{"--verdict json --nano", "--nano does not go"}, {"--verdict json -w x", "add --print to -w"}, {"--verdict line -w x", "add --print to -w"},
		{"--summary -e", "-e does not go with --summary"}, {"--summary -xx", "-x does not go"}, {"--summary --print", "--print does not go"}, {"--summary --verdict off", "--verdict off does not go with --summary"},
		{"-E 3des-cbc:x", "-E is refused: "}, {"-H", "-H is refused: "}, {"-I", "-I is refused: "}, {"-M secret", "-M is refused: "}, {"-j adapter", "-j adapter is refused: "}, {"-j x", "invalid time stamp type"},
		{"-T rtp", "-T rtp is refused: "}, {"-T x", "unknown packet type"}, {"-z ls", "-z is for -C or -G"}, {"-V x -r y", "mutually exclusive"}, {"-f -r x", "-f can not be used with -V or -r"},
	} {
		cmd := exec.CommandContext(labtest.Soon(t), labtest.Binary(t), append([]string{"capture", "--control", "/nonexistent/x"}, strings.Fields(c.args)...)...)
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(string(out), c.says) || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%s: exit %d, %s; want 2, %s", c.args, code, out, c.says)
		}
	}
	if out := command(t, labtest.Binary(t), "capture", "--version"); !strings.HasPrefix(out, "proxyarpd capture ") || !strings.Contains(out, "tcpdump 4.99.3") {
		t.Errorf("--version: %s", out)
	}
}

// TestPromiscuous: one interface is in promiscuous mode while it is captured on,
// but with -p; several are not, as with tcpdump -i any.
func TestPromiscuous(t *testing.T) {
	both(t, func(t *testing.T, l *live) {
		promiscuous := func(n string) {
			t.Helper()
			for late := time.Now().Add(patience); ; { // it ends a moment after the capture's end
				out := labtest.Run(t, l.Lab, "host0", "ip", "-d", "link", "show", l.world.pod.Iface)
				if strings.Contains(out, "promiscuity "+n+" ") {
					return
				}
				if time.Now().After(late) {
					t.Fatalf("not %s:\n%s", n, out)
				}
			}
		}
		promiscuous("0")
		a, b := l.ours(t, "-ni", l.world.pod.Iface), l.ours(t, "-ni", l.world.pod.Iface)
		if l.daemon != nil {
			promiscuous("1") // one socket for all
		} else {
			promiscuous("2")
		}
		a.end(t)
		promiscuous("1")
		b.end(t)
		promiscuous("0")
		for _, args := range [][]string{{"-pni", l.world.pod.Iface}, {"-ni", "any"}, {"-ni", "cali*"}} {
			s := l.ours(t, args...)
			promiscuous("0")
			s.end(t)
		}
	})
}

// TestStandardInput: a capture that waits for its standard input ends when it is
// told to, before the first byte and behind a packet.
func TestStandardInput(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join("..", "..", "capture", "dissect", "testdata", "hand-tcp.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	const head, packet = 24, 16
	first := head + packet + int(binary.LittleEndian.Uint32(b[head+8:]))
	for _, some := range []int{0, 3, first, first + 7} {
		cmd := exec.CommandContext(labtest.Soon(t), labtest.Binary(t), "capture", "-lnr", "-")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write(b[:some]); err != nil {
			t.Fatal(err)
		}
		if some >= first {
			if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.Contains(line, "IP ") {
				t.Errorf("%q, %v", line, err)
			}
		}
		cmd.Process.Signal(syscall.SIGINT)
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case <-ended:
		case <-time.After(patience):
			cmd.Process.Kill()
			t.Fatalf("after %d bytes: it does not end", some)
		}
		if code := cmd.ProcessState.ExitCode(); code > 1 || some >= first && code < 0 { // else it may not have begun
			t.Errorf("after %d bytes: exit %d", some, code)
		}
	}
}
