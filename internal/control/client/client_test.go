package client

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"proxyarpd/capture"
)

// shortDir is a directory of the test's: its own is too long for a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "parp")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func bound(t *testing.T, path string) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", path)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// question and answer are those of a daemon's status, as far as it matters here.
type question struct {
	Op   string        `json:"op"`
	Wait time.Duration `json:"wait"`
}

type answer struct {
	Error  string `json:"error"`
	Status *struct {
		Version string `json:"version"`
	} `json:"status"`
}

// query asks for a status as the command does.
func query(ctx context.Context, path string, wait time.Duration) (a answer, err error) {
	conn, err := Dial(ctx, path, time.Now().Add(wait))
	if err != nil {
		return a, err
	}
	defer conn.Close()
	_, err = Ask(conn, path, question{"status", wait}, &a, 4<<20)
	switch {
	case err != nil:
	case a.Error != "":
		err = errors.New(a.Error)
	case a.Status == nil:
		err = errors.New("no status")
	}
	return a, err
}

// pretend serves a control socket that says whatever it likes.
func pretend(t *testing.T, say func(net.Conn)) string {
	t.Helper()
	path := shortDir(t) + "/s"
	l := bound(t, path)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = bufio.NewReader(c).ReadBytes('\n')
				say(c)
			}()
		}
	}()
	return path
}

func line(s string) func(net.Conn) {
	return func(c net.Conn) { _, _ = io.WriteString(c, s) }
}

// endless says one long value until it is hung up on.
func endless(c net.Conn) {
	_, err := io.WriteString(c, `{"error":"`)
	for text := strings.Repeat("x", 1<<20); err == nil; {
		_, err = io.WriteString(c, text)
	}
}

// Whoever listens may say anything, of any length.
func TestHostileServer(t *testing.T) {
	for name, c := range map[string]struct {
		say  func(net.Conn)
		want string
	}{
		"nothing":         {func(net.Conn) {}, "no answer"},
		"no line":         {line(`{"status":{}}`), "no answer"},
		"no JSON":         {line("hello\n"), "no answer"},
		"without an end":  {endless, "longer than"},
		"neither":         {line("{}\n"), "no status"},
		"null":            {line("null\n"), "no status"},
		"a wrong type":    {line(`{"status":7}` + "\n"), "no answer"},
		"deep":            {line(strings.Repeat("[", 1<<20) + "\n"), "no answer"},
		"an error":        {line(`{"error":"\u001b[31m"}` + "\n"), "\x1b[31m"}, // who prints it makes it visible
		"more than asked": {line(`{"status":{"version":"x"}}` + "\n" + "more"), ""},
	} {
		path := pretend(t, c.say)
		a, err := query(t.Context(), path, 0)
		switch {
		case c.want == "" && (err != nil || a.Status.Version != "x"):
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if c.want == "" {
			continue
		}
		if s, err := Capture(t.Context(), path, capture.Request{}); err == nil {
			s.Close()
			t.Errorf("%s: a capture has begun", name)
		}
	}
}

// --wait waits for a directory that is yet to be made, as for the socket in it,
// and ends when it is told to.
func TestWaitForDirectory(t *testing.T) {
	dir := shortDir(t)
	answered := make(chan error, 1)
	go func() {
		_, err := query(t.Context(), dir+"/later/s", time.Minute)
		answered <- err
	}()
	must(t, os.Mkdir(dir+"/later", 0o700))
	l := bound(t, dir+"/later/s")
	c, err := l.Accept()
	must(t, err)
	line(`{"status":{}}` + "\n")(c)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	for _, path := range []string{dir + "/none/s", dir + "/none"} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_, err := query(ctx, path, time.Hour)
			answered <- err
		}()
		time.AfterFunc(10*time.Millisecond, cancel)
		if err := <-answered; err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
