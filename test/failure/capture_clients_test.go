package failure

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"proxyarpd/capture"
	"proxyarpd/internal/control/client"
	"proxyarpd/internal/daemon"
	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// TestCaptureBadClients: what a client of captures says before, behind and
// instead of its request.
func TestCaptureBadClients(t *testing.T) {
	t.Parallel()
	l := hosts(t, 1, 2)
	p := serve(t, l)[0]
	fds, sockets := files(t, p), packetSocketsOf(t, l, p.Node)
	good := `{"op":"capture","capture":{"interfaces":["any"],"snap":96}}` + "\n"
	for name, c := range map[string]struct{ say, want string }{
		"no session":     {`{"op":"capture"}` + "\n", "unknown request"},
		"no interface":   {`{"op":"capture","capture":{}}` + "\n", "no interface"},
		"a bad glob":     {`{"op":"capture","capture":{"interfaces":["[a-"]}}` + "\n", "syntax error"},
		"a bad filter":   {`{"op":"capture","capture":{"interfaces":["any"],"filter":"host host"}}` + "\n", `"error"`},
		"a direction":    {`{"op":"capture","capture":{"interfaces":["any"],"direction":"up"}}` + "\n", "direction"},
		"a number":       {`{"op":"capture","capture":7}` + "\n", "not a line of JSON"},
		"a great number": {`{"op":"capture","capture":{"interfaces":["any"],"snap":1e99}}` + "\n", "not a line of JSON"},
		"many names":     {`{"op":"capture","capture":{"interfaces":["a"` + strings.Repeat(`,"a"`, 99) + `]}}` + "\n", "more than"},
		"rubbish before": {"\x00\x01" + good, "not a line of JSON"},
		"less than none": {`{"op":"capture","capture":{"interfaces":["any"],"snap":-1,"buffer":-1}}` + "\n", "\x0a\x0d\x0d\x0a"},
		"half a line":    {strings.TrimSpace(good), ""},
		"hung up":        {good, "\x0a\x0d\x0d\x0a"},
		"rubbish behind": {good + strings.Repeat("x", 1<<20), ""},
	} {
		conn := dial(t, p)
		conn.Write([]byte(c.say)) // fails where the daemon has had enough
		conn.CloseWrite()
		if got := answer(t, conn); !strings.Contains(got, c.want) {
			t.Errorf("%s: %.200q, want %q", name, got, c.want)
		}
	}
	conn := dial(t, p) // who says more ends its session, as who says that it ends
	conn.Write([]byte(good))
	buffered := make([]byte, 4096)
	if n, err := conn.Read(buffered); err != nil || !bytes.HasPrefix(buffered[:n], []byte(`{"capture"`)) {
		t.Fatalf("%q, %v", buffered[:n], err)
	}
	conn.Write([]byte("x"))
	answer(t, conn)
	alive(t, p)
	untapped(t, l, p, fds, sockets)
}

// TestCaptureUnread: clients that never read are cut off; until then they cost
// bounded memory, and neither the datapath nor other sessions anything.
func TestCaptureUnread(t *testing.T) {
	l := hosts(t, 1, 4)
	all := pods(l, 0)
	p := serve(t, l)[0]
	fds, sockets := files(t, p), packetSocketsOf(t, l, p.Node)
	ping := startPing(t, l, all[2], ip(all[3]), 10*time.Millisecond)
	before := rss(t, p)
	var deaf []*client.CaptureSession
	for range 3 {
		deaf = append(deaf, begin(t, p, capture.Request{Interfaces: []string{"any"}, Filter: "udp"}))
	}
	stopped := capturing(t, l, p, "-ni", "any", "--verdict", "off", "udp") // as by ^Z; each packet is a line
	stopped.signal(syscall.SIGSTOP)
	listener := begin(t, p, capture.Request{Interfaces: []string{"any"}, Filter: "icmp"})
	f := startFlood(t, l, all[0], datagram(t, all[0], ip(all[1])))
	peak := 0.0
	// Two of the files are those of what looks at the host.
	few := fds + 3
	if status(t, p).Engine == daemon.EngineEBPF {
		few += 4 // and of what its programs show
	}
	for late := time.Now().Add(3 * patience); files(t, p) > few && time.Now().Before(late); {
		peak = max(peak, rss(t, p))
	}
	if n := files(t, p); n > few {
		t.Errorf("%d open files, %d before: those who do not read are not cut off", n, fds)
	}
	f.stop()
	pings := ping.stop(t)
	undisturbed(t, "beside captures that nobody reads", pings)
	t.Logf("%.0f MB before, %.0f MB at most", before, peak)
	if peak > before+100 {
		t.Errorf("%.0f MB, %.0f MB before", peak, before)
	}
	for _, s := range deaf { // has what fits the socket's buffer, and no end
		if _, err := io.ReadAll(s); err != nil {
			t.Error(err)
		}
	}
	stopped.signal(syscall.SIGCONT)
	if code, text, said := stopped.ended(t); code != 1 || !strings.Contains(said, "hung up") || !strings.Contains(said, fmt.Sprint(strings.Count(text, "\n"), " packets captured")) {
		t.Errorf("stopped for a while: exit %d, %d lines, %s", code, strings.Count(text, "\n"), said)
	}
	listener.End()
	packets, st := whole(t, listener)
	if want := 4 * pings.sent; packets < want*9/10 || st.OSDrop > 0 {
		t.Errorf("another session has %d packets of %d, %d lost", packets, want, st.OSDrop)
	}
	untapped(t, l, p, fds, sockets)
}

// TestCaptureLimits: no more sessions than there may be, beside idle clients;
// whoever is killed makes room.
func TestCaptureLimits(t *testing.T) {
	t.Parallel()
	l := hosts(t, 1, 2)
	all := pods(l, 0)
	p := serve(t, l)[0]
	fds, sockets := files(t, p), packetSocketsOf(t, l, p.Node)
	idle := func() (conns []*net.UnixConn) {
		for range 20 {
			conns = append(conns, dial(t, p))
		}
		return conns
	}
	first := idle()
	var sessions []*cli
	for range 8 {
		sessions = append(sessions, capturing(t, l, p, "-lni", "any", "icmp"))
	}
	second := idle()
	said, code := refused(t, l, p, "-ni", "any")
	if code != 1 || !strings.Contains(said, "8 captures are under way") || strings.Count(said, "\n") != 1 {
		t.Errorf("the ninth: exit %d: %q", code, said)
	}
	alive(t, p)
	run(t, l, all[0].Node, "ping -n -c1 -W2 "+ip(all[1]))
	for i, c := range sessions {
		await(t, "every session shows the packets", func() bool { return strings.Count(c.text(t), "echo reply") >= 2 })
		if i%2 == 0 {
			c.signal(syscall.SIGKILL)
			<-c.done
		}
	}
	var again *client.CaptureSession
	await(t, "there is room again", func() (ok bool) {
		var err error
		again, err = client.Capture(t.Context(), p.Control, capture.Request{Interfaces: []string{"any"}})
		return err == nil
	})
	again.Close()
	for i, c := range sessions {
		if i%2 == 1 {
			c.signal(syscall.SIGINT)
			if code, _, said := c.ended(t); code != 0 || !strings.Contains(said, "packets captured") {
				t.Errorf("exit %d: %s", code, said)
			}
		}
	}
	for _, c := range append(first, second...) {
		c.Close()
	}
	untapped(t, l, p, fds, sockets)
}

// refused runs a capture that is to fail, and gives what it says.
func refused(t testing.TB, l *lab.Lab, p *labtest.Process, args ...string) (said string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := l.Command(ctx, p.Node, labtest.Binary(t), append([]string{"capture", "--control", p.Control}, args...)...)
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

// TestCaptureManySessions: hundreds, one after the other and some at once,
// under traffic: nothing is left of them.
func TestCaptureManySessions(t *testing.T) {
	t.Parallel()
	const rounds, atOnce = 60, 5
	l := hosts(t, 1, 2)
	all := pods(l, 0)
	p := serve(t, l)[0]
	fds, sockets := files(t, p), packetSocketsOf(t, l, p.Node)
	ping := startPing(t, l, all[0], ip(all[1]), 2*time.Millisecond)
	session := func(i int) {
		s := begin(t, p, capture.Request{Interfaces: []string{"any"}, Filter: "icmp or arp", Buffer: 1 << 17})
		switch i % 3 {
		case 0:
			s.End()
			whole(t, s)
		case 1: // hangs up
			io.ReadFull(s, make([]byte, 100))
		}
		s.Close()
	}
	round := func() {
		var wg sync.WaitGroup
		for i := range atOnce {
			wg.Go(func() { session(i) })
		}
		wg.Wait()
		// Those that hung up may still be there.
		await(t, "all have gone", func() bool { return files(t, p) <= fds })
	}
	for range rounds / 2 {
		round()
	}
	before := rss(t, p)
	for range rounds / 2 {
		round()
	}
	after := rss(t, p)
	t.Logf("%d sessions; %.1f MB after the first half, %.1f MB after the second", rounds*atOnce, before, after)
	if after > before+10 {
		t.Errorf("%.1f MB became %.1f MB", before, after)
	}
	undisturbed(t, "while captures come and go", ping.stop(t))
	untapped(t, l, p, fds, sockets)
}
