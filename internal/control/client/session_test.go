package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"proxyarpd/capture"
)

// TestCapture: what a session asks for, and what it is given.
func TestCapture(t *testing.T) {
	want := capture.Request{Interfaces: []string{"cali1", "any"}, Filter: "udp", Snap: 96, Direction: "in", Drops: true, Reasons: []string{"NEIGH_*"}, Buffer: 5, Promiscuous: true}
	path := shortDir(t) + "/s"
	l := bound(t, path)
	heard := make(chan string, 3)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		said, _ := r.ReadString('\n')
		heard <- said
		_, _ = io.WriteString(c, `{"capture":{"interfaces":["cali1"],"foreign":["eth0"],"host_traffic":true}}`+"\n"+"pcapng")
		rest, _ := io.ReadAll(r)
		heard <- string(rest)
		_, _ = io.WriteString(c, " and more")
	}()
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Capture(ctx, path, want)
	must(t, err)
	defer s.Close()
	cancel() // ends the call alone
	var req struct {
		Op      string
		Capture json.RawMessage
	}
	must(t, json.Unmarshal([]byte(<-heard), &req))
	if wanted, _ := json.Marshal(want); req.Op != "capture" || string(req.Capture) != string(wanted) {
		t.Errorf("it says %s: %s", req.Op, req.Capture)
	}
	if len(s.Interfaces) != 1 || s.Interfaces[0] != "cali1" || len(s.Foreign) != 1 || !s.HostTraffic {
		t.Errorf("%+v", s.Reply)
	}
	must(t, s.Ask())
	must(t, s.End())
	if got := <-heard; got != string(capture.AskStatistics) {
		t.Errorf("then it says %q", got)
	}
	if b, err := io.ReadAll(s); string(b) != "pcapng and more" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

// TestNoCapture: why there is no session is told by the error.
func TestNoCapture(t *testing.T) {
	begin := func(path string) error {
		t.Helper()
		s, err := Capture(t.Context(), path, capture.Request{})
		if err == nil {
			s.Close()
			t.Errorf("%s: a session has begun", path)
		}
		return err
	}
	dir := shortDir(t)
	if err := begin(dir + "/none"); !errors.Is(err, capture.ErrNoDaemon) {
		t.Errorf("no socket: %v", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/left", Net: "unix"})
	must(t, err)
	l.SetUnlinkOnClose(false)
	must(t, l.Close())
	if err := begin(dir + "/left"); !errors.Is(err, capture.ErrNoDaemon) {
		t.Errorf("a socket that nobody listens on: %v", err)
	}
	must(t, os.WriteFile(dir+"/file", nil, 0o600))
	must(t, os.Mkdir(dir+"/dir", 0o700))
	if err := begin(dir + "/file/s"); errors.Is(err, capture.ErrNoDaemon) {
		t.Errorf("below a file: %v", err)
	}
	var bad capture.BadExpression
	err = begin(pretend(t, line(`{"error":"syntax error","bad_expression":true}`+"\n")))
	if !errors.As(err, &bad) || bad != "syntax error" {
		t.Errorf("a bad expression: %v", err)
	}
	err = begin(pretend(t, line(`{"error":"cali1: No such device exists"}`+"\n")))
	if errors.As(err, &bad) || err.Error() != "cali1: No such device exists" {
		t.Errorf("no device: %v", err)
	}
	if err := begin(pretend(t, line(`{"status":{}}`+"\n"))); !strings.Contains(err.Error(), "can't capture") {
		t.Errorf("no session: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = Capture(ctx, pretend(t, func(net.Conn) { cancel(); <-t.Context().Done() }), capture.Request{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("it is ended: %v", err)
	}
}

// TestReadLine: a line has its end, and no more than so many bytes with it.
func TestReadLine(t *testing.T) {
	for _, c := range []struct {
		text string
		most int
		want string
		ok   bool
	}{
		{"abc\nd", 4, "abc\n", true},
		{"abc\n", 3, "", false},
		{"\n", 1, "\n", true},
		{"abc", 9, "", false},
		{"", 9, "", false},
		{strings.Repeat("x", 100) + "\n", 101, strings.Repeat("x", 100) + "\n", true},
		{strings.Repeat("x", 100) + "\n", 100, "", false},
	} {
		got, err := readLine(bufio.NewReaderSize(strings.NewReader(c.text), 16), c.most)
		if string(got) != c.want || (err == nil) != c.ok {
			t.Errorf("%.10q, %d bytes: %q, %v", c.text, c.most, got, err)
		}
	}
	if _, err := readLine(bufio.NewReader(strings.NewReader("abc")), 9); err != io.ErrUnexpectedEOF {
		t.Errorf("without an end: %v", err)
	}
}
