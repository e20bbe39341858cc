package failure

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxyarpd/capture"
	"proxyarpd/capture/pcapfile"
)

// tallies are the numbers of a summary.
type tallies struct{ captured, received, dropped, lost int }

func talliesOf(t testing.TB, said string) (n tallies) {
	t.Helper()
	for text, to := range map[string]*int{"captured": &n.captured, "received by filter": &n.received, "dropped by kernel": &n.dropped, "not recorded": &n.lost} {
		if m := regexp.MustCompile(`(?m)^(\d+) packets? ` + text).FindStringSubmatch(said); m != nil {
			*to, _ = strconv.Atoi(m[1])
		} else if to != &n.lost {
			t.Errorf("no %q in\n%s", text, said)
		}
	}
	return n
}

// TestCaptureDaemonEnds: captures end with their daemon: with a summary where
// it ends, with an error where it is killed. It waits for nobody who does not
// read.
func TestCaptureDaemonEnds(t *testing.T) {
	t.Parallel()
	l := hosts(t, 1, 2)
	all := pods(l, 0)
	p := serve(t, l)[0]
	text, file := capturing(t, l, p, "-lni", "any", "icmp"), t.TempDir()+"/x.pcapng"
	written := capturing(t, l, p, "-ni", "any", "-w", file)
	begin(t, p, capture.Request{Interfaces: []string{"any"}})
	run(t, l, all[0].Node, "ping -n -c20 -i0.002 -W2 "+ip(all[1]))
	f := startFlood(t, l, all[0], datagram(t, all[0], ip(all[1])))
	had := status(t, p).Forward.PacketsOut
	await(t, "the one who does not read has more before it than fits", func() bool { return status(t, p).Forward.PacketsOut > had+50000 })
	began := time.Now()
	p.Stop(t)
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("took %v to end with a client that does not read", took)
	}
	f.stop()
	code, out, said := text.ended(t)
	if n := talliesOf(t, said); code != 0 || !strings.Contains(said, "the daemon ends") || n.captured < 80 || n.captured != strings.Count(out, "\n") {
		t.Errorf("exit %d\n%s", code, said)
	}
	code, _, said = written.ended(t)
	if n := talliesOf(t, said); code != 0 || n.captured != packetsIn(t, file) || n.captured+n.lost != n.received {
		t.Errorf("exit %d, %d packets in the file\n%s", code, packetsIn(t, file), said)
	}

	p = serve(t, l)[0]
	text = capturing(t, l, p, "-lni", "any", "icmp")
	written = capturing(t, l, p, "-Uni", "any", "-w", file, "icmp")
	run(t, l, all[0].Node, "ping -n -c5 -i0.01 -W2 "+ip(all[1]))
	await(t, "the packets are there", func() bool { return strings.Count(text.text(t), "echo reply") == 10 && packetsIn(t, file) >= 20 })
	p.Kill()
	for _, c := range []*cli{text, written} {
		code, _, said := c.ended(t)
		if n := talliesOf(t, said); code != 1 || !strings.Contains(said, "hung up") || n.captured < 20 {
			t.Errorf("exit %d\n%s", code, said)
		}
	}
	if n := packetsIn(t, file); n < 20 {
		t.Errorf("%d packets in the file", n)
	}
}

// packetsIn counts the packets of a file that may still be written.
func packetsIn(t testing.TB, name string) (n int) {
	t.Helper()
	eachIn(t, name, func(*pcapfile.Packet) { n++ })
	return n
}

func eachIn(t testing.TB, name string, do func(*pcapfile.Packet)) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapfile.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for p := new(pcapfile.Packet); r.Next(p) == nil; {
		do(p)
	}
}

// TestCaptureLost: a capture that is stopped for a while loses packets, and its
// numbers say how many: in the summary, and in the file.
func TestCaptureLost(t *testing.T) {
	t.Parallel()
	l := hosts(t, 1, 2)
	all := pods(l, 0)
	p := serve(t, l)[0]
	run(t, l, all[0].Node, "ping -n -c1 -W2 "+ip(all[1]))
	file := t.TempDir() + "/x.pcapng"
	for _, ends := range []string{"stopped", "awake"} {
		before := status(t, p).Forward.Verdicts["forward"]
		c := capturing(t, l, p, "-ni", "any", "-Q", "in", "--reason", "forward", "-w", file)
		c.signal(syscall.SIGSTOP)
		// More than fits the session's ring, however few the daemon takes at a time.
		await(t, "40000 packets have been selected", func() bool {
			throw(t, l, all[0], 10_000, 64, func() []byte { return datagram(t, all[0], ip(all[1])) })
			return status(t, p).Forward.Verdicts["forward"]-before >= 40_000
		})
		if ends == "awake" { // what was lost is told of by the next packet; else by the statistics alone
			c.signal(syscall.SIGCONT)
			await(t, "it reads again", func() bool {
				throw(t, l, all[0], 2048, 64, func() []byte { return datagram(t, all[0], ip(all[1])) })
				st, err := os.Stat(file)
				return err == nil && st.Size() > 2<<20
			})
		}
		await(t, "all packets have been through", func() bool { s := status(t, p); return endsOf(s) >= s.Forward.PacketsIn })
		selected := int(status(t, p).Forward.Verdicts["forward"] - before)
		c.signal(syscall.SIGINT)
		c.signal(syscall.SIGCONT)
		code, _, said := c.ended(t)
		n := talliesOf(t, said)
		t.Logf("%s: %d selected, %+v", ends, selected, n)
		if code != 0 || n.received != selected || n.captured+n.lost != n.received || n.lost == 0 || n.captured != packetsIn(t, file) {
			t.Errorf("%s: exit %d, %d selected, %d in the file\n%s", ends, code, selected, packetsIn(t, file), said)
		}
		var told, lost uint64
		stats := map[*pcapfile.Interface]bool{}
		eachIn(t, file, func(p *pcapfile.Packet) { told += p.DropCount; stats[p.Interface] = true })
		for i := range stats {
			if i.Statistics == nil {
				t.Fatal("no statistics in the file")
			}
			lost += i.Statistics.OSDrop
		}
		if lost != uint64(n.lost) || ends == "awake" && told == 0 || told > lost {
			t.Errorf("%s: the packets tell of %d lost, the statistics of %d, the summary of %d", ends, told, lost, n.lost)
		}
	}
}
