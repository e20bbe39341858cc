package descriptors

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Both ways to count see what is opened, and agree.
func TestOpen(t *testing.T) {
	before := Open()
	var files []*os.File
	for range 5 {
		f, err := os.Open("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	if n := Open(); n != before+5 {
		t.Errorf("%d are open after 5 more than %d", n, before)
	}
	if a, b := Open(), list(); a != b {
		t.Errorf("%d are open by stat, %d by the directory", a, b)
	}
	for _, f := range files {
		f.Close()
	}
	if n := Open(); n != before {
		t.Errorf("%d are open, were %d", n, before)
	}
}

// With none left, all are open; the last ones are the highest numbers.
func TestLimit(t *testing.T) {
	var had unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &had); err != nil {
		t.Fatal(err)
	}
	if uint64(Limit()) != had.Cur {
		t.Errorf("the limit is %d, want %d", Limit(), had.Cur)
	}
	low := unix.Rlimit{Cur: 40, Max: had.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &had)
	for fd, want := range map[int]bool{0: false, 40 - Few - 1: false, 40 - Few: true, 39: true} {
		if Last(fd) != want {
			t.Errorf("of 40 descriptors, %d is one of the last: %v", fd, !want)
		}
	}
	var fds []int
	for {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			break
		}
		fds = append(fds, fd)
	}
	if n := list(); n != 40 {
		t.Errorf("%d are open of 40, and there are none left", n)
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
}
