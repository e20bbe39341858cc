package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/internal/descriptors"
	"proxyarpd/internal/nstest"
)

// patience bounds every wait of a test; none lasts so long when the code is right.
const patience = time.Minute

// running is a server as a test has it.
type running struct {
	*Server
	path string
	log  *lockedLog
	end  func() // has Serve return, and waits for it
}

// start serves operations until the test ends. tune is for what must be changed
// before.
func start(t *testing.T, ops map[string]Handler, tune func(*Server)) *running {
	t.Helper()
	r := &running{path: shortDir(t) + "/s", log: new(lockedLog)}
	var err error
	r.Server, err = Listen(Config{Path: r.path, Operations: ops, Log: slog.New(slog.NewTextHandler(r.log, nil))})
	must(t, err)
	r.requestTime, r.replyTime = patience, patience
	if tune != nil {
		tune(r.Server)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- r.Serve(ctx) }()
	ended := false
	r.end = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		select {
		case err := <-served:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("the server does not end")
		}
	}
	t.Cleanup(r.end)
	return r
}

func (r *running) dial(t *testing.T) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: r.path, Net: "unix"})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	return c
}

// hear is what the server says until it hangs up.
func hear(t *testing.T, c net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("it does not hang up: %v", err)
	}
	return string(b)
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so in %v: %s", patience, what)
		}
	}
}

// echo replies with what it is asked for.
func echo(_ context.Context, _ *Conn, request []byte) (any, error) {
	var req struct {
		Say string `json:"say"`
	}
	if err := Decode(request, &req); err != nil {
		return nil, err
	}
	return map[string]string{"said": req.Say}, nil
}

// TestRequests: an operation gets its line, and what it returns is the reply;
// whatever else comes is told so, or hung up on.
func TestRequests(t *testing.T) {
	r := start(t, map[string]Handler{
		"echo": echo,
		"fail": func(context.Context, *Conn, []byte) (any, error) { return nil, errors.New("can't") },
		"both": func(context.Context, *Conn, []byte) (any, error) { return map[string]int{"n": 1}, errors.New("can't") },
		"raw":  func(_ context.Context, _ *Conn, request []byte) (any, error) { return string(request), nil },
		"self": func(_ context.Context, c *Conn, _ []byte) (any, error) {
			_, err := io.WriteString(c, "1\n")
			return nil, errors.Join(err, c.Reply([]int{2}))
		},
	}, nil)
	notJSON := `{"error":"request is not a line of JSON"}` + "\n"
	padded := func(n int) string {
		const begin, end = `{"op":"echo","say":"`, `"}` + "\n"
		return begin + strings.Repeat("x", n-len(begin)-len(end)) + end
	}
	for name, c := range map[string]struct{ say, want string }{
		"an operation":          {`{"op":"echo","say":"hello"}` + "\n", `{"said":"hello"}` + "\n"},
		"its line":              {`{"op": "raw", "x": 1}` + "\n", `"{\"op\": \"raw\", \"x\": 1}\n"` + "\n"},
		"an error":              {`{"op":"fail"}` + "\n", `{"error":"can't"}` + "\n"},
		"an error, and a reply": {`{"op":"both"}` + "\n", `{"error":"can't"}` + "\n"},
		"it has said all":       {`{"op":"self"}` + "\n", "1\n[2]\n"},
		"two requests":          {`{"op":"echo"}` + "\n" + `{"op":"echo"}` + "\n", `{"said":""}` + "\n"},
		"the operation's own":   {`{"op":"echo","say":7}` + "\n", notJSON},
		"nothing":               {"", ""},
		"an empty line":         {"\n", notJSON},
		"rubbish":               {"\x00\xff\x13\n", notJSON},
		"no JSON":               {"status\n", notJSON},
		"no object":             {"7\n", notJSON},
		"no name":               {`{"op":["echo"]}` + "\n", notJSON},
		"null":                  {"null\n", `{"error":"unknown request \"\""}` + "\n"},
		"no operation":          {"{}\n", `{"error":"unknown request \"\""}` + "\n"},
		"an unknown operation":  {`{"op":"ECHO"}` + "\n", `{"error":"unknown request \"ECHO\""}` + "\n"},
		"without an end":        {`{"op":"echo"}`, ""},
		"as long as it may be":  {padded(requestBytes), `{"said":"` + strings.Repeat("x", requestBytes-23) + `"}` + "\n"},
		"too long":              {padded(requestBytes + 1), ""},
		"much too long":         {strings.Repeat("x", 4*requestBytes), ""},
	} {
		conn := r.dial(t)
		_, _ = io.WriteString(conn, c.say) // fails where the server has had enough
		_ = conn.CloseWrite()
		if got := hear(t, conn); got != c.want {
			t.Errorf("%s: %.200q, want %.200q", name, got, c.want)
		}
	}
	if c := r.Counters(); c != (Counters{}) {
		t.Errorf("not served: %+v", c)
	}
}

// stuck is an operation that lasts until it is let go.
func stuck() (h Handler, asked chan *Conn, letGo func()) {
	asked = make(chan *Conn, 2*Clients)
	gone := make(chan struct{})
	return func(ctx context.Context, c *Conn, _ []byte) (any, error) {
		asked <- c
		select {
		case <-gone:
		case <-ctx.Done():
		}
		return "done", nil
	}, asked, func() { close(gone) }
}

// TestEviction: when all places are taken, who says nothing makes room, the one
// who came first before the others; who waits for an answer does not.
func TestEviction(t *testing.T) {
	wait, asked, letGo := stuck()
	r := start(t, map[string]Handler{"echo": echo, "wait": wait}, func(s *Server) { s.requestTime = time.Hour })
	busy := r.dial(t)
	_, _ = io.WriteString(busy, `{"op":"wait"}`+"\n")
	<-asked
	var idle []*net.UnixConn
	for i := range Clients - 1 {
		idle = append(idle, r.dial(t))
		await(t, "it is waited for", func() bool { return r.waitedFor() == i+1 })
	}
	for i := range 3 {
		c := r.dial(t)
		_, _ = io.WriteString(c, `{"op":"echo"}`+"\n")
		if got := hear(t, c); got != `{"said":""}`+"\n" {
			t.Fatalf("client %d beyond: %q", i, got)
		}
		await(t, "its place is free", func() bool { return len(r.slot) == Clients-1 })
		if i == 0 {
			if got := hear(t, idle[0]); got != "" {
				t.Errorf("the first idle one is told %q", got)
			}
		}
		if got := r.Counters(); got != (Counters{Evicted: 1}) {
			t.Errorf("after client %d beyond: %+v", i, got)
		}
	}
	for _, c := range append(idle[1:], r.dial(t)) { // the others begin to wait
		_, _ = io.WriteString(c, `{"op":"wait"}`+"\n")
	}
	await(t, "all are busy", func() bool { return len(asked) == Clients-1 })
	if got := hear(t, r.dial(t)); got != "" {
		t.Errorf("with all busy: %q", got)
	}
	await(t, "it is counted", func() bool { return r.Counters() == Counters{Evicted: 1, Refused: 1} })
	letGo()
	if got := hear(t, busy); got != `"done"`+"\n" {
		t.Errorf("the busy one is told %q", got)
	}
	r.end()
	if log := r.log.String(); !strings.Contains(log, "all are busy") || !strings.Contains(log, "to make room") {
		t.Errorf("log: %s", log)
	}
}

// waitedFor is how many clients are.
func (s *Server) waitedFor() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.idle)
}

// pair is a connected pair of sockets, ours and the client's.
func pair(t *testing.T) (ours, theirs *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		must(t, err, f.Close())
		t.Cleanup(func() { c.Close() })
		conns[i] = c.(*net.UnixConn)
	}
	return conns[0], conns[1]
}

// TestEvictOne: who has said something that is not read yet is not hung up on, nor
// who has just come, and the oldest goes first. Who was hung up on is not served.
func TestEvictOne(t *testing.T) {
	s := newServer(Config{Log: slog.New(slog.DiscardHandler)}, nil, nil)
	var ours, theirs []*net.UnixConn
	for range 4 {
		a, b := pair(t)
		ours, theirs = append(ours, a), append(theirs, b)
		s.setIdle(a)
	}
	_, _ = io.WriteString(theirs[0], "x")
	for i, age := range []time.Duration{time.Hour, time.Minute, time.Second, 0} {
		s.idle[i].since = time.Now().Add(-age)
	}
	for i, c := range []struct {
		atLeast time.Duration
		want    int // which goes, -1: none
	}{{10 * time.Second, 1}, {10 * time.Second, -1}, {500 * time.Millisecond, 2}, {500 * time.Millisecond, -1}, {0, 3}, {0, -1}} {
		if got := s.evict(c.atLeast); got != (c.want >= 0) {
			t.Errorf("%d: hung up on somebody: %v", i, got)
		}
		if c.want < 0 {
			continue
		}
		if got := hear(t, theirs[c.want]); got != "" {
			t.Error(got)
		}
		if s.setBusy(ours[c.want]) {
			t.Errorf("%d: who was hung up on is served", i)
		}
	}
	if !s.setBusy(ours[0]) || s.setBusy(ours[0]) || s.waitedFor() != 0 {
		t.Error("who has spoken is not served once")
	}
	if got := s.Counters(); got != (Counters{Evicted: 3}) {
		t.Errorf("%+v", got)
	}
}

// TestSlowClients: who does not say its request is hung up on in time, sooner if
// it holds one of the last descriptors, and so is who does not read its reply.
func TestSlowClients(t *testing.T) {
	long := func(context.Context, *Conn, []byte) (any, error) { return strings.Repeat("x", 8<<20), nil }
	own := func(_ context.Context, c *Conn, _ []byte) (any, error) {
		return nil, c.Reply(strings.Repeat("x", 8<<20))
	}
	ops := map[string]Handler{"long": long, "own": own, "echo": echo}
	// took is until the server hangs up on who says that, and reads nothing.
	took := func(r *running, say string) time.Duration {
		began := time.Now() // before it is accepted
		c := r.dial(t)
		_, err := io.WriteString(c, say)
		must(t, err)
		await(t, say+": it is hung up on", func() bool { return len(r.slot) == 0 && hungUp(t, c) })
		return time.Since(began)
	}
	t.Run("request", func(t *testing.T) {
		r := start(t, ops, func(s *Server) { s.requestTime, s.replyTime = 100*time.Millisecond, time.Hour })
		for _, say := range []string{"", `{"op":"echo"`} {
			if d := took(r, say); d < 100*time.Millisecond {
				t.Errorf("%q: after %v", say, d)
			}
		}
	})
	t.Run("reply", func(t *testing.T) {
		r := start(t, ops, func(s *Server) { s.requestTime, s.replyTime = time.Hour, 100*time.Millisecond })
		for _, op := range []string{"long", "own"} {
			if d := took(r, `{"op":"`+op+`"}`+"\n"); d < 100*time.Millisecond {
				t.Errorf("%s: after %v", op, d)
			}
		}
	})
	s := newServer(Config{}, nil, nil)
	if s.requestTime != s.replyTime || s.requestTime < time.Second || s.requestTime > 10*time.Second {
		t.Errorf("clients have %v, %v", s.requestTime, s.replyTime)
	}
}

// TestLastDescriptors: who holds one of the last has little time for its request.
func TestLastDescriptors(t *testing.T) {
	ours, _ := pair(t)
	raw, err := ours.SyscallConn()
	must(t, err)
	var number uint64
	must(t, raw.Control(func(fd uintptr) { number = uint64(fd) }))
	var was unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &was)
	s := newServer(Config{}, nil, nil)
	for limit, want := range map[uint64]time.Duration{number + descriptors.Few: lastDeadline, number + descriptors.Few + 1: deadline} {
		must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: was.Max}))
		if got := s.patience(ours); got != want {
			t.Errorf("descriptor %d of %d: %v, want %v", number, limit, got, want)
		}
	}
	if lastDeadline >= deadline {
		t.Errorf("it has %v, others %v", lastDeadline, deadline)
	}
}

// hungUp reports whether a connection's other end is closed, and reads nothing.
func hungUp(t *testing.T, c *net.UnixConn) bool {
	t.Helper()
	raw, err := c.SyscallConn()
	must(t, err)
	gone := false
	must(t, raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		_, err = unix.Poll(fds, 0)
		gone = fds[0].Revents&(unix.POLLRDHUP|unix.POLLHUP) != 0
	}), err)
	return gone
}

// TestEnd: the end hangs up on who says nothing and on operations but for those
// that keep their connection; those are waited for. Nothing is left.
func TestEnd(t *testing.T) {
	listening := make(chan struct{})
	keeping := make(chan struct{})
	last := make(chan struct{})
	r := start(t, map[string]Handler{"listen": func(_ context.Context, c *Conn, _ []byte) (any, error) {
		close(listening)
		_ = c.SetReadDeadline(time.Time{})
		_, err := c.Read(make([]byte, 1))
		return nil, err
	}, "keep": func(ctx context.Context, c *Conn, _ []byte) (any, error) {
		c.Keep()
		close(keeping)
		<-ctx.Done()
		<-last
		return "kept", nil
	}}, nil)
	idle, waiting, kept := r.dial(t), r.dial(t), r.dial(t)
	_, _ = io.WriteString(waiting, `{"op":"listen"}`+"\n")
	_, _ = io.WriteString(kept, `{"op":"keep"}`+"\n")
	<-listening
	<-keeping
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.end()
	}()
	for _, c := range []net.Conn{idle, waiting} {
		if got := hear(t, c); got != "" {
			t.Errorf("told %q", got)
		}
	}
	select {
	case <-ended:
		t.Error("the server has not waited for an operation")
	default:
	}
	close(last)
	if got := hear(t, kept); got != `"kept"`+"\n" {
		t.Errorf("who is kept is told %q", got)
	}
	<-ended
	if exists(r.path) {
		t.Error("the socket is left")
	}
}

func TestMayAsk(t *testing.T) {
	for _, c := range []struct {
		uid    uint32
		daemon int
		want   bool
	}{{0, 0, true}, {0, 1000, true}, {1000, 1000, true}, {1000, 0, false}, {1001, 1000, false}, {4294967294, 0, false}} {
		if got := mayAsk(c.uid, c.daemon); got != c.want {
			t.Errorf("uid %d asks a daemon of %d: %v", c.uid, c.daemon, got)
		}
	}
}

// otherUser has the test's binary be another user's client.
const otherUser = "CONTROL_TEST_OTHER_USER"

// TestOtherUser: a client of another user is refused whatever the socket's mode,
// and is counted; it says nothing and is told nothing.
func TestOtherUser(t *testing.T) {
	if path := os.Getenv(otherUser); path != "" {
		c, err := net.Dial("unix", path)
		must(t, err)
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(c, `{"op":"echo"}`+"\n")
		if got := hear(t, c); got != "" {
			t.Errorf("uid %d is told %q", os.Getuid(), got)
		}
		return
	}
	if os.Geteuid() != 0 {
		nstest.Skip(t, "needs root, for a process of another user")
	}
	asked := false
	r := start(t, map[string]Handler{"echo": func(context.Context, *Conn, []byte) (any, error) { asked = true; return "yes", nil }}, nil)
	must(t, os.Chmod(r.path, 0o666), os.Chmod(r.path[:strings.LastIndex(r.path, "/")], 0o755))
	other := exec.Command("/proc/self/exe", "-test.run=^TestOtherUser$", "-test.v")
	other.Env = []string{otherUser + "=" + r.path}
	other.Dir = "/"
	other.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := other.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestOtherUser") {
		t.Errorf("%v: %s", err, out)
	}
	c := r.dial(t) // root is served
	_, _ = io.WriteString(c, `{"op":"echo"}`+"\n")
	if got := hear(t, c); got != `"yes"`+"\n" {
		t.Errorf("root is told %q", got)
	}
	if got := r.Counters(); got != (Counters{Refused: 1}) {
		t.Errorf("%+v", got)
	}
	r.end()
	if !asked || !strings.Contains(r.log.String(), "uid 65534, pid ") {
		t.Errorf("log: %s", r.log.String())
	}
}

// TestDecode: the request is read by JSON's rules, from one line.
func TestDecode(t *testing.T) {
	var req Request
	if err := Decode([]byte(`{"op":"x","more":[1]}`+"\n"), &req); err != nil || req.Op != "x" {
		t.Error(req, err)
	}
	if err := Decode([]byte(`{"op":"x"} {}`), &req); err != ErrNotJSON {
		t.Error(err)
	}
	b, err := json.Marshal(Refusal{Unknown("x").Error()})
	if string(b) != `{"error":"unknown request \"x\""}` {
		t.Error(string(b), err)
	}
}
