package client

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"proxyarpd/capture"
)

// A line is bounded to the byte, whatever the reader's buffer, and one without its end is cut off.
func TestReadLineBounds(t *testing.T) {
	for _, c := range []struct {
		text string
		most int
		want string // "": an error
		err  error
	}{
		{"abc\nd", 4, "abc\n", nil}, {"abc\n", 3, "", nil}, {"\n", 1, "\n", nil}, {"abc", 9, "", io.ErrUnexpectedEOF}, {"", 9, "", io.EOF},
		{strings.Repeat("x", 40) + "\n", 41, strings.Repeat("x", 40) + "\n", nil}, {strings.Repeat("x", 40) + "\n", 40, "", nil}, {strings.Repeat("x", 40), 32, "", nil},
	} {
		line, err := readLine(bufio.NewReaderSize(strings.NewReader(c.text), 16), c.most)
		if string(line) != c.want || (err == nil) != (c.want != "") || c.err != nil && err != c.err {
			t.Errorf("%q, at most %d: %q, %v", c.text, c.most, line, err)
		}
	}
}

// What is asked is a line, and so is the answer; what follows it is kept.
func TestAsk(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	go func() {
		defer there.Close()
		line, _ := bufio.NewReader(there).ReadString('\n')
		_, _ = io.WriteString(there, `{"said":"`+strings.ReplaceAll(strings.TrimSpace(line), `"`, "'")+`"}`+"\nrest")
	}()
	var answer struct{ Said string }
	rest, err := Ask(here, "/s", map[string]string{"op": "x"}, &answer, 100)
	if err != nil || answer.Said != "{'op':'x'}" {
		t.Fatalf("%v: %q", err, answer.Said)
	}
	if b, err := io.ReadAll(rest); err != nil || string(b) != "rest" {
		t.Errorf("%v: %q", err, b)
	}
	if _, err := Ask(here, "/s", 1, &answer, 100); err == nil || !strings.HasPrefix(err.Error(), "/s: ") {
		t.Error(err)
	}
}

// Nobody listens: that is told from other errors, at once or when the time is over.
func TestNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if _, err := Capture(t.Context(), path, capture.Request{}); !errors.Is(err, capture.ErrNoDaemon) {
		t.Error(err)
	}
	begin := time.Now()
	if _, err := Dial(t.Context(), path, begin.Add(30*time.Millisecond)); err == nil || time.Since(begin) < 30*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Dial(ctx, path, begin.Add(time.Hour)); err == nil {
		t.Error("there is somebody")
	}
}
