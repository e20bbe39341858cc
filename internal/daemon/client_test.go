package daemon

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
	"proxyarpd/internal/control/client"
)

// pretend serves a control socket that says whatever it likes.
func pretend(t *testing.T, say func(net.Conn)) string {
	t.Helper()
	path := shortDir(t) + "/s"
	_, l := bound(t, path)
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
		s, err := Query(t.Context(), path, 0)
		switch {
		case c.want == "" && (err != nil || s.Version != "x"):
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if c.want == "" {
			continue
		}
		if s, err := client.Capture(t.Context(), path, capture.Request{}); err == nil {
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
		_, err := Query(t.Context(), dir+"/later/s", time.Minute)
		answered <- err
	}()
	must(t, os.Mkdir(dir+"/later", 0o700))
	_, l := bound(t, dir+"/later/s")
	c, err := l.Accept()
	must(t, err)
	line(`{"status":{}}` + "\n")(c)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	for _, path := range []string{dir + "/none/s", dir + "/none"} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_, err := Query(ctx, path, time.Hour)
			answered <- err
		}()
		time.AfterFunc(10*time.Millisecond, cancel)
		if err := <-answered; err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
