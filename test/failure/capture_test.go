package failure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proxyarpd/capture"
	"proxyarpd/capture/pcapfile"
	"proxyarpd/internal/control/client"
	"proxyarpd/internal/lab"
	"proxyarpd/internal/lab/labtest"
)

// begin begins a capture session without the command.
func begin(t testing.TB, p *labtest.Process, req capture.Request) *client.CaptureSession {
	t.Helper()
	s, err := client.Capture(t.Context(), p.Control, req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// whole reads a session's stream to its end, which must be statistics, and adds
// those up.
func whole(t testing.TB, r io.Reader) (packets int, st pcapfile.Statistics) {
	t.Helper()
	in, err := pcapfile.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	var p pcapfile.Packet
	for ; err == nil; packets++ {
		err = in.Next(&p)
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("after %d packets: %v", packets-1, err)
	}
	ends := 0
	for _, i := range in.Interfaces() {
		if s := i.Statistics; s != nil {
			ends++
			st.FilterAccept, st.OSDrop, st.IfDrop = st.FilterAccept+s.FilterAccept, st.OSDrop+s.OSDrop, st.IfDrop+s.IfDrop
		}
	}
	if ends == 0 {
		t.Error("the stream has no end")
	}
	return packets - 1, st
}

// untapped waits until nothing is left of a capture: sockets, files, marks.
func untapped(t testing.TB, l *lab.Lab, p *labtest.Process, fds, packetSockets int) {
	t.Helper()
	await(t, "nothing is left of captures", func() bool {
		return files(t, p) <= fds && packetSocketsOf(t, l, p.Node) <= packetSockets && marked(t, p) == 0
	})
}

func packetSocketsOf(t testing.TB, l *lab.Lab, node string) int {
	t.Helper()
	return strings.Count(run(t, l, node, "cat /proc/self/net/packet"), "\n") - 1
}

// marked counts the daemon's sockets with an SO_MARK.
func marked(t testing.TB, p *labtest.Process) (n int) {
	t.Helper()
	pidfd, err := unix.PidfdOpen(p.Cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		number, _ := strconv.Atoi(f.Name())
		fd, err := unix.PidfdGetfd(pidfd, number, 0)
		if err != nil {
			continue // closed meanwhile
		}
		if mark, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK); err == nil && mark != 0 {
			n++
		}
		unix.Close(fd)
	}
	return n
}

// cli is a running `proxyarpd capture`.
type cli struct {
	cmd    *lab.Cmd
	out    *os.File
	errw   labtest.Buffer
	done   chan struct{}
	heard  chan struct{} // once it listens
	listen sync.Once
}

func (c *cli) Write(p []byte) (int, error) {
	n, err := c.errw.Write(p)
	if strings.Contains(c.errw.String(), "listening on") {
		c.listen.Do(func() { close(c.heard) })
	}
	return n, err
}

// capturing starts `proxyarpd capture`, with its text going to a file, and
// waits until it listens.
func capturing(t testing.TB, l *lab.Lab, p *labtest.Process, args ...string) *cli {
	t.Helper()
	c := &cli{done: make(chan struct{}), heard: make(chan struct{})}
	var err error
	if c.out, err = os.CreateTemp(t.TempDir(), "out"); err != nil {
		t.Fatal(err)
	}
	c.cmd = l.Command(context.WithoutCancel(t.Context()), p.Node, labtest.Binary(t), append([]string{"capture", "--control", p.Control}, args...)...)
	c.cmd.Stdout, c.cmd.Stderr = c.out, c
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = c.cmd.Wait(); close(c.done) }()
	t.Cleanup(func() {
		c.cmd.Process.Kill()
		<-c.done
		c.out.Close()
	})
	select {
	case <-c.heard:
	case <-c.done:
		t.Fatalf("capture %v: %s", args, c.errw.String())
	case <-time.After(patience):
		t.Fatalf("capture %v does not begin: %s", args, c.errw.String())
	}
	return c
}

// ended waits for its end.
func (c *cli) ended(t testing.TB) (code int, text, said string) {
	t.Helper()
	select {
	case <-c.done:
	case <-time.After(patience):
		t.Fatalf("capture does not end: %s", c.errw.String())
	}
	return c.cmd.ProcessState.ExitCode(), c.text(t), c.errw.String()
}

func (c *cli) text(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(c.out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (c *cli) signal(sig syscall.Signal) { c.cmd.Process.Signal(sig) } // fails only if it has ended
