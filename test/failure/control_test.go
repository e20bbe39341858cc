package failure

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxyarpd/internal/lab/labtest"
)

func dial(t testing.TB, p *labtest.Process) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: p.Control, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// answer is what the daemon says to a client until it hangs up.
func answer(t testing.TB, c net.Conn) string {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the daemon does not hang up: %v", err)
	}
	return string(b)
}

// TestBadClients: what comes over the control socket harms nobody else.
func TestBadClients(t *testing.T) {
	t.Parallel()
	l := hosts(t, 1, 1)
	p := serve(t, l)[0]
	fds := files(t, p)
	for name, c := range map[string]struct{ say, want string }{
		"nothing":               {"", ""},
		"rubbish":               {"\x00\xff\x13\n", "not a line of JSON"},
		"no JSON":               {"status\n", "not a line of JSON"},
		"a JSON number":         {"7\n", "not a line of JSON"},
		"another request":       {`{"op":"explode"}` + "\n", "unknown request"},
		"no request":            {"{}\n", "unknown request"},
		"4 KB":                  {strings.Repeat("x", 4096) + "\n", ""},
		"much more":             {strings.Repeat(`{"op":"status"}`, 1<<14), ""},
		"a wait without end":    {`{"op":"status","wait":9223372036854775807}` + "\n", `"ready":true`},
		"a wait less than none": {`{"op":"status","wait":-5}` + "\n", `"ready":true`},
		"a wrong wait":          {`{"op":"status","wait":"x"}` + "\n", "not a line of JSON"},
		"deep JSON":             {strings.Repeat("[", 4000) + "\n", "not a line of JSON"},
		"status":                {`{"op":"status"}` + "\n", `"ready":true`},
	} {
		conn := dial(t, p)
		conn.Write([]byte(c.say)) // fails where the daemon has had enough
		conn.CloseWrite()
		got := answer(t, conn)
		if !strings.Contains(got, c.want) || c.want == "" && strings.Contains(got, "status\":{") || strings.Count(got, "\n") > 1 {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	alive(t, p)
	await(t, "all connections are closed", func() bool { return files(t, p) <= fds })
}

// TestIdleClients: a hundred that connect and say nothing, some that don't read.
func TestIdleClients(t *testing.T) {
	l := hosts(t, 1, 2)
	p := serve(t, l)[0]
	fds := files(t, p)
	var idle []*net.UnixConn
	for range 100 {
		idle = append(idle, dial(t, p))
	}
	ask := func(what string) {
		t.Helper()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if out, err := tryStatus(ctx, t, l, p); err != nil || !strings.Contains(out, "veth0") {
			t.Errorf("%s: status after %v: %v\n%s", what, time.Since(began), err, out)
		}
	}
	ask("100 idle clients")
	run(t, l, pods(l, 0)[0].Node, "ping -n -c1 -W2 "+ip(pods(l, 0)[1]))
	if n := files(t, p); n > fds+40 {
		t.Errorf("%d open files, %d without clients", n, fds)
	}
	for range 20 { // those who ask, and never read the answer
		c := dial(t, p)
		c.SetReadBuffer(1)
		c.Write([]byte(`{"op":"status"}` + "\n"))
		idle = append(idle, c)
	}
	for range 20 { // those who speak a byte at a time
		c := dial(t, p)
		c.Write([]byte("{"))
		idle = append(idle, c)
	}
	ask("slow clients")
	waiting := make(chan error, 1)
	go func() {
		_, err := bufio.NewReader(idle[0]).ReadByte()
		waiting <- err
	}()
	select {
	case <-waiting:
	case <-time.After(2 * patience):
		t.Error("an idle client is not cut off")
	}
	for _, c := range idle {
		c.Close()
	}
	await(t, "all connections are closed", func() bool { return files(t, p) <= fds })
	ask("afterwards")

	// It ends at once, whoever is connected, and those are hung up on.
	c := dial(t, p)
	began := time.Now()
	p.Stop(t)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v to end with a client connected", took)
	}
	answer(t, c)
}

// TestControlPath: the socket is root's alone; a stale one is replaced, and
// what is no socket is left as it is.
func TestControlPath(t *testing.T) {
	t.Parallel()
	l := hosts(t, 1, 1)
	p := serve(t, l)[0]
	st, err := os.Lstat(p.Control)
	if err != nil || st.Mode() != os.ModeSocket|0o600 || st.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if err := l.Do("host0", func() error { // as an unprivileged user
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
			return errno
		}
		c, err := net.Dial("unix", p.Control)
		if err == nil {
			c.Close()
			return fmt.Errorf("may connect")
		}
		return nil
	}); err != nil {
		t.Errorf("nobody: %v", err)
	}
	p.Kill()
	if _, err := os.Lstat(p.Control); err != nil {
		t.Fatalf("a killed daemon leaves its socket: %v", err)
	}
	again := labtest.Start(t, l, "host0", "--workload", "veth*", "--control", p.Control)
	again.Control = p.Control // a later flag wins
	alive(t, again)

	said := exited(t, l, "host0", "--workload", "veth*", "--control", p.Control)
	if !strings.Contains(said, "another") {
		t.Errorf("%q", said)
	}
	alive(t, again)
	again.Stop(t)
	if _, err := os.Lstat(p.Control); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}

	dir := t.TempDir()
	for name, make := range map[string]func(path string) error{
		"file":      func(path string) error { return os.WriteFile(path, []byte("precious"), 0o644) },
		"directory": func(path string) error { return os.Mkdir(path, 0o755) },
		"link":      func(path string) error { return os.Symlink("elsewhere", path) },
	} {
		path := filepath.Join(dir, name)
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		before, _ := os.Lstat(path)
		said := exited(t, l, "host0", "--workload", "veth*", "--control", path)
		if !strings.Contains(said, path) {
			t.Errorf("a %s: %q", name, said)
		}
		after, err := os.Lstat(path)
		if err != nil || after.Mode() != before.Mode() || after.Size() != before.Size() || !os.SameFile(before, after) {
			t.Errorf("a %s: %v became %v, %v", name, before, after, err)
		}
	}
	said = exited(t, l, "host0", "--workload", "veth*", "--control", dir+"/not/there.sock")
	if !strings.Contains(said, "not/there.sock") {
		t.Errorf("%q", said)
	}
	if left, _ := filepath.Glob(dir + "/*.*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if left := records(t, l, "host0"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
