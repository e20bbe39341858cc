package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// TestQuery: a status is asked for with the time that is left to wait, and is
// what the answer says.
func TestQuery(t *testing.T) {
	dir, err := os.MkdirTemp("", "parp") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", dir+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct {
		wait      time.Duration
		say, want string // want is of the error, "" is none
	}{
		{0, `{"status":{"version":"x"}}` + "\n", ""},
		{time.Minute, `{"status":{"version":"x"}}` + "\n", ""},
		{0, `{"error":"no"}` + "\n", "/s: no"},
		{0, "{}\n", "the answer is no status"},
		{0, "null\n", "the answer is no status"},
		{0, "hello\n", "/s: no answer"},
		{0, `{"status":{"version":"x"}}`, "/s: no answer"},
	} {
		heard := make(chan string, 1)
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			said, _ := bufio.NewReader(conn).ReadString('\n')
			heard <- said
			_, _ = conn.Write([]byte(c.say))
		}()
		s, err := Query(context.Background(), dir+"/s", c.wait)
		switch {
		case c.want == "" && (err != nil || s.Version != "x"):
			t.Errorf("%q: %v", c.say, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%q: %v, want %q", c.say, err, c.want)
		}
		var req statusRequest
		said := <-heard
		if err := json.Unmarshal([]byte(said), &req); err != nil || req.Op != "status" || req.Wait > c.wait || req.Wait < c.wait-30*time.Second || strings.Contains(said, "wait") != (c.wait > 0) {
			t.Errorf("it asks %q for %v: %v", said, c.wait, err)
		}
	}
}
