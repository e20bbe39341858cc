package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"proxyarpd/capture"
	"proxyarpd/capture/pcapfile"
	"proxyarpd/capture/source"
	"proxyarpd/capture/source/sourcetest"
)

var (
	sent    = capture.Verdict{Kind: capture.Forward, ID: 1, Out: "cali2", TTL: "64>63"}
	dropped = capture.Verdict{Kind: capture.Drop, Reason: "NEIGH_FAILED", ID: 2, Out: "ens1"}
)

// scene is what the daemon of the tests sees: three packets, one of an interface that it does not serve.
func scene(s *sourcetest.Session) {
	s.Interface("cali1", 7)
	s.Packet(0, sourcetest.UDP(2), &sent)
	s.Packet(0, sourcetest.UDP(3), &dropped)
	s.Packet(0, sourcetest.UDP(4), nil)
	s.Statistics(0, 4, 5, 1, true)
}

// screen collects what is printed, for any goroutine.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// await waits until there is a text.
func (s *screen) await(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !strings.Contains(s.String(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %q in %q", text, s)
		}
	}
}

// live runs the command with the daemon at path.
func live(t *testing.T, path string, args ...string) (out, errw string, err error) {
	t.Helper()
	var o, e screen
	err = Run(t.Context(), append(args, "--control", path), Env{Out: &o, Err: &e, Version: "1"})
	return o.String(), e.String(), err
}

const (
	first  = "IP 10.0.0.1.1111 > 10.0.0.2.2222: UDP, length 5"
	second = "IP 10.0.0.1.1111 > 10.0.0.3.2222: UDP, length 5"
	third  = "IP 10.0.0.1.1111 > 10.0.0.4.2222: UDP, length 5"
)

// What a daemon sends is printed with its verdicts, and the counts are the daemon's.
func TestLiveText(t *testing.T) {
	path := sourcetest.Serve(t, capture.Reply{Interfaces: []string{"lo"}, HostTraffic: true}, scene)
	const counts = "3 packets captured\n4 packets received by filter\n5 packets dropped by kernel\n1 packet not recorded: the reader was too slow\n"
	const ends = "proxyarpd: the daemon ends, and the capture with it\n"
	const listening = "proxyarpd: verbose output suppressed, use -v[v]... for full protocol decode\nlistening on lo, link-type EN10MB (Ethernet), snapshot length 262144 bytes\n"
	for _, c := range []struct{ args, out, errw string }{
		{"-nt -i lo", first + " => forward cali2 #1\n" + second + " => drop NEIGH_FAILED ens1 #2\n" + third + "\n", listening + ends + counts},
		{"-nt -i lo --verdict off", first + "\n" + second + "\n" + third + "\n", listening + ends + counts},
		{"-nt -i lo --verdict line", first + "\n\t=> forward cali2 #1\n" + second + "\n\t=> drop NEIGH_FAILED ens1 #2\n" + third + "\n", listening + ends + counts},
		{"-nt -i lo -s 100 -v --verdict off", "", "proxyarpd: listening on lo, link-type EN10MB (Ethernet), snapshot length 100 bytes\n" + ends + counts},
		{"-nt", "cali1 In  " + first + " => forward cali2 #1\ncali1 In  " + second + " => drop NEIGH_FAILED ens1 #2\ncali1 In  " + third + "\n",
			strings.NewReplacer("on lo", "on any", "EN10MB (Ethernet)", "LINUX_SLL2 (Linux cooked v2)").Replace(listening) + ends + counts},
		{"--summary", "PACKETS  INTERFACE  DIR  VERDICT  REASON\n1        cali1      in   -        \n1        cali1      in   drop     NEIGH_FAILED\n1        cali1      in   forward  \n",
			"proxyarpd: listening on any, link-type LINUX_SLL2 (Linux cooked v2), snapshot length 262144 bytes\n" + ends + counts},
		{"-nt -i lo -c 2", first + " => forward cali2 #1\n" + second + " => drop NEIGH_FAILED ens1 #2\n", listening + "2" + strings.TrimPrefix(counts, "3")},
		{"-nt -i lo -c 1", first + " => forward cali2 #1\n", listening + strings.Replace("1"+strings.TrimPrefix(counts, "3"), "1 packets", "1 packet", 1)},
	} {
		out, errw, err := live(t, path, strings.Fields(c.args)...)
		if err != nil || c.out != "" && out != c.out || errw != c.errw {
			t.Errorf("%s: %v\n%s not\n%s\n%s not\n%s", c.args, err, out, c.out, errw, c.errw)
		}
	}
	if out, _, err := live(t, path, "-i", "lo", "--verdict", "json"); err != nil || strings.Count(out, `"verdict":"drop"`) != 1 || strings.Count(out, "\n") != 3 {
		t.Errorf("%v: %s", err, out)
	}
}

// What the options say is what the daemon is asked for.
func TestLiveRequest(t *testing.T) {
	asked := make(chan capture.Request, 1)
	path := sourcetest.Serve(t, capture.Reply{Interfaces: []string{"lo"}, HostTraffic: true}, func(s *sourcetest.Session) {
		asked <- s.Request
		scene(s)
	})
	for _, c := range []struct {
		args string
		want capture.Request
	}{
		{"", capture.Request{Interfaces: []string{"any"}, Snap: 262144}},
		{"-i lo -Q in -s 77 -B 3 udp port 53", capture.Request{Interfaces: []string{"lo"}, Filter: "udp port 53", Snap: 77, Direction: "in", Buffer: 3 << 10, Promiscuous: true}},
		{"-p -i lo -Q out --drops", capture.Request{Interfaces: []string{"lo"}, Snap: 262144, Direction: "out", Drops: true}},
		{"-i lo -i x --reason IP* --reason a", capture.Request{Interfaces: []string{"lo", "x"}, Snap: 262144, Reasons: []string{"IP*", "a"}}},
	} {
		if _, errw, err := live(t, path, strings.Fields(c.args)...); err != nil {
			t.Errorf("%s: %v: %s", c.args, err, errw)
		}
		if got := <-asked; fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: asked\n%+v, not\n%+v", c.args, got, c.want)
		}
	}
}

// What a daemon can't show is said.
func TestLiveWords(t *testing.T) {
	many := strings.Fields("a b c d e f g h i j")
	for _, c := range []struct {
		reply      capture.Reply
		args, says string
	}{
		{capture.Reply{}, "", "proxyarpd: no eBPF here: only what the daemon handles is shown, not what it leaves to the kernel\n"},
		{capture.Reply{HostTraffic: true, Foreign: many[:8]}, "", "proxyarpd: no verdicts on a, b, c, d, e, f, g, h: not served by the daemon\n"},
		{capture.Reply{HostTraffic: true, Foreign: many}, "", "proxyarpd: no verdicts on a, b, c, d, e, f, g, h and 2 more: not served by the daemon\n"},
		{capture.Reply{HostTraffic: true, Foreign: many}, "--verdict off", ""},
		{capture.Reply{HostTraffic: true}, "-i lo", ""}, // no glob that could wait
		{capture.Reply{HostTraffic: true, Interfaces: []string{"cali1"}}, "-i cali* -i x* -i any", "proxyarpd: x*: no interface matches; waiting for one\n"},
	} {
		_, errw, err := live(t, sourcetest.Serve(t, c.reply, scene), strings.Fields(c.args)...)
		said, _, _ := strings.Cut(errw, "proxyarpd: verbose output")
		if err != nil || said != c.says {
			t.Errorf("%+v %s: %v: %q, not %q", c.reply, c.args, err, said, c.says)
		}
	}
}

// Why a capture by a daemon fails, and whose fault that is.
func TestLiveErrors(t *testing.T) {
	var fault Usage
	if _, _, err := live(t, sourcetest.Refuse(t, "syntax error", true)); !errors.As(err, &fault) || fault != "syntax error" {
		t.Error(err)
	}
	if _, _, err := live(t, sourcetest.Refuse(t, "x: No such device exists", false)); err == nil || errors.As(err, &fault) || err.Error() != "x: No such device exists" {
		t.Error(err)
	}
	if _, errw, err := live(t, "/nowhere/s", "--drops"); !errors.Is(err, capture.ErrNoDaemon) || errw != "" {
		t.Errorf("%v: %s", err, errw)
	}
	if _, _, err := live(t, "/nowhere/s", "-i", "lo", "-y", "RAW"); !errors.As(err, &fault) {
		t.Error(err)
	}
	for _, c := range []struct {
		end  func(*sourcetest.Session)
		want error
		says string
	}{
		{func(*sourcetest.Session) {}, source.ErrHungUp, "the daemon hung up: it was killed, or has not waited any longer for so slow a reader"},
		{func(s *sourcetest.Session) { s.End(capture.Disappeared); s.Statistics(0, 1, 0, 0, true) }, source.ErrDisappeared, "lo: The interface disappeared"},
	} {
		path := sourcetest.Serve(t, capture.Reply{HostTraffic: true}, func(s *sourcetest.Session) {
			s.Interface("lo", 1)
			s.Packet(0, sourcetest.UDP(2), &sent)
			c.end(s)
		})
		out, errw, err := live(t, path, "-nt", "-i", "lo")
		if !errors.Is(err, c.want) || err.Error() != c.says || !strings.HasPrefix(out, first) || !strings.Contains(errw, "\n1 packet captured\n1 packet received by filter\n0 packets dropped by kernel\n") ||
			strings.Contains(errw, "the daemon ends") {
			t.Errorf("%v: %s%s", err, out, errw)
		}
	}
}

// A line is to be seen before the next packet comes, and the counts when they are asked for; ^C has the daemon say its last.
func TestLiveAttended(t *testing.T) {
	asked := make(chan bool)
	path := sourcetest.Serve(t, capture.Reply{HostTraffic: true}, func(s *sourcetest.Session) {
		s.Interface("lo", 1)
		s.Packet(0, sourcetest.UDP(2), &sent)
		if s.Told() == capture.AskStatistics {
			s.Statistics(0, 7, 2, 0, false)
		}
		close(asked)
		if s.Told() == 0 {
			s.Packet(0, sourcetest.UDP(3), &dropped)
			s.Statistics(0, 9, 2, 0, true)
		}
	})
	ctx, interrupt := context.WithCancel(t.Context())
	var out, errw screen
	counts := make(chan os.Signal)
	ended := make(chan error)
	go func() {
		ended <- Run(ctx, []string{"-nt", "-i", "lo", "--control", path}, Env{Out: &out, Err: &errw, Counts: counts})
	}()
	out.await(t, first)
	counts <- syscall.SIGUSR1
	errw.await(t, "proxyarpd: 1 packet captured, 7 packets received by filter, 2 packets dropped by kernel\n")
	<-asked
	interrupt()
	if err := <-ended; err != nil || !strings.HasSuffix(out.String(), second+" => drop NEIGH_FAILED ens1 #2\n\n") ||
		!strings.HasSuffix(errw.String(), "2 packets captured\n9 packets received by filter\n2 packets dropped by kernel\n") || strings.Contains(errw.String(), "the daemon ends") {
		t.Errorf("%v: %s%s", err, &out, &errw)
	}
}

// What is written is what came, with comments and statistics where there is room for them.
func TestLiveWrite(t *testing.T) {
	path := sourcetest.Serve(t, capture.Reply{HostTraffic: true}, scene)
	dir := t.TempDir()
	for _, c := range []struct {
		name, args   string
		format       pcapfile.Format
		link         pcapfile.LinkType
		says, prints string
	}{
		{"x.pcapng", "-i lo", pcapfile.Pcapng, pcapfile.LinkTypeEthernet, "", ""},
		{"x", "", pcapfile.Pcapng, pcapfile.LinkTypeEthernet, "", ""},
		{"x.pcap", "-i lo", pcapfile.Pcap, pcapfile.LinkTypeEthernet, "a pcap file has no verdicts; for those, let the name end in .pcapng\n", ""},
		{"any.pcap", "", pcapfile.Pcap, pcapfile.LinkTypeLinuxSLL2, "a pcap file has no verdicts", ""},
		{"y", "-i lo --verdict off", pcapfile.Pcap, pcapfile.LinkTypeEthernet, "", ""},
		{"z.pcap", "-i lo --verdict off", pcapfile.Pcap, pcapfile.LinkTypeEthernet, "", ""},
		{"x.ntar", "-i lo --print -nt", pcapfile.Pcapng, pcapfile.LinkTypeEthernet, "", first + " => forward cali2 #1\n"},
	} {
		name := filepath.Join(dir, c.name)
		out, errw, err := live(t, path, append(strings.Fields(c.args), "-w", name)...)
		if err != nil || !strings.Contains(errw, c.says) || c.says == "" && strings.Contains(errw, "a pcap file") || !strings.HasPrefix(out, c.prints) || c.prints == "" && out != "" {
			t.Errorf("%s: %v: %s%s", c.name, err, out, errw)
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r, err := pcapfile.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		n, comments := 0, 0
		var p pcapfile.Packet
		for r.Next(&p) == nil {
			n, comments = n+1, comments+len(p.Comments)
			if p.LinkType != c.link {
				t.Errorf("%s: %v", c.name, p.LinkType)
			}
		}
		want := 0
		if c.format == pcapfile.Pcapng {
			want = 2
			st := r.Interfaces()[0].Statistics
			if st == nil || st.FilterAccept != 4 || st.OSDrop != 1 || !strings.HasPrefix(r.Section().Application, "proxyarpd 1") {
				t.Errorf("%s: %+v, %+v", c.name, st, r.Section())
			}
		}
		if r.Format() != c.format || n != 3 || comments != want {
			t.Errorf("%s: %v, %d packets, %d comments", c.name, r.Format(), n, comments)
		}
	}
	if text, err := printed("-nt", "-r", filepath.Join(dir, "x")); err != nil || !strings.HasPrefix(text, "cali1 In  "+first+" => forward cali2 #1\n") {
		t.Errorf("%v: %s", err, text)
	}
	if text, err := printed("-nt", "--verdict", "off", "-r", filepath.Join(dir, "x")); err != nil || !strings.HasPrefix(text, first+"\n") {
		t.Errorf("%v: %s", err, text)
	}
}

// When enough has come, the daemon is told so, and says what it lost.
func TestLiveEnough(t *testing.T) {
	path := sourcetest.Serve(t, capture.Reply{HostTraffic: true}, func(s *sourcetest.Session) {
		s.Interface("lo", 1)
		s.Packet(0, sourcetest.UDP(2), &sent)
		if s.Told() == 0 {
			s.Packet(0, sourcetest.UDP(3), &dropped)
			s.Statistics(0, 12, 0, 3, true)
		}
	})
	out, errw, err := live(t, path, "-nt", "-i", "lo", "-c", "1")
	if err != nil || out != first+" => forward cali2 #1\n" || !strings.HasSuffix(errw, "1 packet captured\n12 packets received by filter\n0 packets dropped by kernel\n3 packets not recorded: the reader was too slow\n") {
		t.Errorf("%v: %s%s", err, out, errw)
	}
}

// SIGUSR2 has what came so far in the file.
func TestLiveFlush(t *testing.T) {
	path := sourcetest.Serve(t, capture.Reply{HostTraffic: true}, func(s *sourcetest.Session) {
		s.Interface("lo", 1)
		s.Packet(0, sourcetest.UDP(2), &sent)
		s.Told()
		s.Statistics(0, 1, 0, 0, true)
	})
	ctx, interrupt := context.WithCancel(t.Context())
	flush, ended := make(chan os.Signal), make(chan error)
	name := filepath.Join(t.TempDir(), "x.pcapng")
	var errw screen
	go func() {
		ended <- Run(ctx, []string{"-v", "-i", "lo", "--control", path, "-w", name}, Env{Out: new(screen), Err: &errw, Flush: flush})
	}()
	errw.await(t, "Got 1\r")
	if b, err := os.ReadFile(name); err != nil || bytes.Contains(b, []byte("hello")) || len(b) == 0 {
		t.Errorf("%v: %q", err, b)
	}
	flush <- syscall.SIGUSR2
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if b, _ := os.ReadFile(name); bytes.Contains(b, []byte("hello")) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it is not in the file")
		}
	}
	interrupt()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Files of a list are one capture; -c counts in each, and --drops finds verdicts in any.
func TestFileListOne(t *testing.T) {
	dir := t.TempDir()
	with := filepath.Join(dir, "with.pcapng")
	if err := os.WriteFile(with, sourcetest.File(t, scene), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := fileOf(t, "x", pcapOf(1, 0, sourcetest.UDP(9)))
	list := fileOf(t, "list", []byte(with+"\n"+plain+"\n"))
	for _, c := range []struct {
		args string
		want string
	}{
		{"--count", "4 packets\n"}, {"--count -c 1", "2 packets\n"}, {"--count -c 2", "3 packets\n"}, {"--count --drops", "1 packet\n"}, {"--count host 10.0.0.9", "1 packet\n"},
		{"--count udp and not host 10.0.0.9", "3 packets\n"}, {"--count --reason forward", "1 packet\n"},
	} {
		text, err := printed(append([]string{"-V", list}, strings.Fields(c.args)...)...)
		if err != nil || !strings.Contains(text, c.want) || strings.Contains(text, "no packet has a verdict") || strings.Count(text, "reading from file") != 2 {
			t.Errorf("%s: %v: %s", c.args, err, text)
		}
	}
	other := filepath.Join(dir, "other.pcapng")
	if err := os.WriteFile(other, sourcetest.File(t, func(s *sourcetest.Session) {
		s.Interface("cali1", 7)
		s.Packet(0, sourcetest.UDP(2), &sent)
		s.Statistics(0, 44, 0, 0, true)
	}), 0o600); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "copy.pcapng")
	if text, err := printed("-V", fileOf(t, "list", []byte(with+"\n"+other+"\n")), "-w", copied); err != nil {
		t.Errorf("%v: %s", err, text)
	}
	f, err := source.OpenFile(t.Context(), copied, source.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, _, err = f.ZeroCopyReadPacketData()
	}
	if st := f.Statistics(); st.Received != 44 || st.Verdicts != 3 { // the last file's
		t.Errorf("%+v", st)
	}
	if text, err := printed("-V", fileOf(t, "list", []byte(with+"\n"+plain+".gone\n")), "--count"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v: %s", err, text)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	if err := Run(ctx, []string{"-r", with, "-nt"}, Env{Out: &out, Err: new(bytes.Buffer)}); err != nil || out.Len() > 0 {
		t.Errorf("after ^C: %v: %s", err, out.String())
	}
}
