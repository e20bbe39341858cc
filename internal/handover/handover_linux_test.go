package handover

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		out[i] = c.(*net.UnixConn)
	}
	return out[0], out[1]
}

// Messages of any number of descriptors come as they were sent, one behind another.
func TestMessages(t *testing.T) {
	a, b := pair(t)
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	sizes := []int{0, 1, together, together + 1, 2*together + 7}
	sent := make(chan error, 1)
	go func() {
		var err error
		for _, n := range sizes {
			fds := make([]int, n)
			for i := range fds {
				fds[i] = int(file.Fd())
			}
			err = errors.Join(err, Send(a, map[string]int{"n": n}, fds))
		}
		sent <- errors.Join(err, a.Close())
	}()
	want, _ := file.Stat()
	for _, n := range sizes {
		var m struct{ N int }
		fds, err := Receive(b, &m, 1000)
		if err != nil || m.N != n || len(fds) != n {
			t.Fatalf("%d: %+v, %d descriptors, %v", n, m, len(fds), err)
		}
		for _, fd := range fds {
			f := os.NewFile(uintptr(fd), "")
			if got, err := f.Stat(); err != nil || !os.SameFile(got, want) {
				t.Fatalf("another file came: %v", err)
			}
			f.Close()
		}
	}
	if _, err := Receive(b, new(any), 1000); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// What is cut off, too long, or no message is an error.
func TestBadMessages(t *testing.T) {
	for name, raw := range map[string]string{
		"header":      "\x00\x00",
		"body":        "\x00\x00\x00\x05\x00\x00\x00\x00{}",
		"long":        "\x7f\x00\x00\x00\x00\x00\x00\x00",
		"descriptors": "\x00\x00\x00\x02\x00\x00\xff\xff{}",
		"none come":   "\x00\x00\x00\x02\x00\x00\x00\x01{}\x00",
		"end":         "\x00\x00\x00\x02\x00\x00\x00\x01{}",
		"no JSON":     "\x00\x00\x00\x02\x00\x00\x00\x00{]",
	} {
		a, b := pair(t)
		if _, err := io.WriteString(a, raw); err != nil {
			t.Fatal(err)
		}
		a.Close()
		if fds, err := Receive(b, new(any), 1000); err == nil || err == io.EOF || fds != nil {
			t.Errorf("%s: %v, %d descriptors", name, err, len(fds))
		}
	}
}

func TestReadLine(t *testing.T) {
	r := strings.NewReader("ab\ncd")
	if line, err := ReadLine(r, 3); string(line) != "ab\n" || err != nil {
		t.Error(string(line), err)
	}
	if _, err := ReadLine(r, 9); err != io.ErrUnexpectedEOF {
		t.Error(err)
	}
	if _, err := ReadLine(r, 9); err != io.EOF {
		t.Error(err)
	}
	if _, err := ReadLine(strings.NewReader("abc"), 2); err == nil {
		t.Error("too long")
	}
}
